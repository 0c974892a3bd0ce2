"""The layout of a run folder, and steps that are committed whole or not at all.

::

    config.yaml  env.json  metrics.jsonl  skipped.jsonl  images/  report.html
    tokenizer.safetensors or prior.safetensors          the model, ready for use
    state/latest.json                                   names the newest step
    state/step-00001234/{model,ema,optimizer}.safetensors, state.json, manifest.json

A step is written into a temporary folder beside its place, synced, and renamed: what has its final name is
complete. Its manifest holds size and sha256 of every file, so damage is found before a tensor is used.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from vqgan.checkpoints.files import output_errors, sync, write_json
from vqgan.checkpoints.format import read_tensors, write_tensors
from vqgan.errors import CheckpointError, ConfigError

logger = logging.getLogger(__name__)

KEPT_STEPS = 2
"""Committed steps that stay: the newest, and one to fall back on should it be damaged."""

_STEP = re.compile(r"^step-(\d{8,})$")

Stage = Literal["tokenizer", "prior"]


@dataclass(frozen=True)
class Step:
    """One committed step: its number, its tensors by file and name, and its plain values."""

    number: int
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]


class RunFolder:
    """Paths of a run folder and the few operations that keep it consistent.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "env.json"
        self.metrics = path / "metrics.jsonl"
        self.skipped = path / "skipped.jsonl"
        self.images = path / "images"
        self.report = path / "report.html"
        self.state = path / "state"

    def weights(self, stage: Stage) -> Path:
        """The model's file of a stage."""
        return self.path / f"{stage}.safetensors"

    def create(self) -> None:
        """Makes the folder.

        Raises:
            ConfigError: If it already holds something; nothing is ever overwritten without being asked.
            OutputError: If it cannot be made.
        """
        with output_errors(self.path):
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise ConfigError(
                    f"`{self.path}` is not empty",
                    hint=f"choose another folder, or continue the run with `--resume {self.path}`",
                )
            self.images.mkdir(parents=True)
            self.state.mkdir()

    def commit(
        self, number: int, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]
    ) -> Path:
        """Writes step ``number`` and makes it the newest; older steps beyond the kept ones are removed.

        Args:
            number: Optimizer steps done.
            tensors: File name without ending to tensors, for example ``{"model": {...}, "optimizer": {...}}``.
            values: Plain values for ``state.json``.

        Raises:
            OutputError: If the disk refuses; the steps before are untouched.
        """
        final = self.state / f"step-{number:08d}"
        temporary = self.state / f".tmp-{final.name}-{os.getpid()}"
        try:
            with output_errors(final):
                temporary.mkdir(parents=True)
                for name, group in tensors.items():
                    write_tensors(temporary / f"{name}.safetensors", group, {})
                write_json(temporary / "state.json", {**values, "step": number})
                write_json(temporary / "manifest.json", _manifest(temporary))
                sync(temporary)
                if final.exists():
                    shutil.rmtree(final)
                os.rename(temporary, final)
                sync(self.state)
                write_json(self.state / "latest.json", {"step": number, "folder": final.name})
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune()
        return final

    def newest(self) -> Step:
        """Reads the newest step whose files agree with their manifest.

        Raises:
            CheckpointError: If there is no step, or none that is undamaged.
        """
        problems: list[str] = []
        for number in reversed(self.numbers()):
            folder = self.state / f"step-{number:08d}"
            problem = verify(folder)
            if problem is None:
                if problems:
                    logger.warning("%s; going on from step %d", "; ".join(problems), number)
                names = [path.stem for path in sorted(folder.glob("*.safetensors"))]
                values = json.loads((folder / "state.json").read_text(encoding="utf-8"))
                return Step(
                    number, {name: read_tensors(folder / f"{name}.safetensors") for name in names}, values
                )
            problems.append(problem)
        raise CheckpointError(
            f"`{self.path}` has no step to continue from" + "".join(f"\n  {problem}" for problem in problems),
            hint="`--resume` takes the folder of a run that has saved at least once",
        )

    def numbers(self) -> list[int]:
        """The committed steps in rising order."""
        names = [path.name for path in self.state.iterdir()] if self.state.is_dir() else []
        return sorted(int(found.group(1)) for name in names if (found := _STEP.match(name)))

    def clean(self, step: int) -> None:
        """Removes what a killed process left: temporary folders, and metrics written after ``step``."""
        for leftover in (*self.state.glob(".tmp-*"), *self.path.glob(".*.tmp")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        if self.metrics.exists():
            rows = self.metrics.read_text(encoding="utf-8").splitlines()
            kept = [row for row in rows if _row_step(row) <= step]
            with output_errors(self.metrics):
                self.metrics.write_text("".join(f"{row}\n" for row in kept), encoding="utf-8")

    def _prune(self) -> None:
        for number in self.numbers()[:-KEPT_STEPS]:
            old = self.state / f"step-{number:08d}"
            try:
                shutil.rmtree(old)
            except OSError as error:
                logger.warning("could not remove the old step `%s`: %s", old, error.strerror)


def verify(folder: Path) -> str | None:
    """What is wrong with a committed step, or None: every file of the manifest has its size and digest."""
    try:
        wanted = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"`{folder}` has no readable manifest: {type(error).__name__}"
    found = _manifest(folder)
    for name in sorted({*wanted, *found}):
        if name not in found:
            return f"`{folder / name}` is missing"
        if name not in wanted:
            return f"`{folder / name}` is not part of the step"
        if wanted[name] != found[name]:
            return f"`{folder / name}` is damaged: {found[name]}, expected {wanted[name]}"
    return None


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    return {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _row_step(row: str) -> int:
    """The step of a line of metrics; a line cut off by a kill counts as after everything."""
    try:
        return int(json.loads(row)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62


def find_weights(path: Path) -> Path | None:
    """The model's file of a run folder, or of its ``prior`` or ``tokenizer`` run below it; None if there is none."""
    for folder in (path, path / "prior", path / "tokenizer"):
        for stage in ("prior", "tokenizer"):
            file = folder / f"{stage}.safetensors"
            if file.is_file():
                return file
    return None
