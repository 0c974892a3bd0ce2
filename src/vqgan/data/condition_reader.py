"""What reads one condition of images, and how it knows which value belongs to which image."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from vqgan.errors import DataError, printable, reason_of


class ConditionReader(ABC):
    """Values of one condition by the keys of images. Instances can be pickled.

    Attributes:
        class_names: Names of the classes, if the values are such.
        keys: The images that have a value; None if all may have one.
    """

    class_names: tuple[str, ...] = ()
    keys: frozenset[str] | None = None

    @abstractmethod
    def read(self, key: str) -> Any:
        """The value of an image that has one.

        Raises:
            DataError: If it cannot be read, or is not what the condition expects.
        """

    def has(self, key: str) -> bool:
        """Whether an image has a value."""
        return self.keys is None or key in self.keys

    def check(self, key: str, size: tuple[int, int]) -> None:
        """Raises DataError, with the reason alone, if the value does not fit an image of this height and width."""
        self.read(key)

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Equal for equal values, wherever they are stored."""


class InMemory(ConditionReader):
    """Values that were all read when it was opened."""

    _found: Mapping[str, Any]

    def read(self, key: str) -> Any:
        """The value of an image."""
        return self._found[key]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all values."""
        return hashlib.sha256(repr(sorted(self._found.items())).encode("utf-8", "replace")).hexdigest()


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file with their ends. Raises DataError if it cannot be read or is not UTF-8."""
    try:
        with path.expanduser().open(encoding="utf-8-sig") as file:
            return file.readlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is not a text file in UTF-8"
        message = f"cannot read the {what} `{printable(path)}`: {reason}"
        raise DataError(message, hint="check the path") from None


def key_of(path: str) -> str:
    """The key of an image: its path below the folder of the data, without its ending.

    Example:
        >>> key_of("cats/0.jpg"), key_of("12")
        ('cats/0', '12')
    """
    return os.path.splitext(path)[0]
