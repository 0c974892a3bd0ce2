"""The shared timer: both sides alternate in one run, so that a busy machine slows both alike.

Every benchmark is a script: ``python benchmarks/NAME.py [--quick] [--json PATH]``.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one piece of work over several runs."""

    median: float
    fastest: float
    slowest: float


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        work: What was done.
        unit: Of the rates, for example ``tokens/s``.
        ours: Rate of this package (median).
        reference: Rate of the reference (median).
        ratio: ``ours / reference``.
        ours_seconds: Where our rate comes from.
        reference_seconds: Where the reference's rate comes from.
        share: How much of the machine's limit our side reaches (see ``limits.py``); None where it is not counted.
    """

    work: str
    unit: str
    ours: float
    reference: float
    ratio: float
    ours_seconds: Timing
    reference_seconds: Timing
    share: float | None = None


def compare(
    work: str,
    *,
    ours: Callable[[], object],
    reference: Callable[[], object],
    amount: float,
    unit: str,
    repeats: int,
    reference_amount: float | None = None,
    limit_seconds: float | None = None,
    warm: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Warms both sides up, then runs them alternately.

    Args:
        work: Name of the row.
        ours: One run of our side.
        reference: One run of the other side; the same work.
        amount: Units of work in one run.
        unit: What a rate counts, per second.
        repeats: Timed runs of each side.
        reference_amount: Units of work in one run of the other side, where it is stopped before the end.
        limit_seconds: What our run would take at the machine's limit.
        warm: Whether both sides run once before the timing.
        clock: Gives seconds; ``time.process_time`` counts those of this process alone, on a busy machine.
    """
    if warm:
        ours()
        reference()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        seconds[0].append(_seconds(ours, clock))
        seconds[1].append(_seconds(reference, clock))
    first, second = (Timing(statistics.median(times), min(times), max(times)) for times in seconds)
    return Row(
        work=work,
        unit=unit,
        ours=amount / first.median,
        reference=(reference_amount or amount) / second.median,
        ratio=(amount / first.median) / ((reference_amount or amount) / second.median),
        ours_seconds=first,
        reference_seconds=second,
        share=limit_seconds / first.median if limit_seconds is not None else None,
    )


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    _finish_device_work()
    start = clock()
    run()
    _finish_device_work()
    return clock() - start


def _finish_device_work() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory_row(
    script: str, ours: str, reference: str, *, quick: bool, work: str = "its peak memory (less is better)"
) -> Row:
    """What two steps of each side add to the memory of a separate process.

    Args:
        script: Called with ``--peak SIDE``, it must call :func:`print_peak_memory`.
        ours: Our side, as the script names it.
        reference: The other one.
        quick: Passed on as ``--quick``.
        work: Name of the row.
    """
    found: list[tuple[float, float]] = []
    for side in (ours, reference):
        command = [sys.executable, script, "--peak", side, *(["--quick"] if quick else [])]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(result.stdout))
    (first, first_seconds), (second, second_seconds) = found
    return Row(
        work=work,
        unit="MB",
        ours=first,
        reference=second,
        ratio=first / second,
        ours_seconds=Timing(*[first_seconds] * 3),
        reference_seconds=Timing(*[second_seconds] * 3),
    )


def print_peak_memory(prepare: Callable[[], Callable[[], object]]) -> None:
    """The work of that process: prints megabytes and seconds of two of the steps that ``prepare`` gives."""
    step, on_cuda = prepare(), torch.cuda.is_available()
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_cuda else most_resident()
    begun = time.perf_counter()
    for _ in range(2):
        step()
    seconds = time.perf_counter() - begun
    most = torch.cuda.max_memory_allocated() if on_cuda else most_resident()
    print(json.dumps([(most - before) / 1e6, seconds]))


def most_resident() -> int:
    """The most bytes of memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere the peak of a process starts at that of its parent
        return 1024 * int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def environment() -> dict[str, str | int]:
    """What the numbers depend on."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
    }


def parse_arguments(description: str, **switches: str) -> argparse.Namespace:
    """``--quick`` (tiny sizes, to see that the script runs), ``--json PATH``, and switches with their help."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the script runs")
    parser.add_argument("--json", type=Path, help="write rows and environment to this file")
    for name, what in switches.items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    return parser.parse_args()


def report(rows: list[Row], *, quick: bool, path: Path | None, more: dict[str, object] | None = None) -> None:
    """Prints the table and writes it, with the environment and ``more``, to ``path``."""
    head = ("work", "unit", "ours", "(spread)", "reference", "(spread)", "ratio", "limit")
    wide = max([44, *(len(row.work) for row in rows)])
    print("{:<{w}} {:<10} {:>9} {:>13} {:>9} {:>13} {:>7} {:>6}".format(*head, w=wide))
    for row in rows:
        share = "" if row.share is None else f"{row.share:.0%}"
        print(
            f"{row.work:<{wide}} {row.unit:<10} {row.ours:>9.1f} {_spread(row.ours_seconds):>13} "
            f"{row.reference:>9.1f} {_spread(row.reference_seconds):>13} {row.ratio:>6.2f}x {share:>6}"
        )
    if path is not None:
        record = {
            "quick": quick,
            "environment": environment(),
            "rows": [asdict(row) for row in rows],
            **(more or {}),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _spread(timing: Timing) -> str:
    """Fastest and slowest run against the median, in percent."""
    low, high = (100 * (t / timing.median - 1) for t in (timing.fastest, timing.slowest))
    return f"{low:+.0f}..{high:+.0f}%"
