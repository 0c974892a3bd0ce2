"""How much memory this process has held, and holds."""

import re
import sys
import threading
from pathlib import Path

_BETWEEN_LOOKS = 0.02
"""Seconds."""


def peak_memory() -> int:
    """The most memory that this process, or one it started, has held, in bytes; 0 where it is not known."""
    if sys.platform == "win32":
        return 0
    import resource

    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most if sys.platform == "darwin" else most * 1024


def held_memory() -> int:
    """The memory that this process holds now, in bytes, without files that are mapped; 0 where it is not known."""
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s+(\d+)", status.read_text(encoding="ascii")) if status.exists() else None
    return 1024 * int(found[1]) if found else 0


class MemoryWatch:
    """The most memory that this process holds while entered, looked at fifty times a second (Linux).

    Attributes:
        before: Bytes that it held before.
        most: Bytes.
    """

    def __enter__(self) -> "MemoryWatch":
        self.before = self.most = held_memory()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._ended.wait(_BETWEEN_LOOKS):
            self.most = max(self.most, held_memory())

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
