"""What every data source offers, and how a part of it is held out."""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from vqgan.images import Map, Pixels, Pose, map_pixels
from vqgan.layout import Layout

logger = logging.getLogger(__name__)

Split = Literal["train", "heldout", "all"]
"""A part of a source: what is trained on, what is never trained on, or both."""

HELD_OUT_SHARE = 1 / 20
"""Share of a source that is held out, unless the source has its own held-out images."""


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Attributes:
        pixels: The whole image.
        class_index: Position in the source's ``class_names``; None if the source has no classes.
        condition: Maps of the image's size, poses, layouts, and numbers of classes, by name.
        previous: The frames that came before, the last first, in the image's size.
    """

    pixels: Pixels
    class_index: int | None
    condition: Mapping[str, Map | Pose | Layout | int] = field(default_factory=dict)
    previous: Sequence[Pixels] = ()


@dataclass(frozen=True, eq=False)
class Steps:
    """How the images of a source follow each other in time.

    Attributes:
        episodes: The number of the episode of each image; the images of one stand together, in the order of time.
        actions: What was done between the image before and this one. What the first of an episode has does not count.
        names: Of the actions.
    """

    episodes: Int64[np.ndarray, " n"]
    actions: Int64[np.ndarray, " n"]
    names: tuple[str, ...]

    def of(self, chosen: np.ndarray) -> "Steps":
        """Those of some images, which are whole episodes."""
        return Steps(self.episodes[chosen], self.actions[chosen], self.names)


class Source(ABC):
    """Images by number, in an order that depends only on the data. Instances can be pickled.

    A source is opened once, as a whole; :meth:`part` gives its training or held-out images.

    Attributes:
        name: What the source is, for messages.
        class_names: Names of the classes; empty when the images have none.
        held_out: Which images the source itself holds out (other files, other games); None where it has no
            such images; a share of all is held out then.
        names_of: Names of the classes of other conditions, by the condition's name.
        steps: How the images follow each other, if they are frames of games or films.
        captions: What is said of each image, one or more texts; empty when the images have none.
        max_checked: At most this many images are checked before a training; none where reading cannot fail.
    """

    name: str
    class_names: tuple[str, ...]
    held_out: Bool[np.ndarray, " n"] | None = None
    names_of: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    steps: Steps | None = None
    captions: Sequence[Sequence[str]] = ()
    max_checked: int = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """Reads image ``index``, ``0 <= index < len(self)``.

        Args:
            index: Which one.
            channels: How many are wanted. Images in memory keep theirs.
            smallest_side: A larger image may come smaller, if its shorter side keeps this length: large
                photographs are decoded faster this way.

        Raises:
            DataError: If the image cannot be read.
        """

    def read_map(self, index: int, labels: int = 0) -> Item:
        """Reads image ``index`` as a map, by default of a grey image: see :func:`~vqgan.images.map_pixels`.

        Raises:
            DataError: If it cannot be read as such.
        """
        item = self.read(index, 1)
        return replace(item, pixels=map_pixels(item.pixels, labels))

    def label(self, index: int) -> str:
        """The path or name of image ``index``, for messages; by default the source's name and the number."""
        return f"{self.name}[{index}]"

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Equal for equal data, wherever it is stored; a run continues only with equal data."""

    def check(self, index: int, channels: int) -> int:
        """Checks that image ``index`` can be read, by default by reading it, and counts the frames that begin with it.

        Raises:
            DataError: If it cannot.
        """
        self.read(index, channels)
        return 1

    def size(self, index: int) -> tuple[int, int]:
        """Rows and columns of image ``index``, by default by reading it.

        Raises:
            DataError: If it cannot be read.
        """
        rows, columns, _ = self.read(index).pixels.shape
        return rows, columns

    def keys(self) -> list[bytes]:
        """What identifies each image when some are held out: by default its number, or that of its episode."""
        numbers = range(len(self)) if self.steps is None else self.steps.episodes.tolist()
        return [str(number).encode() for number in numbers]

    def spread(self, most: int | None = None) -> list[int]:
        """Numbers of at most so many images, evenly spread over the source; by default of all."""
        count = len(self) if most is None else min(most, len(self))
        return [number * len(self) // count for number in range(count)]

    def part(self, split: Split) -> "Source":
        """The images to train on, those held out, or all; which part an image is in depends only on its key.

        Held out are the source's own held-out images, else every image whose key's hash is in the lowest 5 %:
        images added later never move another image to the other part. Small sources are an exception, because
        neither part may be empty. If no hash is in the lowest 5 % (in one of three sources of 20 images, in one
        of 170 with 100), the image with the smallest is held out; if all are, the one with the largest is not.
        Such an image may change sides when images are added. A single image (or file, with its frames) is in both
        parts. In these cases ``"heldout"`` logs a warning.
        """
        if split == "all":
            return self
        held_out = self.held_out
        if held_out is None:
            hashes = np.array([_hash(key) for key in self.keys()], dtype=np.uint64)
            if self.steps is not None:  # an episode has the hash of its first image
                _, first, which = np.unique(self.steps.episodes, return_index=True, return_inverse=True)
                hashes = hashes[first[which]]
            low, high = hashes.min(), hashes.max()
            below = hashes < np.uint64(HELD_OUT_SHARE * 2**64)
            if split == "heldout" and low == high:
                logger.warning(
                    "`%s` is one image: it is trained on, and there are no held-out numbers", self.name
                )
            elif split == "heldout" and (below.all() or not below.any()):
                logger.warning(
                    "`%s` has too few images (%d) to hold some out permanently: when more are added, a held-out image "
                    "may be trained on; `eval_data=` names your own held-out images",
                    self.name,
                    len(self),
                )
            if low == high:
                return self
            held_out = (below | (hashes == low)) & (hashes != high)
        return Part(self, np.flatnonzero(held_out == (split == "heldout")).astype(np.int64))


@dataclass(eq=False, kw_only=True)
class ArraySource(Source):
    """Images that fit into memory.

    Attributes:
        name: What the source is.
        images: All images.
        classes: The class of each image, or None.
        class_names: Names of the classes.
        held_out: Which of them are held out, or None.
        steps: How they follow each other, or None.
    """

    name: str
    images: UInt8[np.ndarray, "n H W c"]
    classes: Int64[np.ndarray, " n"] | None = None
    class_names: tuple[str, ...] = ()
    held_out: Bool[np.ndarray, " n"] | None = None
    steps: Steps | None = None

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """The image and its class; cannot fail."""
        return Item(self.images[index], None if self.classes is None else int(self.classes[index]))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the pixels and classes."""
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        if self.classes is not None:
            digest.update(np.ascontiguousarray(self.classes).data)
        return digest.hexdigest()


