"""Saving beside the training: copies of the state are written by a thread, one step at a time."""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vqgan.errors import OutputError
from vqgan.training.task import Session

logger = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that a second Ctrl-C leaves to what is being written."""


class Saver:
    """Saves steps and models of a session while its training goes on. Leaving its block waits for what is in flight.

    Args:
        session: The run.
        flush: Called before a step is saved: its rows must be on the disk first. May raise OutputError.
    """

    def __init__(self, session: Session, flush: Callable[[], None]) -> None:
        self.session, self._flush = session, flush
        self._copies: dict[str, dict[str, Tensor]] = {}
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not KeyboardInterrupt:
            self.wait()
        elif self._thread is not None:
            self._thread.join(PATIENCE)

    def save(
        self, done: int, values: Mapping[str, Any] | None, *, is_best: bool = False, is_last: bool = False
    ) -> None:
        """Copies the state of now, once the save before is complete, and has the copies written; call it in every step.

        What the disk refuses is a warning, at the latest in the next step, and the next save is a new try.

        Args:
            done: Optimizer steps done.
            values: Plain values of the step; None saves no step.
            is_best: Writes the file of the best model.
            is_last: Waits until all is written; raises OutputError if the disk refuses.
        """
        is_due = values is not None or is_best
        if is_due or is_last or not (self._thread is not None and self._thread.is_alive()):
            self.wait(must=is_last and not is_due)
        if not is_due:
            if self._thread is None and not self._copies:  # to get the memory takes longer than to fill it
                self._start(partial(self._copy, self.session.task.state.tensors()))
            return
        try:
            self._flush()
        except OutputError as error:
            self._error = error
        else:
            self._copy(self.session.task.state.tensors())
            copied = torch.cuda.Event() if self.session.engine.device.type == "cuda" else None
            if copied is not None:
                copied.record()
            self._start(partial(self._write, done, values, is_best, copied))
        if is_last:
            self.wait(must=True)

    def wait(self, *, must: bool = False) -> None:
        """Waits for the save in flight; raises what went wrong, but an OutputError only if it ``must`` succeed."""
        if self._thread is not None:
            self._thread.join()
        error, self._thread, self._error = self._error, None, None
        if isinstance(error, OutputError) and not must:
            logger.warning("nothing was saved: %s; the next save tries again", error.message)
        elif error is not None:
            raise error

    def _start(self, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="save", daemon=True)
        self._thread.start()

    def _copy(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copies all; on CUDA the copies are complete when the device has come this far."""
        for file, group in tensors.items():
            before, copies = self._copies.get(file, {}), dict[str, Tensor]()
            for name, tensor in group.items():
                if name not in before:
                    before[name] = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
                copies[name] = before[name].copy_(tensor, non_blocking=tensor.is_cuda)
            self._copies[file] = copies

    def _write(
        self, done: int, values: Mapping[str, Any] | None, is_best: bool, copied: torch.cuda.Event | None
    ) -> None:
        if copied is not None:
            copied.synchronize()
        task, folder = self.session.task, self.session.folder
        if is_best:
            task.state.export(folder.weights(task.stage, "-best"), done, self._copies)
        if values is not None:
            # The model first: a run that is killed in between writes it again from the step before.
            task.state.export(folder.weights(task.stage), done, self._copies)
            keep = task.loop.keep_last, task.loop.keep_every
            folder.commit(done, self._copies, values, keep=keep)
