"""Frames with those that came before them, and with what was done in between."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial

import numpy as np

from vqgan.data.source import Item, Part, Source
from vqgan.errors import DataError
from vqgan.types import ACTION


class Consecutive(Part):
    """All frames of a source that have one before them, each with ``count`` earlier ones.

    Where an episode has begun fewer frames ago, its first one stands for those that are missing, as is usual for Atari.

    Args:
        frames: The source, of which ``steps`` is known.
        count: How many earlier frames.

    Raises:
        DataError: If its frames do not follow each other, or none has one before it.
    """

    def __init__(self, frames: Source, count: int) -> None:
        if frames.steps is None:
            raise DataError(
                f"the condition needs the frames before each image, but the images of `{frames.name}` do not follow "
                "each other",
                hint="give `data=` frames of games: `atari:GAME`, or `agc:FOLDER` of the Atari Grand Challenge",
            )
        places, episodes = np.arange(len(frames)), frames.steps.episodes
        is_first = np.diff(episodes, prepend=episodes[:1] - 1) != 0
        super().__init__(frames, places[~is_first])
        if not len(self):
            raise DataError(f"no frame of `{frames.name}` has one before it")
        self.names_of = {**self.names_of, ACTION: frames.steps.names}
        self._count, self._all_steps = count, frames.steps
        self._first = np.maximum.accumulate(np.where(is_first, places, 0))

    def places(self, index: int) -> list[int]:
        """Where frame ``index`` and those before it are in the whole source, the last first."""
        place = int(self._indices[index])
        return [max(int(self._first[place]), place - back) for back in range(self._count + 1)]

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """Reads the frame and those before it.

        Raises:
            DataError: If one of them cannot be read.
        """
        return self._with_earlier(
            index, partial(self._source.read, channels=channels, smallest_side=smallest_side)
        )

    def read_map(self, index: int, labels: int = 0) -> Item:
        """Reads the frame and those before it as maps."""
        return self._with_earlier(index, partial(self._source.read_map, labels=labels))

    def _with_earlier(self, index: int, read: Callable[[int], Item]) -> Item:
        item, *before = map(read, self.places(index))
        condition = {**item.condition, ACTION: int(self._all_steps.actions[self._indices[index]])}
        return replace(item, condition=condition, previous=[each.pixels for each in before])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the frames' and of how they follow each other."""
        steps = self._all_steps
        digest = hashlib.sha256(f"{self._source.fingerprint} {self._count} {steps.names}".encode())
        for numbers in (steps.episodes, steps.actions):
            digest.update(numbers.tobytes())
        return digest.hexdigest()
