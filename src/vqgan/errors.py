"""The errors that this package raises on purpose, each with the exit code of the command line.

::

    VqganError
    ├── ConfigError      2   usage, arguments, sizes, missing extras (also a ValueError)
    ├── DataError        3   images or sources that cannot be used
    ├── DivergedError    4   training produced a number that is not finite
    ├── CheckpointError  5   a weights file or a run folder that cannot be used
    ├── OutputError      6   the disk is full, read-only or not ours
    └── Preempted       75   stopped by SIGINT, SIGTERM or SIGUSR1 after saving; the run can be resumed
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, ClassVar


class VqganError(Exception):
    """A mistake or a condition that a user can act on.

    Args:
        message: What is wrong, with the value, and what was expected; lower case, names in backticks.
        hint: What to do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Survives the way back from a data-loading process with its hint."""
        return (_rebuild, (type(self), self.message, self.hint))


class ConfigError(VqganError, ValueError):
    """An argument, a configuration or a size that does not fit."""

    exit_code = 2


class DataError(VqganError):
    """Images or data sources that cannot be used."""

    exit_code = 3


class DivergedError(VqganError):
    """Training produced a number that is not finite."""

    exit_code = 4


class CheckpointError(VqganError):
    """A weights file or run folder that cannot be used."""

    exit_code = 5


class OutputError(VqganError):
    """Results that cannot be written."""

    exit_code = 6


class Preempted(VqganError):  # noqa: N818  (an event, not a failure)
    """Training was stopped on request; everything is saved and the run can be resumed."""

    exit_code = 75


def _rebuild(kind: type[VqganError], message: str, hint: str) -> VqganError:
    return kind(message, hint=hint)


def printable(text: object) -> str:
    """A path or a text from a file as one line that every terminal can show and none takes for a command.

    Example:
        >>> print(printable("a\\x1b[2J\\n\\udce9"))
        a\\x1b[2J\\n\\xe9
    """
    shown = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))
    return "".join(letter.replace(r"\udc", r"\x") for letter in shown)  # bytes of a path that is not UTF-8


def reason_of(error: OSError) -> str:
    """Why the operating system refused something: in its words if it has any, in lower case.

    Example:
        >>> reason_of(FileNotFoundError(2, "No such file or directory"))
        'no such file or directory'
    """
    return (error.strerror or str(error)).lower()


def closest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or lists them all when none is near.

    Example:
        >>> closest("depht", ["depth", "width"])
        'did you mean `depth`?'
        >>> closest("x", ["depth", "width"])
        'known: `depth`, `width`'
    """
    names = sorted(known)
    plain = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(word.casefold(), plain, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{plain[near[0]]}`?"
    return "known: " + (", ".join(f"`{name}`" for name in names) or "none")


def require(condition: bool, message: str, *, hint: str = "") -> None:
    """Raises ConfigError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(message, hint=hint)


@contextmanager
def needing(package: str, what: str, extra: str) -> Iterator[None]:
    """Around the import of an optional package: ConfigError names the extra that installs it if it is not there."""
    try:
        yield
    except ImportError:
        hint = f'install the extra `{extra}`: pip install "vqgan[{extra}]"'
        raise ConfigError(f"{what} needs {package}, which is not installed", hint=hint) from None


def require_share(name: str, share: Any, *, hint: str) -> None:
    """Raises ConfigError unless ``0 < share <= 1``; ``name`` is what messages call it."""
    is_share = isinstance(share, Real) and 0 < float(share) <= 1
    require(is_share, f"`{name}` is {share!r}, expected 0 < share <= 1", hint=hint)
