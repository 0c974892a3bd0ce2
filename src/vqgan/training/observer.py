"""What a run shows while it trains: rows of numbers, held-out metrics, pictures, warnings, skipped files."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.errors import OutputError, printable
from vqgan.images import grid, read_pixels, save_apng, save_png
from vqgan.output_files import write_text
from vqgan.training.engine import put
from vqgan.training.metrics_log import JsonLines, MetricsLog, as_words
from vqgan.training.task import BETTER, USUAL, Session
from vqgan.training.warning_signs import History, Watch
from vqgan.types import Batch, Images, OnProgress, Progress

logger = logging.getLogger(__name__)

Heldout = Callable[[int, int], Iterable[Batch]]
"""Held-out images, anew at every call: the batch size and the maximal number of images. A batch may be empty."""

MAX_COLUMNS = 8
"""Images in a row of a picture."""


class Observer:
    """Watches a task from the main process and writes down what it sees.

    Args:
        session: The run that is watched; its task's settings say how often.
        heldout: Images that are never trained on.
        measured: Whether they are measured; if not, they are only pictured and may be images that are trained on.
        on_progress: Called after every step.
        label: What messages call the image of a sample.
        log: Trackers that get numbers and pictures too, beside TensorBoard.
    """

    def __init__(
        self,
        session: Session,
        heldout: Heldout,
        *,
        measured: bool,
        on_progress: OnProgress | None,
        label: Callable[[int], str] = str,
        log: Sequence[str] = (),
    ) -> None:
        self.task, self.folder, self.engine = session.task, session.folder, session.engine
        self.heldout = heldout
        self.measured = measured
        self.on_progress = on_progress
        self.label, self.log = label, log
        self._list, self._diverged = JsonLines(session.folder.skipped), JsonLines(session.folder.diverged)
        self._skipped = {row["path"] for row in self._list.read()}
        self._begin_log(session.start)

    def _begin_log(self, start: int) -> None:
        self._log, self._best = MetricsLog(self.folder, start, names=self.log), -math.inf
        rows = self._log.lines.read()
        for row in rows:
            self._is_best(row)
        self._watch = Watch(self.folder, History(self.task.loop, self.task.state.config, rows=rows))

    def observe(self, done: int, row: Mapping[str, float], poll: Callable[[], None]) -> bool:
        """Adds what is due after ``done`` steps to the row, writes it, and reports progress.

        Args:
            done: Optimizer steps done.
            row: Numbers of the training; empty when they are not due.
            poll: Called often; an exception it raises ends the work before the row is written.

        Returns:
            Whether the model shall be kept, since no held-out number before was as good.
        """
        config = self.task.loop
        if config.pictures and is_picture_step(done, config.steps):
            try:
                self._pictures(done, poll)
            except OutputError as error:
                logger.warning("no pictures of step %d: %s", done, error)
        if self.measured and (done % config.evaluate_every == 0 or done == config.steps):
            held_out = self._batches(config.share(self.engine.world), config.evaluate_images, poll)
            row = {**row, **{f"heldout_{name}": n for name, n in self.task.evaluate(held_out).items()}}
        self.write(done, row)
        self._watch.look(done, row)
        if self.on_progress is not None:
            self.on_progress(Progress(self.task.stage, done, config.steps, row))
        return self._is_best(row) and bool(config.keep_best)

    def _is_best(self, row: Mapping[str, Any]) -> bool:
        """Whether the row's held-out number, if it has one and that is a number, is better than all before."""
        named = self.task.loop.keep_best
        found = {name: row.get(f"heldout_{name}") for name in ((named,) if isinstance(named, str) else USUAL)}
        scores = (BETTER[name] * value for name, value in found.items() if isinstance(value, float))
        score, before = next(scores, -math.inf), self._best
        self._best = score if score > before else before
        return self._best > before

    def flush(self) -> None:
        """Writes what a full disk refused before. Raises OutputError if it still does."""
        for lines in (self._list, self._diverged, self._log.lines, self._watch.lines):
            lines.flush()

    def write(self, done: int, row: Mapping[str, float]) -> None:
        """Writes a row, if there is anything in it."""
        if row:
            self._log.row(done, row)

    def skipped(self, batch: Batch) -> list[tuple[str, str]]:
        """Adds the files that a batch skipped to the list on disk, each once.

        Returns:
            What is new in the list, as (path, reason).
        """
        new = [row for row in dict(batch.skipped).items() if row[0] not in self._skipped]
        for path, reason in new:
            self._list.add({"path": path, "reason": reason})
            self._skipped.add(path)
        return new

    def skipped_update(self, step: int, samples: range, numbers: Mapping[str, Tensor]) -> None:
        """Writes down an update that was skipped: its samples, counted from the run's first, their images, numbers."""
        row = {"step": step, "samples": [samples.start, samples.stop], "images": [*map(self.label, samples)]}
        values = as_words({name: float(value) for name, value in numbers.items()})
        self._diverged.add({**row, **values})

    def rewind(self, start: int, done: int, samples: range) -> None:
        """Forgets the rows of the steps after ``start``, to which training goes back from step ``done``.

        Raises:
            OutputError: If the disk refuses.
        """
        row = {"step": done, "samples": [samples.start, samples.stop], "back_to": start}
        self._diverged.add(row)
        self._log.close()
        self.folder.clean(start)
        self._begin_log(start)

    def close(self) -> None:
        """Flushes the numbers."""
        self._log.close()

    def _pictures(self, done: int, poll: Callable[[], None]) -> None:
        count = self.task.loop.pictures
        for batch in self._batches(count, count, poll):
            groups = self.task.pictures(batch, lambda _: poll())
            columns = min(MAX_COLUMNS, len(batch.images))
            grids = write_pictures(self.folder.images, done, groups, columns=columns)
            frame = next(iter(groups.values()))[-1]
            for name, picture in {**grids, "growing": frame}.items():
                self._log.picture(done, name, picture)
            if texts := batch.condition.get("text"):
                write_text(self.folder.images / "captions.txt", " | ".join(map(printable, texts)))

    def _batches(self, size: int, limit: int, poll: Callable[[], None]) -> Iterator[Batch]:
        for batch in self.heldout(size, limit):
            poll()
            # The same files are met at every evaluation; the list knows which were named before.
            for path, reason in self.skipped(batch):
                logger.warning("skipped `%s`, which is held out: %s", path, reason)
            if len(batch.images):
                yield to_device(batch, self.engine.device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with images, codes and maps on a device; numbers, classes and corners stay where they are read."""
    condition = {
        name: put(values, device) if isinstance(values, Tensor) and values.ndim > 1 else values
        for name, values in batch.condition.items()
    }
    indices = None if batch.indices is None else put(batch.indices, device)
    return replace(batch, images=put(batch.images, device), condition=condition, indices=indices)


def is_picture_step(step: int, total: int) -> bool:
    """Whether pictures are due after ``step`` steps: after the first, at powers of two from 16, and at the end.

    Example:
        >>> [step for step in range(1, 101) if is_picture_step(step, 100)]
        [1, 16, 32, 64, 100]
    """
    return step in (1, total) or (step >= 16 and step & (step - 1) == 0)


def write_pictures(
    folder: Path, step: int, pictures: Mapping[str, Images], *, columns: int
) -> dict[str, Float[Tensor, "c rows columns"]]:
    """Writes each group of images as one grid ``NAME-STEP.png``, and one image as a frame of the animation.

    Args:
        folder: Made where it does not exist.
        step: Steps done, for the names.
        pictures: Groups of images by name; the last image of the first group is the frame.
        columns: Images in a row.

    Returns:
        The grids by name.

    Raises:
        OutputError: If the disk refuses.
    """
    grids = {name: grid(images, columns=columns) for name, images in pictures.items()}
    for name, picture in grids.items():
        save_png(picture, folder / f"{name}-{step:08d}.png", {"step": str(step)})
    first = next(iter(pictures.values()))
    save_png(first[-1], folder / "frames" / f"{step:08d}.png", {"step": str(step)})
    return grids


def write_animation(folder: Path) -> None:
    """Joins the frames written so far into ``training.png``, an animated PNG with half a second a frame."""
    paths = sorted((folder / "frames").glob("*.png"))
    if paths:
        save_apng([read_pixels(path, 3) for path in paths], folder / "training.png", 500)
