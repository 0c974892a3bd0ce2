"""Requests to stop: signals set a flag, which long work looks at."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""A person's, the system's, and what batch systems send before a job's time is over."""


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
    """Inside the block signals only set the flag; outside the main thread nothing changes.

    A block within another has the same flag.
    """
    outer = signal.getsignal(signal.SIGINT)
    stop = outer if isinstance(outer, StopRequest) else StopRequest()
    if stop is outer or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
