"""What is seen of a run on the way: rows of numbers, held-out metrics, pictures, skipped files."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, Protocol, runtime_checkable

import torch

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import OutputError
from vqgan.training.engine import Engine
from vqgan.training.metrics import MetricsLog
from vqgan.training.pictures import is_picture_step, write_animation, write_pictures
from vqgan.training.records import SkippedFiles
from vqgan.training.settings import LoopConfig
from vqgan.types import Batch, Images, OnProgress, Progress

logger = logging.getLogger(__name__)

Heldout = Callable[[int, int, bool], Iterable[Batch]]
"""Held-out images, anew at every call: how many at most, how many in a batch, and whether they are measured; else they
are pictured, which may be images that are trained on. A batch may be empty."""

MAX_COLUMNS = 8
"""A picture has at most so many images in a row."""


@runtime_checkable
class Observed(Protocol):
    """What a task shows of itself; nothing of this changes the training."""

    phase: Literal["tokenizer", "prior"]
    loop: LoopConfig

    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """Held-out metrics, with the averaged weights where there are any; empty without images."""
        ...

    def pictures(self, batch: Batch, on_progress: OnProgress) -> Mapping[str, Images]:
        """Groups of images that show what the model can do by now."""
        ...


class Observer:
    """Watches a task from the main process and writes down what it sees.

    Args:
        task: What is watched; its settings say how often.
        folder: Where everything is written.
        heldout: Images that are never trained on.
        engine: Where the task computes, and with how many processes.
        start: Steps already done.
        on_progress: Called after every step.
    """

    def __init__(
        self,
        *,
        task: Observed,
        folder: RunFolder,
        heldout: Heldout,
        engine: Engine,
        start: int,
        on_progress: OnProgress | None,
    ) -> None:
        self.task = task
        self.folder = folder
        self.heldout = heldout
        self.engine = engine
        self.on_progress = on_progress
        self._skipped = SkippedFiles(folder.skipped)
        self._log = MetricsLog(folder, start)

    def observe(self, done: int, row: Mapping[str, float], poll: Callable[[], None]) -> None:
        """Adds what is due after ``done`` steps to the row, writes it, and reports progress.

        Args:
            done: Optimizer steps done.
            row: Numbers of the training; empty when they are not due.
            poll: Called often; what it raises breaks the work off before the row is written.

        Raises:
            OutputError: If the disk refuses.
        """
        config = self.task.loop
        if config.pictures and is_picture_step(done, config.steps):
            try:
                self._pictures(done, poll)
            except OutputError as error:
                logger.warning("no pictures of step %d: %s", done, error)
        if done % config.evaluate_every == 0 or done == config.steps:
            held_out = self._batches(
                config.evaluate_images, config.share(self.engine.world), poll, measured=True
            )
            row = {**row, **{f"heldout_{name}": n for name, n in self.task.evaluate(held_out).items()}}
        self.write(done, row)
        if self.on_progress is not None:
            self.on_progress(Progress(self.task.phase, done, config.steps, row))

    def write(self, done: int, row: Mapping[str, float]) -> None:
        """Writes a row, if there is anything in it."""
        if row:
            self._log.row(done, row)

    def skipped(self, batch: Batch) -> None:
        """Takes note of the files that a batch left out."""
        self._skipped.add(batch)

    def finish(self) -> None:
        """Joins the pictures of the run to an animation."""
        if self.task.loop.pictures:
            write_animation(self.folder.images)

    def close(self) -> None:
        """Flushes the numbers."""
        self._log.close()

    def _pictures(self, done: int, poll: Callable[[], None]) -> None:
        count = self.task.loop.pictures
        for batch in self._batches(count, count, poll, measured=False):
            groups = self.task.pictures(batch, lambda _: poll())
            columns = min(MAX_COLUMNS, len(batch.images))
            for name, picture in write_pictures(self.folder.images, done, groups, columns=columns).items():
                self._log.picture(done, name, picture)

    def _batches(self, limit: int, size: int, poll: Callable[[], None], *, measured: bool) -> Iterator[Batch]:
        for batch in self.heldout(limit, size, measured):
            poll()
            # The same files are met at every evaluation; the list knows which were named before.
            for path, reason in self._skipped.add(batch):
                logger.warning("skipped `%s`, which is held out: %s", path, reason)
            if len(batch.images):
                yield to_device(batch, self.engine.device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with images and condition on a device; the numbers of the samples stay where they are read."""
    condition = {name: tensor.to(device) for name, tensor in batch.condition.items()}
    return Batch(batch.images.to(device), condition, batch.sample, batch.skipped)
