"""How long `--help` of every command takes in a new process; the goal is 200 ms.

The reference is a process that imports argparse and ends: what no change of ours can save.

    python benchmarks/help.py [--quick] [--json PATH]
"""

import subprocess
import sys

from timing import Row, compare, parse_arguments, report
from vqgan.cli.main import COMMANDS

LIMIT = 0.2
"""Seconds that a person perceives as immediate."""

SCRIPT = "import sys; from vqgan.cli.main import main; sys.exit(main())"


def run(*words: str) -> None:
    subprocess.run([sys.executable, "-c", *words], check=True, stdout=subprocess.DEVNULL)


def measure(name: str, repeats: int) -> Row:
    words = [SCRIPT, *name.split(), "--help"]
    work = f"vqgan {name} --help".replace("  ", " ")
    return compare(
        work,
        ours=lambda: run(*words),
        reference=lambda: run("import argparse"),
        amount=1,
        unit="runs/s",
        repeats=repeats,
    )


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    names = ["", "sample"] if arguments.quick else ["", *COMMANDS]
    rows = [measure(name, 3 if arguments.quick else 15) for name in names]
    report(rows, quick=arguments.quick, path=arguments.json)
    print()
    for row in rows:
        seconds = row.ours_seconds.median
        print(f"{row.work:<32} {1000 * seconds:4.0f} ms, {seconds / LIMIT:4.0%} of {1000 * LIMIT:.0f} ms")


if __name__ == "__main__":
    main()
