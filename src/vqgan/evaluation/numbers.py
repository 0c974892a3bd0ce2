"""Numbers that say how sure they are and by which convention they were found, so that only like is compared."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vqgan.errors import ConfigError

PerPicture = Float[np.ndarray, " n"]

_NORMAL = 1.959964
"""Standard deviations around the mean that hold 95 % of a normal distribution."""

RESAMPLES = 2000
"""Of the bootstrap."""

_AT_ONCE = 1 << 22
"""Drawn values that are in memory at the same time."""


def mean_interval(values: PerPicture) -> tuple[float, float, float]:
    """The mean and its interval of 95 %, by drawing the pictures again with replacement; always the same draws.

    Example:
        >>> mean_interval(np.array([1.0, 1.0, 1.0]))
        (1.0, 1.0, 1.0)
    """
    draws, rows = np.random.default_rng(0), max(1, _AT_ONCE // len(values))
    counts = (min(rows, RESAMPLES - first) for first in range(0, RESAMPLES, rows))
    drawn = np.concatenate([draws.choice(values, (count, len(values))).mean(axis=1) for count in counts])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


@dataclass(frozen=True)
class Number:
    """A measured value.

    Attributes:
        value: It.
        count: Pictures, or tokens, that it was taken from.
        interval: Where 95 % of the values lie when the pictures are drawn again; None where that would be biased.
        note: What a reader must know of it.
    """

    value: float
    count: int
    interval: tuple[float, float] | None = None
    note: str = ""

    @classmethod
    def mean(cls, values: PerPicture, of: Callable[[float], float] = float, *, note: str = "") -> "Number":
        """The mean of one value for each picture, or a monotone function of it, with its interval."""
        mean, *ends = (of(value) for value in mean_interval(values))
        return cls(mean, len(values), (min(ends), max(ends)), note)

    @classmethod
    def share(cls, hits: PerPicture, *, note: str = "") -> "Number":
        """The share of pictures, 1 or 0 each, with Wilson's interval, which has a width also if all are equal."""
        count, share = len(hits), float(hits.mean())
        shrunk = 1 / (1 + _NORMAL**2 / count)
        middle = shrunk * (share + _NORMAL**2 / (2 * count))
        reach = shrunk * _NORMAL * math.sqrt(share * (1 - share) / count + _NORMAL**2 / (4 * count**2))
        return cls(share, count, (max(0.0, middle - reach), min(1.0, middle + reach)), note)

    def text(self) -> str:
        """The value, and its interval in brackets."""
        ends = "" if self.interval is None else " ({:.4g} to {:.4g})".format(*self.interval)
        return f"{self.value:.4g}{ends}"


Numbers = Mapping[str, Mapping[str, Number]]
"""For each part (``reconstruction``, ``codebook``, ...) its numbers by name."""

Conventions = Mapping[str, Any]
"""What numbers depend on beside the model: images, crop, size, precision, features, ..."""

_OF_ONE_NUMBER = ("lpips",)
"""Conventions of a number that some evaluations lack: these can be compared by all others."""


def compared(
    first: tuple[Conventions, Numbers], second: tuple[Conventions, Numbers]
) -> Iterator[tuple[str, str, Number, Number]]:
    """Part, name and both values of all numbers that two evaluations share.

    Raises:
        ConfigError: If they followed different conventions; it names the differences.
    """
    (ours, numbers), (theirs, others) = first, second
    lacking = {name for name in _OF_ONE_NUMBER if name not in ours or name not in theirs}
    names = [name for name in {**ours, **theirs} if name not in lacking]
    found = [name for name in names if ours.get(name) != theirs.get(name)]
    if found:
        what = "; ".join(f"`{name}` is {ours.get(name)} and {theirs.get(name)}" for name in found)
        hint = "evaluate both models with the same images and settings"
        raise ConfigError(f"the two evaluations cannot be compared: {what}", hint=hint)
    for part, values in numbers.items():
        for name, value in values.items():
            if name in others.get(part, {}):
                yield part, name, value, others[part][name]
