"""The phases of a demo: what each takes is measured, and an interrupted demo continues where it was."""

import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.data import SourceConfig
from vqgan.errors import require
from vqgan.output_files import make_folder, write_json
from vqgan.runs import train
from vqgan.types import OnProgress

QUICK = ("training.steps=30", "training.batch_size=4", "training.evaluate_images=64", "training.pictures=4")
"""What makes both stages of a demo small."""

_BETWEEN_LOOKS = 0.02
"""Seconds."""


class Meter:
    """Time of each phase and the most memory of a process, over interruptions too.

    Args:
        folder: The demo's folder, in which they are kept.
        request: What the demo is a function of.

    Raises:
        ConfigError: If the folder holds a demo of another request.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any]) -> None:
        self._path = folder / "resources.json"
        self.kept: dict[str, Any] = {"request": request, "seconds": {}, "peak_memory_bytes": 0}
        if self._path.exists():
            self.kept |= {"request": {}} | json.loads(self._path.read_text(encoding="utf-8"))
        require(
            self.kept["request"].items() >= request.items(),
            f"`{folder}` holds another demo (large, quick or not, other images or seed), or one of an earlier version",
            hint="give another folder with `out=`, or remove this one to start over",
        )
        make_folder(folder)
        write_json(self._path, self.kept)

    @contextmanager
    def __call__(self, phase: str, *, resumed: bool = False) -> Iterator[None]:
        """Measures a block; the time of a ``resumed`` one is added to what it took before."""
        begun = time.perf_counter()
        before = self.kept["seconds"].get(phase, 0.0) if resumed else 0.0
        try:
            yield
        finally:
            self.kept["seconds"][phase] = before + time.perf_counter() - begun
            self.kept["peak_memory_bytes"] = max(self.kept["peak_memory_bytes"], peak_memory())
            write_json(self._path, self.kept)

    def numbers(self) -> dict[str, Any]:
        """What a report says: seconds of each phase and of all, and the most memory in bytes."""
        seconds = self.kept["seconds"]
        kept = {name: self.kept[name] for name in ("seconds", "peak_memory_bytes")}
        return {**kept, "seconds_total": sum(seconds.values())}


def train_stages(
    folder: Path,
    meter: Meter,
    presets: str,
    *,
    small: Mapping[str, Sequence[str]] | None = None,
    data: SourceConfig | None = None,
    device: str = "auto",
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> None:
    """Trains ``tokenizer/`` and ``prior/`` in the demo's folder, or continues their runs.

    Args:
        folder: The demo's folder.
        meter: Measures each stage as a phase.
        presets: The name of both without the stage.
        small: Changes of each stage's preset beside ``QUICK``; None trains the presets as they are.
        data: In place of the presets' source.
        device: Where to train.
        seed: Of both trainings.
        on_progress: Told about every step.

    Raises:
        ConfigError: If a package that has the data is not installed.
        Preempted: After a signal; everything is saved.
    """
    for stage in ("tokenizer", "prior"):
        with meter(stage, resumed=True):
            train_stage(
                folder / stage,
                f"{presets}-{stage}",
                changes=() if small is None else (*QUICK, *small[stage]),
                data=data,
                tokenizer=folder / "tokenizer" if stage == "prior" else None,
                device=device,
                seed=seed,
                on_progress=on_progress,
            )


def train_stage(
    out: Path,
    preset: str,
    *,
    changes: Sequence[str],
    data: SourceConfig | None,
    tokenizer: Path | None,
    conditions: Mapping[str, str | Path] | None = None,
    device: str,
    seed: int,
    on_progress: OnProgress | None,
) -> None:
    """Trains a preset with some changes, or continues its run; the arguments are those of :func:`~vqgan.runs.train`."""
    if RunFolder(out).numbers():
        train(None, resume=out, device=device, on_progress=on_progress)
        return
    train(
        preset,
        data=data,
        out=out,
        tokenizer=tokenizer,
        conditions=conditions,
        overrides=changes,
        device=device,
        precision="auto",  # everything is measured in fp32
        seed=seed,
        on_progress=on_progress,
    )


def peak_memory() -> int:
    """The most memory that this process, or one it started, has held, in bytes; 0 where it is not known."""
    if sys.platform == "win32":
        return 0
    import resource

    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most if sys.platform == "darwin" else most * 1024


def held_memory() -> int:
    """The memory that this process holds now, in bytes, without files that are mapped; 0 where it is not known."""
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s+(\d+)", status.read_text(encoding="ascii")) if status.exists() else None
    return 1024 * int(found[1]) if found else 0


class MemoryWatch:
    """The most memory that this process holds while entered, looked at fifty times a second (Linux).

    Attributes:
        before: Bytes that it held before.
        most: Bytes.
    """

    def __enter__(self) -> "MemoryWatch":
        self.before = self.most = held_memory()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._ended.wait(_BETWEEN_LOOKS):
            self.most = max(self.most, held_memory())

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
