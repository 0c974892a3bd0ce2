"""The numbers of a run as rows of ``metrics.jsonl``, and the trackers that mirror them and its pictures."""

import importlib.util
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from accelerate import tracking
from jaxtyping import Float
from torch import Tensor

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import flattened, read_yaml
from vqgan.errors import CheckpointError, ConfigError, OutputError, closest, printable, require
from vqgan.evaluation.report import read_rows
from vqgan.images.pixels import to_picture, to_uint8
from vqgan.output_files import output_errors, write_json

logger = logging.getLogger(__name__)

EXTRAS = {"tensorboard": "log", "wandb": "log", "mlflow": "mlflow", "aim": "aim"}
"""The extra that installs each tracker, by the name of its package."""

_IDS = {"wandb": "id", "mlflow": "info.run_id", "aim": "hash"}


def trackers_of(folder: RunFolder, names: Sequence[str]) -> dict[str, str | None]:
    """Trackers that are asked for or that a resumed run began with, and its id in each, if it has one.

    Raises ConfigError if one is unknown or not installed, CheckpointError if the folder's list of them is damaged.
    """
    found, path = dict[str, str | None].fromkeys(names), folder.trackers
    try:
        found |= msgspec.json.decode(path.read_bytes(), type=dict[str, str]) if path.exists() else {}
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"`{path}` is damaged: {error}", hint="remove it") from None
    for name in found:
        require(name in EXTRAS, f"unknown tracker `{name}`", hint=closest(name, EXTRAS))
        hint = f'install the extra `{EXTRAS[name]}`: pip install "vqgan[{EXTRAS[name]}]"'
        require(importlib.util.find_spec(name) is not None, f"`{name}` is not installed", hint=hint)
    return found


class JsonLines:
    """A file with an object in each line. What a full disk refuses is kept, and written before the next line.

    Args:
        path: It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = ""

    def read(self) -> list[dict[str, Any]]:
        """The objects that are on the disk."""
        return read_rows(self._path)

    def add(self, row: Mapping[str, Any]) -> None:
        """Appends a line, as soon as the disk takes it."""
        waited = bool(self._waiting)
        self._waiting += json.dumps(row) + "\n"
        try:
            self.flush()
        except OutputError as error:
            if not waited:
                logger.warning("%s; the next line tries again", error.message)

    def flush(self) -> None:
        """Writes what waits, or nothing of it. Raises OutputError if the disk refuses."""
        if not self._waiting:
            return
        with output_errors(self._path):
            size = self._path.stat().st_size if self._path.exists() else 0
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(self._waiting)
            except OSError:
                with suppress(OSError):
                    os.truncate(self._path, size)  # half a line
                raise
        self._waiting = ""


class MetricsLog:
    """Appends rows to ``metrics.jsonl`` and mirrors them, and pictures, to trackers, which are given up when they fail.

    Args:
        folder: The run's folder; it keeps the run's ids in its trackers, so that a resumed run goes on in them.
        start: Steps already done; TensorBoard's events after it are superseded.
        names: Trackers beside TensorBoard and those that the run began with.
    """

    def __init__(self, folder: RunFolder, start: int, *, names: Sequence[str] = ()) -> None:
        self.lines = JsonLines(folder.metrics)
        self._folder, self._start = folder, start
        self._ids = trackers_of(folder, names)
        try:
            import torch.utils.tensorboard  # noqa: F401

            self._ids["tensorboard"] = None
        except ImportError:
            logger.info("no TensorBoard events: install them with `pip install vqgan[log]`")
        self._trackers: dict[str, Any] = dict.fromkeys(self._ids)
        self._each(lambda name, _: self._begin(name))

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row; a number that is not finite is written as the word, never as 0."""
        self.lines.add({"step": step, **as_words(values)})
        self._each(lambda _, tracker: tracker.log(dict(values), step=step))

    def picture(self, step: int, name: str, image: Float[Tensor, "c rows columns"]) -> None:
        """Mirrors a picture with values in [-1, 1]; those of one name are a series over the steps."""
        pixels = np.asarray(to_picture(to_uint8(image).cpu().numpy()).convert("RGB"))

        def show(kind: str, tracker: Any) -> None:
            if kind == "mlflow":  # its tracker takes no pictures
                import mlflow

                mlflow.log_image(pixels, key=name, step=step, synchronous=True)
            elif kind == "tensorboard":
                tracker.log_images({name: pixels[None]}, step, dataformats="NHWC")
            else:
                tracker.log_images({name: pixels if kind == "aim" else [pixels]}, step)

        self._each(show)

    def close(self) -> None:
        """Sends what is left."""
        self._each(lambda _, tracker: tracker.finish())

    def _each(self, act: Callable[[str, Any], None]) -> None:
        """Acts on every tracker, and gives those up that fail: they must not cost a step."""
        for name, tracker in [*self._trackers.items()]:
            try:
                act(name, tracker)
            except Exception as error:
                reason = printable(" ".join(str(error).split()) or type(error).__name__)
                logger.warning("nothing more goes to `%s`: %s", name, reason)
                del self._trackers[name]

    def _begin(self, name: str) -> None:
        """Starts a tracker, in the run of its own that it began, if it did."""
        run, folder = self._ids[name], self._folder
        title = "/".join(folder.path.resolve().parts[-2:])
        if name == "tensorboard":
            tracker: Any = tracking.TensorBoardTracker(name, folder.path, purge_step=self._start + 1)
        elif name == "wandb":
            import wandb

            # It would ask for the key, and write it down.
            if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False, verify=False):
                raise ConfigError("no login is known: run `wandb login`, or set WANDB_MODE=offline")
            settings = wandb.Settings(console="off", finish_timeout=60)
            options = {"settings": settings, "resume": "allow", "name": title, "id": run}
            tracker = tracking.WandBTracker(os.environ.get("WANDB_PROJECT", "vqgan"), **options)
        elif name == "mlflow":
            tracker = tracking.MLflowTracker("vqgan", run_id=run, run_name=title)
        else:
            tracker = tracking.AimTracker(title, None, run_hash=run, capture_terminal_logs=False)
        tracker.start()
        self._trackers[name] = tracker
        if run is None and name in _IDS:
            self._ids[name] = attrgetter(_IDS[name])(tracker.tracker)
            write_json(folder.trackers, {name: run for name, run in self._ids.items() if run})
            tracker.store_init_configuration(flattened(read_yaml(folder.config)))


def as_words(values: Mapping[str, float]) -> dict[str, float | str]:
    """Numbers as JSON can hold them: what is not finite is a word."""
    return {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
