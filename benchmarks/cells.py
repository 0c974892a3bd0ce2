"""Tables of trained cells: one for each recipe and seed, trained once and kept, so that a stopped script goes on."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from timing import environment
from vqgan.data import open_source
from vqgan.data.atari import AtariConfig, AtariSource
from vqgan.demo.measures import RoomFrames

Numbers = dict[str, float]

QUIET = "training.save_every=100000", "training.pictures=0"


def silent(*_: object) -> None:
    """No progress is shown."""


def room_frames(count: int, **size: Any) -> RoomFrames:
    """Frames (n, 96, 80, 3) of a game's rooms to train on, and held-out ones of another walk; or of a ``size``."""
    source = open_source(AtariConfig(games=("MontezumaRevenge",), **size))
    parts = []
    for part in (source.part("train"), source.part("heldout")):
        assert isinstance(part, AtariSource), "its parts are like it"
        chosen = np.random.default_rng(0).permutation(len(part))[:count]
        pixels = np.stack([part.read(int(index)).pixels for index in chosen])
        parts += [pixels, np.asarray(part.rooms)[chosen]]
    return RoomFrames(*parts)


def frames(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The same frames, those to train on and the held-out ones."""
    found = room_frames(count)
    return found.train, found.heldout


def arguments(description: str | None) -> argparse.ArgumentParser:
    """``--quick``, ``--json``, ``--work``, ``--seeds`` and ``--only`` (cells whose name begins so)."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    return parser


def measured(work: Path, name: str, seed: int, cell: Callable[[Path, int], Numbers]) -> Numbers:
    """What ``cell`` measures after training in a folder of its own, or what it measured before."""
    path = _place(work, name, seed)
    folder = path.with_suffix("")
    if not path.exists():
        started, number = time.perf_counter(), 0
        while (trained := folder / str(number)).exists():  # begun before, and not ended
            number += 1
        numbers = {**cell(trained, seed), "seconds": time.perf_counter() - started}
        path.write_text(json.dumps(numbers), encoding="utf-8")
        print(name, seed, {key: round(value, 3) for key, value in numbers.items()}, flush=True)
    found: Numbers = json.loads(path.read_text(encoding="utf-8"))
    return found


def _place(work: Path, name: str, seed: int) -> Path:
    """Where the numbers of a cell are kept."""
    return work / f"{name.replace(' ', '_')}-{seed}.json"


def all_cells(
    given: argparse.Namespace, cells: Mapping[str, Callable[[Path, int], Numbers]]
) -> dict[str, list[Numbers]]:
    """The numbers of all cells, seed after seed, so that a table is complete early; written and printed.

    What the file of results holds already is not trained again: remove it to begin anew.
    """
    given.work.mkdir(parents=True, exist_ok=True)
    before: dict[str, list[Numbers]] = kept(given)
    for name, rows in before.items():
        for seed, row in enumerate(rows):
            _place(given.work, name, seed).write_text(json.dumps(row), encoding="utf-8")
    found: dict[str, list[Numbers]] = {name: [] for name in cells if name.startswith(given.only)}
    for seed in range(1 if given.quick else given.seeds):
        for name, rows in found.items():
            rows.append(measured(given.work, name, seed, cells[name]))
    print(table(found))
    write(given, before | found)
    return found


def kept(given: argparse.Namespace) -> dict[str, Any]:
    """The numbers that the file of results holds already, if they are of such a run."""
    if given.json is None or not given.json.exists():
        return {}
    record = json.loads(given.json.read_text(encoding="utf-8"))
    numbers: dict[str, Any] = record["numbers"]
    return numbers if record["quick"] == given.quick else {}


def write(given: argparse.Namespace, numbers: Mapping[str, Any]) -> None:
    """Writes the file of results, if one was asked for."""
    if given.json is not None:
        record = {"quick": given.quick, "environment": environment(), "numbers": numbers}
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def table(results: Mapping[str, Sequence[Numbers]]) -> str:
    """Mean and range of each number over the seeds."""
    names = list(max((rows[0] for rows in results.values()), key=len))
    lines = [f"| | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for recipe, rows in results.items():
        columns = [[row.get(name, float("nan")) for row in rows] for name in names]
        cells = [f"{statistics.mean(each):.3f} ({min(each):.3f} to {max(each):.3f})" for each in columns]
        lines.append(f"| {recipe} | {' | '.join(cells)} |")
    return "\n".join(lines)
