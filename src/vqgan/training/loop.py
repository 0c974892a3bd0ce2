"""The training loop: one visible loop for both stages, which stops on request."""

import logging
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from vqgan.errors import DivergedError, Preempted
from vqgan.stopping import Interrupted, StopRequest, stop_on_signals
from vqgan.training.observer import Observer, is_picture_step, to_device, write_animation
from vqgan.training.report import write_run_report
from vqgan.training.saving import Saver
from vqgan.training.task import Session
from vqgan.types import Batch, duration

logger = logging.getLogger(__name__)

ESTIMATED_AFTER = 10.0
"""Seconds of training after which the remaining time is estimated."""

UNFINISHED = "unfinished_row"
"""Key in a saved step's plain values of the step's row, if the run was stopped before the row was complete."""

MAX_SKIPPED = 3
"""More updates in a row that are skipped, because their gradients are not finite, send the run back."""

MAX_REWINDS = 3
"""How often a run goes back to the same step before it gives up."""

COURSE = "course"
"""Key in a saved step's plain values of the step that the run goes back to, how often it has already done so, and how
many samples it has passed over by that."""


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of all model randomness (dropout) in one step: nothing random survives from step to step."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + rank * 0x94D049BB133111EB) % (1 << 63)


def samples_before(step: int, batch_size: int, values: Mapping[str, Any]) -> int:
    """How many samples a run with these plain values has taken in so many steps, or passed over."""
    passed_over: int = values.get(COURSE, {}).get("passed_over", 0)
    return step * batch_size + passed_over


