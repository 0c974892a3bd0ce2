"""The training loop: one visible loop for both stages."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import DivergedError, Preempted
from vqgan.training.engine import Engine
from vqgan.training.metrics import MetricsLog
from vqgan.training.pictures import is_picture_step, write_animation, write_pictures
from vqgan.training.records import SkippedFiles
from vqgan.training.settings import LoopConfig
from vqgan.training.signals import StopRequest, stop_on_signals
from vqgan.training.state import TrainingState
from vqgan.types import Batch, Images, OnProgress, Progress


class Task(Protocol):
    """What the loop drives: a tokenizer's or a prior's training."""

    phase: Literal["tokenizer", "prior"]
    state: TrainingState

    @property
    def image_channels(self) -> int:
        """Channels of the images it trains on."""
        ...

    def train_step(self, batches: Sequence[Batch], step: int) -> Mapping[str, Tensor]:
        """One optimizer step (of every player) from its micro-batches; returns scalars to log."""
        ...

    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """Held-out metrics, with the averaged weights where there are any."""
        ...

    def pictures(self, batch: Batch) -> Mapping[str, Images]:
        """Groups of images that show what the model can do by now."""
        ...

    def export(self, folder: RunFolder, step: int) -> None:
        """Writes the model's file."""
        ...


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of all model randomness (dropout) in one step: nothing random survives from step to step."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + rank * 0x94D049BB133111EB) % (1 << 63)


class Loop:
    """Trains a task from ``start`` to its last step and keeps its run folder.

    Args:
        task: What is trained.
        config: How long, and how often what is done on the way.
        folder: Where everything is written.
        engine: Device, precision, processes.
        values: Plain values that every committed step repeats (seed, fingerprint of the data).
        on_progress: Called after every step.
    """

    def __init__(
        self,
        *,
        task: Task,
        config: LoopConfig,
        folder: RunFolder,
        engine: Engine,
        values: Mapping[str, Any],
        on_progress: OnProgress | None,
    ) -> None:
        self.task = task
        self.config = config
        self.folder = folder
        self.engine = engine
        self.values = values
        self.on_progress = on_progress

    def run(self, train: Iterator[Batch], heldout: Callable[[], Iterable[Batch]], start: int = 0) -> None:
        """Runs steps ``start`` to ``config.steps``.

        Args:
            train: Micro-batches, beginning with the first of step ``start``.
            heldout: Gives the held-out batches anew at every call.
            start: Optimizer steps already done.

        Raises:
            Preempted: After a signal, once everything is saved.
            DivergedError: When a gradient is no longer finite; the last committed step stands.
            OutputError: When the disk refuses; the last committed step stands.
        """
        log = MetricsLog(self.folder, start) if self.engine.is_main else None
        skipped = SkippedFiles(self.folder.skipped)
        try:
            with stop_on_signals() as stop:
                for step in range(start, self.config.steps):
                    self._step(step, train, heldout, log, skipped)
                    self._save_or_stop(step + 1, stop)
        finally:
            if log is not None:
                log.close()

    def _step(
        self,
        step: int,
        train: Iterator[Batch],
        heldout: Callable[[], Iterable[Batch]],
        log: MetricsLog | None,
        skipped: SkippedFiles,
    ) -> None:
        started = time.perf_counter()
        torch.manual_seed(step_seed(int(self.values["seed"]), step, self.engine.rank))
        batches = [to_device(next(train), self.engine.device) for _ in range(self.config.accumulate)]
        skipped.add(batches)
        measured = self.task.train_step(batches, step)
        done, total = step + 1, self.config.steps
        row: dict[str, float] = {}
        if done % self.config.log_every == 0 or done == total:
            row = self.engine.mean(dict(measured))
            self._check(done)
            row["images_per_second"] = self.config.batch_size / (time.perf_counter() - started)
        if log is not None and self.config.pictures and is_picture_step(done, total):
            self._pictures(done, heldout, log)
        if done % self.config.evaluate_every == 0 or done == total:
            held = self.task.evaluate(to_device(batch, self.engine.device) for batch in heldout())
            row |= {f"heldout_{name}": value for name, value in held.items()}
        if log is not None and row:
            log.row(done, row)
        if self.on_progress is not None:
            self.on_progress(Progress(self.task.phase, done, total, row))

    def _check(self, done: int) -> None:
        if self.task.state.diverged():
            raise DivergedError(
                f"a gradient of {self.task.phase} is not finite at step {done}; the update was not applied",
                hint=f"lower the learning rate, or continue from the last checkpoint: `--resume {self.folder.path}`",
            )

    def _pictures(self, done: int, heldout: Callable[[], Iterable[Batch]], log: MetricsLog) -> None:
        batch = next(iter(heldout()))
        batch = to_device(first_images(batch, self.config.pictures), self.engine.device)
        for name, picture in write_pictures(self.folder.images, done, self.task.pictures(batch)).items():
            log.picture(done, name, picture)

    def _save_or_stop(self, done: int, stop: StopRequest) -> None:
        last = done == self.config.steps
        if last or stop.requested or done % self.config.save_every == 0:
            self._check(done)
            if self.engine.is_main:
                self.folder.commit(done, self.task.state.tensors(), self.values)
                self.task.export(self.folder, done)
                if last and self.config.pictures:
                    write_animation(self.folder.images)
            self.engine.barrier()
        if stop.requested and not last:
            raise Preempted(
                f"stopped at step {done} of {self.config.steps}; everything is saved in `{self.folder.path}`",
                hint=f"go on with `vqgan train {self.task.phase} --resume {self.folder.path}`",
            )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on a device."""
    condition = {name: tensor.to(device) for name, tensor in batch.condition.items()}
    return Batch(batch.images.to(device), condition, batch.sample.to(device), batch.skipped)


def first_images(batch: Batch, count: int) -> Batch:
    """The first ``count`` images of a batch."""
    condition = {name: tensor[:count] for name, tensor in batch.condition.items()}
    return Batch(batch.images[:count], condition, batch.sample[:count])
