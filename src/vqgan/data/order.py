"""Which image a sample is and what chance does to it: pure functions of (seed, sample number).

A run numbers its samples from 0 without end; with n images, samples e·n to (e+1)·n - 1 are epoch e. Nothing
is remembered between samples, so a run can begin anywhere and be shared by any number of processes.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

TRIES = 100
"""How many images are tried in the place of one that cannot be read."""

_ORDER, _AUGMENTATION = 0, 1


def _bits(seed: int, number: int, purpose: int) -> np.random.Philox:
    """A stream of its own for each (seed, number, purpose); streams are 2^192 draws long."""
    key = np.array([seed, number], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, purpose], dtype=np.uint64))


@lru_cache(maxsize=2)  # the batch at the end of an epoch also needs the next one
def permutation(size: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """The order of one epoch, from raw random bits: these never change with the version of numpy."""
    order = np.argsort(_bits(seed, epoch, _ORDER).random_raw(size), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def candidates(sample: int, size: int, seed: int) -> Iterator[int]:
    """The image of a sample, then those that take its place if it cannot be read.

    They are the images that follow in the epoch's order (after the last comes the first), at most ``TRIES``.

    Example:
        >>> sorted(next(candidates(sample, size=5, seed=7)) for sample in range(5))
        [0, 1, 2, 3, 4]
    """
    epoch, position = divmod(sample, size)
    order = permutation(size, seed, epoch)
    return (int(order[(position + attempt) % size]) for attempt in range(min(size, TRIES)))


def augmentation(sample: int, seed: int) -> np.random.Generator:
    """Chance for the augmentation of one sample, whichever image it shows in the end."""
    return np.random.Generator(_bits(seed, sample, _AUGMENTATION))
