"""The layout of a run folder, and steps that are committed whole or not at all.

::

    config.yaml  env.json  metrics.jsonl  warnings.jsonl  skipped.jsonl  diverged.jsonl  images/  report.html
    trackers.json
    {tokenizer,prior,classifier,denoiser}.safetensors       the model, ready for use
    {tokenizer,prior,classifier,denoiser}-best.safetensors  the same, when its held-out number was best
    state/latest.json                                   names the newest step
    state/step-00001234/{model,ema,optimizer}.safetensors, state.json, manifest.json

A step is written into a temporary folder in the same place, synced, and renamed: a step with its final name is
complete. Its manifest holds the size and sha256 of every file, so damage is found before a tensor is used.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from vqgan.checkpoints.tensors import read_tensors, write_tensors
from vqgan.errors import CheckpointError, ConfigError, OutputError
from vqgan.output_files import locked, output_errors, sync, write_json, write_text

logger = logging.getLogger(__name__)

KEPT_STEPS = 3
"""Committed steps that are kept: the newest, and some to fall back on if it is damaged."""

_STEP = re.compile(r"^step-(\d{8,})$")

_BEGINNING = (
    "A run has begun here and has not saved a step yet. While nothing is added, another may begin here.\n"
)

_BEGUN = re.compile(
    r"(config\.yaml|env\.json|prior\.safetensors|state/beginning\.txt|tensorboard/events[^/]+|.*\.tmp|\.tmp[^/]+"
    r"|state/\.tmp-step-.+|\.lock)$"
)
"""What a run writes before it saves its first step, temporary files included."""

Stage = Literal["tokenizer", "prior", "classifier", "denoiser"]

Files = Mapping[str, Mapping[str, Tensor]]
"""The tensors of a step by file and name, for example ``{"model": {...}, "optimizer": {...}}``."""


@dataclass(frozen=True)
class Step:
    """One committed step: its number, its tensors by file and name, and its plain values."""

    number: int
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]


class RunFolder:
    """The paths of a run folder and the operations that keep it consistent; :meth:`close` ends its lock.

    Args:
        path: The folder; it need not exist yet.

    Attributes:
        kept: The newest step up to this number is not removed, however old it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "env.json"
        self.metrics = path / "metrics.jsonl"
        self.warnings = path / "warnings.jsonl"
        self.skipped = path / "skipped.jsonl"
        self.diverged = path / "diverged.jsonl"
        self.images = path / "images"
        self.report = path / "report.html"
        self.trackers = path / "trackers.json"
        self.state = path / "state"
        self._beginning = self.state / "beginning.txt"
        self._damaged: set[int] = set()
        self._source: int | None = None
        self._locks = ExitStack()
        self.close = self._locks.close
        self.kept = -1

    def weights(self, stage: Stage, which: Literal["", "-best"] = "") -> Path:
        """The model's file of a stage; or that of the model whose held-out number was best."""
        return self.path / f"{stage}{which}.safetensors"

    def lock(self) -> None:
        """Keeps other processes from training in the folder. Raises ConfigError if one does."""
        self._locks.enter_context(locked(self.path / ".lock"))

    def create(self) -> None:
        """Makes the folder and locks it, or reuses that of a run that stopped before it saved a step; deletes nothing.

        Raises:
            ConfigError: If it already holds something else, or another process begins a run there.
            OutputError: If it cannot be made.
        """
        with output_errors(self.path):
            self._require_unused()
            for folder in (self.images, self.state):
                folder.mkdir(parents=True, exist_ok=True)
            write_text(self._beginning, _BEGINNING)
            self.lock()
            self._require_unused()  # a run may have begun and ended meanwhile

    def _require_unused(self) -> None:
        if self.path.exists() and not self._only_begun():
            run = ""
            if self.numbers():
                run = f', or continue the run with `resume="{self.path}"`'
                if (self.path / ".lock").exists():
                    with suppress(OutputError), locked(self.path / ".lock"):
                        pass  # it raises if a process is at work there
            raise ConfigError(f"`{self.path}` is not empty", hint=f"choose another folder{run}")

    def _only_begun(self) -> bool:
        """Whether the folder is empty, or holds only what a run writes before its first step."""
        if not self.path.is_dir():
            return False
        files = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if not path.is_dir()}
        begun = self._beginning.is_file() and self._beginning.read_bytes() == _BEGINNING.encode()
        return all(begun and _BEGUN.match(name) for name in files) and (begun or not any(self.path.iterdir()))

    def commit(
        self,
        number: int,
        tensors: Files,
        values: Mapping[str, Any],
        *,
        keep: tuple[int, int | None] = (KEPT_STEPS, None),
    ) -> Path:
        """Writes step ``number`` and makes it the newest, then removes the steps that it replaces.

        Args:
            number: Optimizer steps done.
            tensors: By file name without ending, and name.
            values: Plain values for ``state.json``.
            keep: How many of the newest steps stay, and of which number all multiples; the one that was read stays too.

        Raises:
            OutputError: If the disk refuses; the steps before are untouched.
        """
        final = self._step(number)
        temporary = self.state / f".tmp-{final.name}-{os.getpid()}"
        try:
            with output_errors(final):
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
                for name, group in tensors.items():
                    write_tensors(temporary / f"{name}.safetensors", group, {})
                write_json(temporary / "state.json", {**values, "step": number})
                write_json(temporary / "manifest.json", _manifest(temporary))
                if final.exists():  # only a damaged step is ever rewritten
                    shutil.rmtree(final)
                os.rename(temporary, final)
                sync(self.state)
                write_json(self.state / "latest.json", {"step": number, "folder": final.name})
                self._beginning.unlink(missing_ok=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune(number, *keep)
        return final

    def newest(self, limit: int = sys.maxsize) -> Step:
        """Reads the newest step, up to number ``limit`` if there is one, whose files match their manifest.

        Raises:
            CheckpointError: If there is no undamaged step.
        """
        problems: list[str] = []
        for number in reversed(self.numbers()):
            if number > limit:
                continue
            folder = self._step(number)
            problem = verify(folder)
            if problem is not None:
                problems.append(problem)
                self._damaged.add(number)
                continue
            if problems:
                logger.warning("%s; continuing from step %d", "; ".join(problems), number)
            values = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            self._source = number
            files = {path.stem: read_tensors(path) for path in sorted(folder.glob("*.safetensors"))}
            return Step(number, files, values)
        raise CheckpointError(
            f"`{self.path}` has no step to resume from" + "".join(f"\n  {problem}" for problem in problems),
            hint="`resume=` takes the folder of a run that has saved at least once",
        )

    def numbers(self) -> list[int]:
        """The committed steps in rising order."""
        names = [path.name for path in self.state.iterdir()] if self.state.is_dir() else []
        return sorted(int(found.group(1)) for name in names if (found := _STEP.match(name)))

    def clean(self, last_row: int, samples: int = sys.maxsize) -> None:
        """Removes what a killed process left behind: temporary files, half lines, and what will be written again.

        Args:
            last_row: Step of the last row of metrics, and of the last warning, that stays.
            samples: Skipped updates with later samples than so many are removed.

        Raises:
            OutputError: If the disk refuses.
        """
        with output_errors(self.path):
            for folder in self.state.glob(".tmp-*"):
                shutil.rmtree(folder)
            for file in (*self.path.rglob(".*.[0-9]*.tmp"), *self.path.glob(".tmp??????")):
                file.unlink()
        for rows in (self.metrics, self.warnings):
            _keep_rows(rows, lambda row: row["step"] <= last_row)
        _keep_rows(self.skipped, lambda row: True)
        _keep_rows(self.diverged, lambda row: row["samples"][1] <= samples)

    def _step(self, number: int) -> Path:
        return self.state / f"step-{number:08d}"

    def _prune(self, newest: int, last: int, every: int | None) -> None:
        """Removes steps that need not stay, and damaged ones, as those with a higher number than the newest are."""
        self._damaged.discard(newest)
        good = [number for number in self.numbers() if number <= newest and number not in self._damaged]
        kept = {*good[-last:], self._source, *[n for n in good if n <= self.kept][-1:]}
        kept |= {n for n in good if every and n and n % every == 0}
        for number in set(self.numbers()) - kept:
            try:
                shutil.rmtree(self._step(number))
            except OSError as error:
                logger.warning("could not remove the old step `%s`: %s", self._step(number), error.strerror)


def verify(folder: Path) -> str | None:
    """What is wrong with a committed step, or None: every file of the manifest has its size and digest."""
    try:
        wanted = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        found = _manifest(folder)
        for name in sorted({*wanted, *found}):
            if name not in found:
                return f"`{folder / name}` is missing"
            if name not in wanted:
                return f"`{folder / name}` is not part of the step"
            for key in ("bytes", "sha256"):
                ours, theirs = (str(each[name][key]) for each in (found, wanted))
                if ours != theirs:
                    return f"`{folder / name}` is damaged: {key} {ours[:12]}, expected {theirs[:12]}"
        step = json.loads((folder / "state.json").read_text(encoding="utf-8"))["step"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"`{folder}` cannot be read: {type(error).__name__} {error}"
    return None if folder.name == f"step-{step:08d}" else f"`{folder}` holds step {step}"


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    files = [path for path in folder.iterdir() if path.name != "manifest.json"]
    files.sort(key=lambda path: path.stat().st_size, reverse=True)  # the largest takes longest: it begins
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves the interpreter to others
        digests = zip(files, pool.map(_sha256, files), strict=True)
        return {path.name: {"bytes": path.stat().st_size, "sha256": digest} for path, digest in digests}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keep_rows(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrites a file of JSON lines with the rows that are complete and wanted."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if wanted(json.loads(line)):
                kept.append(f"{line}\n")
        except (ValueError, KeyError, TypeError):
            continue  # a truncated line
    write_text(path, "".join(kept))


def find_weights(path: Path) -> Path | None:
    """The model's file of a run folder, or of its ``prior`` or ``tokenizer`` run below it; None if there is none."""
    folders = (path, path / "prior", path / "tokenizer")
    files = (
        folder / f"{stage}.safetensors"
        for folder in folders
        for stage in ("prior", "tokenizer", "classifier", "denoiser")
    )
    return next((file for file in files if file.is_file()), None)
