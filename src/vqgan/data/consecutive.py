"""Frames with those that came before them, and with what was done in between."""

import hashlib
from functools import cached_property

import numpy as np

from vqgan.data.source import Item, Source
from vqgan.errors import DataError
from vqgan.images import Pixels
from vqgan.types import ACTION


class Consecutive(Source):
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
        self.frames, self._count, self._steps = frames, count, frames.steps
        self.name, self.class_names, self.max_checked = frames.name, frames.class_names, frames.max_checked
        self.names_of = {**frames.names_of, ACTION: frames.steps.names}
        places, episodes = np.arange(len(frames)), frames.steps.episodes
        is_first = np.diff(episodes, prepend=episodes[:1] - 1) != 0
        self._first, self._places = np.maximum.accumulate(np.where(is_first, places, 0)), places[~is_first]
        self.captions = [frames.captions[place] for place in self._places] if frames.captions else ()
        if not len(self._places):
            raise DataError(f"no frame of `{frames.name}` has one before it")

    def __len__(self) -> int:
        return len(self._places)

    def places(self, index: int) -> list[int]:
        """Where frame ``index`` and those before it are in the whole source, the last first."""
        place = int(self._places[index])
        first = int(self._first[place])
        return [max(first, place - back) for back in range(self._count + 1)]

    def action(self, index: int) -> int:
        """What was done before frame ``index``."""
        return int(self._steps.actions[self._places[index]])

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """Reads the frame and those before it.

        Raises:
            DataError: If one of them cannot be read.
        """
        item, *before = [self.frames.read(place, channels, smallest_side) for place in self.places(index)]
        condition = {**item.condition, ACTION: self.action(index)}
        previous: list[Pixels] = [each.pixels for each in before]
        return Item(item.pixels, item.class_index, condition, previous)

    def check(self, index: int, channels: int) -> int:
        """Checks the frame."""
        return self.frames.check(self.places(index)[0], channels)

    def size(self, index: int) -> tuple[int, int]:
        """That of the frame."""
        return self.frames.size(self.places(index)[0])

    def label(self, index: int) -> str:
        """That of the frame."""
        return self.frames.label(self.places(index)[0])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the frames' and of how they follow each other."""
        digest = hashlib.sha256(f"{self.frames.fingerprint} {self._count} {self._steps.names}".encode())
        for numbers in (self._steps.episodes, self._steps.actions):
            digest.update(numbers.tobytes())
        return digest.hexdigest()
