"""Stopping on request: the first Ctrl-C or SIGTERM sets a flag, the second Ctrl-C stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):  # noqa: N818  (an event, not a failure)
    """Work that changes nothing, such as an evaluation, was broken off because the run is to stop."""


class StopRequest:
    """Whether somebody asked the run to stop; whatever takes long looks at it now and then."""

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