class Part(Source):
    """Some or all images of another source, in its order.

    Args:
        source: The whole.
        indices: Numbers of the chosen images, ascending.
    """

    def __init__(self, source: Source, indices: Int64[np.ndarray, " n"]) -> None:
        self.name = source.name
        self.class_names = source.class_names
        self.max_checked = source.max_checked
        self.names_of = dict(source.names_of)
        self.steps = None if source.steps is None else source.steps.of(indices)
        self.captions = [source.captions[index] for index in indices] if source.captions else ()
        self._source = source
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """Image ``index`` of the part."""
        return self._source.read(int(self._indices[index]), channels, smallest_side)

    def read_map(self, index: int, labels: int = 0) -> Item:
        """Image ``index`` of the part as a map."""
        return self._source.read_map(int(self._indices[index]), labels)

    def check(self, index: int, channels: int) -> int:
        """Checks image ``index`` of the part."""
        return self._source.check(int(self._indices[index]), channels)

    def size(self, index: int) -> tuple[int, int]:
        """Rows and columns of image ``index`` of the part."""
        return self._source.size(int(self._indices[index]))

    def label(self, index: int) -> str:
        """The image's label in the whole."""
        return self._source.label(int(self._indices[index]))

    def keys(self) -> list[bytes]:
        """What identifies the images in the whole."""
        keys = self._source.keys()
        return [keys[index] for index in self._indices]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the whole's fingerprint and of the choice."""
        return hashlib.sha256(self._source.fingerprint.encode() + self._indices.tobytes()).hexdigest()


def _hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
