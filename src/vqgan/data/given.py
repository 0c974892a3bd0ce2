"""Images given in Python: paths, arrays, data sets of PyTorch."""

import hashlib
import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from vqgan.config import Config
from vqgan.data.image_files import FileSource
from vqgan.data.source import ArraySource, Item, Source
from vqgan.errors import DataError, require
from vqgan.images import map_pixels, pixels_of

logger = logging.getLogger(__name__)


class MemoryConfig(Config, frozen=True, tag_field="kind", tag="memory"):
    """Placeholder in a run's file for images that were given in Python."""


@runtime_checkable
class Items(Protocol):
    """Things by number: a list, an array, a map-style data set."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class ItemSource(Source):
    """Images of a list or a map-style data set.

    Args:
        name: What it is.
        items: Each is an image, (image, class) or (image, caption). An image is a PIL picture, an array (H W) or (H W
            c) or a tensor (c H W), of uint8, uint16 or floats in [0, 1]; a class is a whole number, whose name is in
            ``items.classes`` where that exists; a caption is a text, or a list of several.

    Raises:
        DataError: If there is no item, or classes must be counted or captions read, and an item cannot be read.
    """

    max_checked = 100

    def __init__(self, name: str, items: Items) -> None:
        if not len(items):
            raise DataError(f"{name} holds no images")
        self.name = name
        self.class_names: tuple[str, ...] = ()
        self._items = items
        label, names = self._item(0)[1], getattr(items, "classes", None)
        found = (self._item(index)[1] for index in range(len(items)))
        if isinstance(label, tuple):
            self.captions = [each if isinstance(each, tuple) else () for each in found]
        elif label is not None:
            if names is None:
                names = range(1 + max(each for each in found if isinstance(each, int)))
            self.class_names = tuple(map(str, names))

    def __len__(self) -> int:
        return len(self._items)

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """Reads an item in this number of channels.

        Raises:
            DataError: If reading raises an error, the item is not an image, or its class is unknown.
        """
        image, label = self._image(index)
        return Item(pixels_of(image, channels, "the image", "a PIL picture, an array or a tensor"), label)

    def read_map(self, index: int, labels: int = 0) -> Item:
        """Reads an item as a map: the numbers of an array, the indices of a picture with a palette.

        Raises:
            DataError: If reading raises an error, or the item is not such a map.
        """
        image, label = self._image(index)
        return Item(map_pixels(np.asarray(image), labels), label)

    def _image(self, index: int) -> tuple[Any, int | None]:
        """An item with the channels last, and its class, which is checked."""
        image, label = self._item(index)
        count = len(self.class_names)
        if self.captions:
            if not isinstance(label, tuple):
                raise DataError("it has no caption, and the first image has one")
            label = None
        if isinstance(label, tuple) or label not in (range(count) if count else (None,)):
            expected = f"0 to {count - 1}" if count else "none, like the first image"
            raise DataError(f"its class is {label}, expected {expected}")
        if isinstance(image, Tensor):
            image = (image.movedim(-3, -1) if image.ndim > 2 else image).numpy(force=True)
        return image, label

    def _item(self, index: int) -> tuple[Any, int | tuple[str, ...] | None]:
        try:
            item = self._items[index]
            image, label = item if isinstance(item, tuple | list) else (item, None)
            if isinstance(label, str | tuple | list):
                texts = (label,) if isinstance(label, str) else tuple(label)
                if not (texts and all(text.strip() for text in texts)):
                    raise ValueError("a caption is empty")
                return image, texts
            return image, None if label is None else int(label)
        except MemoryError:  # says nothing about the item
            raise
        except Exception as error:
            raise DataError(f"cannot read `{self.label(index)}`: {type(error).__name__}: {error}") from error

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the number of images, their classes, and of 64 images if they are equal when read again."""
        digest = hashlib.sha256(repr((len(self), self.class_names)).encode())
        digest.update(repr(self.captions).encode() if self.captions else b"")
        first, again = ([*map(self._hash, self.spread(64))] for _ in range(2))
        if first == again:
            digest.update(b"".join(first))
        else:
            what = "`%s` gives other images when read again; use `data.crop` and `data.flip`, which can be repeated"
            logger.warning(what, self.name)
        return digest.hexdigest()

    def _hash(self, index: int) -> bytes:
        try:
            item = self.read(index)
        except DataError as error:
            return hashlib.sha256(error.message.encode()).digest()
        shape = repr((item.pixels.shape, item.class_index)).encode()
        return hashlib.sha256(shape + item.pixels.tobytes()).digest()


def given_source(data: Items) -> Source:
    """The source of what was given in Python: paths, an array (n H W c), images, or a data set.

    Raises:
        ConfigError: If it is none of these.
        DataError: As :class:`ItemSource`.
    """
    require(
        isinstance(data, Items) and not isinstance(data, Mapping | bytes) and getattr(data, "ndim", 4) == 4,
        f"the data is a {type(data).__name__}{getattr(data, 'shape', '')}, expected the name of a source, a list of "
        "paths, an array (n H W c), a list of images, or a data set with `__len__` and `__getitem__`",
        hint="an image is a PIL picture, an array or a tensor (c H W), either by itself or as (image, class)",
    )
    if isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.size:
        return ArraySource(name="the array", images=data)
    if isinstance(data, list | tuple) and data and all(isinstance(each, str | Path) for each in data):
        paths = [Path(path).expanduser().as_posix() for path in data]
        return FileSource(name="the given paths", root=Path(), paths=paths)
    return ItemSource(f"the {type(data).__name__}", data)
