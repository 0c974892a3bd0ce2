"""The training loop: one visible loop for both stages, which stops on request."""

import logging
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from vqgan.errors import DivergedError, Preempted
from vqgan.training.observer import Observer, to_device
from vqgan.training.report import write_run_report
from vqgan.training.task import Session
from vqgan.types import Batch, duration

logger = logging.getLogger(__name__)

ESTIMATED_AFTER = 10.0
"""Seconds of training after which the remaining time is estimated."""

UNFINISHED = "unfinished_row"
"""Key in a saved step's plain values of the step's row, if the run was stopped before the row was complete."""


class Interrupted(Exception):  # noqa: N818  (an event, not a failure)
    """Work that changes nothing, such as an evaluation, was interrupted because the run shall stop."""


class StopRequest:
    """Whether the run was asked to stop; long work polls it."""

    def __init__(self) -> None:
        self.requested = False
        self._interrupts = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.requested = True
        # A launcher passes a Ctrl-C on as SIGTERM too: only a second Ctrl-C is impatience.
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt

    def poll(self) -> None:
        """Raises Interrupted if a stop was requested."""
        if self.requested:
            raise Interrupted


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Inside the block SIGINT and SIGTERM only set the flag; outside the main thread nothing changes."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of all model randomness (dropout) in one step: nothing random survives from step to step."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + rank * 0x94D049BB133111EB) % (1 << 63)


class Loop:
    """Trains a task up to its last step and keeps its run folder.

    Args:
        session: The run.
        observer: In the main process, what writes numbers and pictures; else None.
    """

    def __init__(self, session: Session, observer: Observer | None) -> None:
        self.session = session
        self.task, self.folder, self.engine = session.task, session.folder, session.engine
        self.observer = observer
        self._saved = session.start
        self._seconds, self._steps = 0.0, 0
        self._times: list[float] | None = []

    def run(self, train: Iterator[Batch]) -> None:
        """Runs the remaining steps.

        Args:
            train: Micro-batches, beginning with the first of the session's first step.

        Raises:
            Preempted: After a signal, once everything is saved.
            DivergedError: When a gradient is no longer finite; the last saved step stands.
            OutputError: When the disk refuses; the last saved step stands.
        """
        start, unfinished = self.session.start, self.session.unfinished
        with stop_on_signals() as stop:
            if unfinished is not None:
                self._complete(start, unfinished, stop)
            for step in range(start, self.task.loop.steps):
                self._complete(step + 1, self._step(step, train), stop)
            self._finish()

    def _step(self, step: int, train: Iterator[Batch]) -> dict[str, float]:
        """One optimizer step; returns the numbers to log if they are due."""
        started = time.perf_counter()
        config, done = self.task.loop, step + 1
        torch.manual_seed(step_seed(int(self.session.values["seed"]), step, self.engine.rank))
        batches = [to_device(next(train), self.engine.device) for _ in range(config.accumulate)]
        measured = self.task.train_step(batches, step)
        if self.observer is not None:
            for batch in batches:
                self.observer.skipped(batch)
        due = done % config.log_every == 0 or done == config.steps
        row = self.engine.mean(dict(measured)) if due else {}
        seconds = time.perf_counter() - started
        self._estimate(done, seconds)
        self._seconds += seconds
        self._steps += 1
        if due:
            row["images_per_second"] = self._steps * config.batch_size / self._seconds
            self._seconds, self._steps = 0.0, 0
            self._check(done, row)
        return row

    def _estimate(self, done: int, seconds: float) -> None:
        """Logs once how long the run will take, by its steps so far; the first one is a warm-up."""
        if self._times is None or self.observer is None:
            return
        self._times.append(seconds)
        if sum(self._times[1:]) >= ESTIMATED_AFTER:
            step, left = statistics.mean(self._times[1:]), self.task.loop.steps - done
            logger.info("%.2g s a step: about %s more, without pictures", step, duration(step * left))
            self._times = None

    def _complete(self, done: int, row: Mapping[str, float], stop: StopRequest) -> None:
        """Observes, saves and stops after an optimizer step."""
        finished = True
        if self.observer is not None:
            try:
                self.observer.observe(done, row, stop.poll)
            except Interrupted:
                finished = False
        stopping = self.engine.any(stop.requested)
        last = done == self.task.loop.steps
        if (last or stopping or done % self.task.loop.save_every == 0) and done != self._saved:
            self._save(done, {} if finished else {UNFINISHED: dict(row)})
        if stopping and not (last and finished):
            raise Preempted(
                f"stopped at step {done} of {self.task.loop.steps}; everything is saved in `{self.folder.path}`",
                hint=f"continue with `vqgan train {self.task.stage} --resume {self.folder.path}`",
            )

    def _finish(self) -> None:
        """Writes animation and report. Everything is saved by now, so a failure here only costs these."""
        if self.observer is None:
            return
        for what, write in (
            ("animation", self.observer.finish),
            ("report", lambda: write_run_report(self.folder)),
        ):
            try:
                write()
            except Exception as error:
                reason = " ".join(str(error).split())
                logger.warning(
                    "the run is complete, but not its %s: %s: %s", what, type(error).__name__, reason
                )

    def _check(self, done: int, row: Mapping[str, float]) -> None:
        if not self.task.state.diverged():
            return
        if self.observer is not None:
            self.observer.write(done, row)
        saved = self.folder.weights(self.task.stage).is_file()
        raise DivergedError(
            f"a gradient of the {self.task.stage} was not finite before step {done}; it was not applied",
            hint=f"begin a new run {f'with `--from {self.folder.path}` and' if saved else 'with'} "
            "a lower `task.optimizer.learning_rate`",
        )

    def _save(self, done: int, values: Mapping[str, Any]) -> None:
        self._check(done, {})
        if self.engine.is_main:
            # The model first: a run that is killed in between writes it again from the step before.
            self.task.export(self.folder, done)
            self.folder.commit(done, self.task.state.tensors(), {**self.session.values, **values})
        self._saved = done
        self.engine.barrier()