class Loop:
    """Trains a task up to its last step and keeps its run folder.

    A step whose gradients are not finite changes nothing. When too many in a row are skipped, the run goes back to its
    last regular save, and on with the samples after those that it has seen by then.

    Args:
        session: The run.
        observer: In the main process, what writes numbers and pictures; else None.
    """

    def __init__(self, session: Session, observer: Observer | None) -> None:
        self.session = session
        start: dict[str, int] = {"good": session.start, "rewinds": 0, "passed_over": 0}
        course = start | session.values.get(COURSE, {})
        self._good, self._passed_over = course["good"], course["passed_over"]
        self._rewinds = Counter({self._good: course["rewinds"]})
        self._seen: list[tuple[Tensor, dict[str, Tensor]]] = []
        self._in_row = 0
        self.task, self.folder, self.engine = session.task, session.folder, session.engine
        self.observer = observer
        self.saver = None if observer is None else Saver(session, observer.flush)
        self._saved = session.start
        self._seconds, self._waited, self._steps = 0.0, 0.0, 0
        self._times: list[float] | None = []

    def run(self, train: Iterator[Batch]) -> None:
        """Runs the remaining steps.

        Args:
            train: Micro-batches, beginning with the first of the session's first step.

        Raises:
            Preempted: After a signal, once everything is saved.
            DivergedError: When gradients are not finite wherever the run goes on; the last saved step stands.
            OutputError: When the disk refuses the last save; the saved step before stands.
        """
        start, unfinished = self.session.start, self.session.unfinished
        with stop_on_signals() as stop, self.saver or nullcontext():
            if unfinished is not None:
                self._complete(start, unfinished, stop)
            elif start < self.task.loop.steps:
                self._stop(start, self.engine.any(stop.requested))
            done = start
            while done < self.task.loop.steps:
                row = self._step(done, train)
                done += 1
                if self._is_lost(done, row):
                    done = self._rewind(done, row)
                else:
                    self._complete(done, row, stop)
            self._finish()

    def _step(self, step: int, train: Iterator[Batch]) -> dict[str, float]:
        """One optimizer step; returns the numbers to log if they are due."""
        started = time.perf_counter()
        config, done = self.task.loop, step + 1
        torch.manual_seed(step_seed(int(self.session.values["seed"]), step, self.engine.rank))
        batches = [to_device(next(train), self.engine.device) for _ in range(config.accumulate)]
        self._waited += time.perf_counter() - started
        measured = self.task.train_step(batches, step)
        numbers = {name: value.detach() for name, value in measured.items()}
        self._seen.append((self.task.state.skipped, numbers))
        if self.observer is not None:
            for batch in batches:
                self.observer.skipped(batch)
        due = done % config.log_every == 0 or done == config.steps
        row = self.engine.mean(numbers) if due else {}
        seconds = time.perf_counter() - started
        self._estimate(done, seconds)
        self._seconds += seconds
        self._steps += 1
        if due:
            row["images_per_second"] = self._steps * config.batch_size / self._seconds
            row["data_wait"] = self._waited / self._seconds
            self._seconds, self._waited, self._steps = 0.0, 0.0, 0
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
        finished, is_best = True, False
        if self._uses(done):
            self.task.state.gather()
        if self.observer is not None:
            try:
                is_best = self.observer.observe(done, row, stop.poll)
            except Interrupted:
                finished = False
        stopping = self.engine.any(stop.requested)
        if stopping:
            self.task.state.gather()
        last = done == self.task.loop.steps
        values = None
        if (stopping or self._saves(done)) and done != self._saved:
            values = self._values(done, {} if finished else {UNFINISHED: dict(row)})
        if self.saver is not None:
            self.saver.save(done, values, is_best=is_best, is_last=last or stopping)
        if values is not None:
            self._saved = done
            if last or stopping:
                self.engine.barrier()
        self._stop(done, stopping and not (last and finished))

    def _stop(self, done: int, stopping: bool) -> None:
        if stopping:
            saved = self.folder.numbers()[-1]
            what = "everything" if done == saved else f"everything up to step {saved}"
            raise Preempted(
                f"stopped at step {done} of {self.task.loop.steps}; {what} is saved in `{self.folder.path}`",
                hint=f"continue with `vqgan train {self.task.stage} --resume {self.folder.path}`",
            )

    def _finish(self) -> None:
        """Writes animation and report. Everything is saved by now, so a failure here only costs these."""
        if self.observer is None:
            return
        animate, report = partial(write_animation, self.folder.images), partial(write_run_report, self.folder)
        for name, write in (("animation", animate), ("report", report)):
            try:
                write()
            except Exception as error:
                reason = " ".join(str(error).split())
                what = "the run is complete, but not its %s: %s: %s"
                logger.warning(what, name, type(error).__name__, reason)

    def _saves(self, done: int) -> bool:
        """Whether a save is due after a step, wherever the run was stopped before."""
        return done == self.task.loop.steps or done % self.task.loop.save_every == 0

    def _uses(self, done: int) -> bool:
        """Whether the model is evaluated, drawn with or saved after a step."""
        config = self.task.loop
        is_evaluated = done % config.evaluate_every == 0
        return is_evaluated or is_picture_step(done, config.steps) or self._saves(done)

    def _samples(self, step: int) -> range:
        """The samples of a step, over all processes."""
        size = self.task.loop.batch_size
        return range(first := step * size + self._passed_over, first + size)

    def _look(self, done: int) -> None:
        """Counts and notes the updates that were skipped since the last look; this waits for the device."""
        if not self._seen:
            return
        flags, first = torch.stack([flag for flag, _ in self._seen]).tolist(), done - len(self._seen)
        for step, (flag, (_, measured)) in enumerate(zip(flags, self._seen, strict=True), start=first):
            self._in_row = self._in_row + 1 if flag else 0
            if flag and self._in_row <= MAX_SKIPPED and self.observer is not None:
                self.observer.skipped_update(step + 1, self._samples(step), measured)
        if any(flags) and self.observer is not None:
            what = "%d of the updates of the last %d steps up to %d were skipped: their gradients were not finite"
            logger.warning(what, sum(flags), len(flags), done)
        self._seen = []

    def _is_lost(self, done: int, row: Mapping[str, float]) -> bool:
        """Whether the weights may be of no use; judged where a row or a save is due, in all processes alike."""
        saves = self._saves(done)
        if not row and not saves:
            return False
        self._look(done)
        if self._in_row > MAX_SKIPPED or (saves and not self.task.state.is_finite()):
            return True
        # After the last step no other tells bad weights from a bad batch.
        values = (value for name, value in row.items() if not name.endswith("gradient_norm"))
        return done == self.task.loop.steps and self._in_row > 0 and not all(map(math.isfinite, values))

    def _rewind(self, done: int, row: Mapping[str, float]) -> int:
        """Goes back to the weights of the last regular save, but not to its samples; returns its step."""
        if self.saver is not None:
            self.saver.wait()
        self.engine.barrier()
        saved = self.folder.newest(self._good)  # older than that if the disk refused it
        self._good = saved.number
        if self._rewinds[self._good] == MAX_REWINDS:
            self._give_up(done, row)
        self._rewinds[self._good] += 1
        self.task.state.load(saved.tensors, where=f"step {saved.number} of `{self.folder.path}`")
        samples = range(self._samples(saved.number).start, self._samples(done).start)
        self._passed_over += len(samples)
        self._saved, self._in_row = saved.number, 0
        if self.observer is not None:
            self.observer.rewind(saved.number, done, samples)
            what = "training diverged by step %d: back to step %d, and on with the images after those seen (%d of %d)"
            logger.warning(what, done, self._good, self._rewinds[self._good], MAX_REWINDS)
        return saved.number

    def _give_up(self, done: int, row: Mapping[str, float]) -> NoReturn:
        if self.observer is not None:
            self.observer.write(done, row)
        saved = self.folder.weights(self.task.stage).is_file()
        raise DivergedError(
            f"a gradient of the {self.task.stage} was not finite before step {done}; it was not applied, and going "
            f"back to step {self._good} and on with other images did not help {MAX_REWINDS} times",
            hint=f"begin a new run {f'with `--from {self.folder.path}` and' if saved else 'with'} "
            f"a lower `task.optimizer.learning_rate`; `{self.folder.diverged}` names the images",
        )

    def _values(self, done: int, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What a saved step holds beside its tensors; None if it shall not be saved.

        That is one that was skipped, unless it is the last: the next ones tell if its weights are good.
        """
        self._look(done)
        regular = self._saves(done)
        if (self._in_row and done < self.task.loop.steps) or not (regular or self.task.state.is_finite()):
            return None
        if regular:
            self._good = done
        self.folder.kept = self._good
        course = {"good": self._good, "rewinds": self._rewinds[self._good], "passed_over": self._passed_over}
        return {**self.session.values, COURSE: course, **values}
