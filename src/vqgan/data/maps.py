"""Maps in files: a picture or a map of labels for each image."""

import hashlib
from functools import cached_property
from pathlib import Path

from vqgan.data.condition_reader import ConditionReader, key_of
from vqgan.errors import DataError
from vqgan.images import Map, list_images, read_map


class MapFolder(ConditionReader):
    """A folder with the paths of the images, whatever their endings.

    Args:
        path: The folder.
        channels: Of pictures.
        labels: How many labels there are; 0 for pictures.
        stretch: Whether each map fills the range of values by itself.

    Raises:
        DataError: If there is no such folder, or it holds no pictures.
    """

    def __init__(self, path: str, *, channels: int, labels: int, stretch: bool = False) -> None:
        self._root, self._channels, self._labels = Path(path).expanduser(), channels, labels
        self._stretch = stretch
        self._paths = {key_of(each): each for each in list_images(self._root)}
        self.keys = frozenset(self._paths)

    def read(self, key: str) -> Map:
        """The map of an image."""
        return read_map(self._root / self._paths[key], self._channels, self._labels, stretch=self._stretch)

    def check(self, key: str, size: tuple[int, int]) -> None:
        """Reads it, and compares its size."""
        rows, columns = self.read(key).shape[:2]
        if (rows, columns) != size:
            raise DataError(f"it has {rows}x{columns} pixels, the image {size[0]}x{size[1]}")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the keys and the sizes of the files, not of the contents."""
        digest = hashlib.sha256(repr((self._channels, self._labels, self._stretch)).encode())
        for key, path in sorted(self._paths.items()):
            digest.update(f"{key}\0{(self._root / path).stat().st_size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
