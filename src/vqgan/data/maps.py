"""Maps in files: a picture or a map of labels for each image."""

import hashlib
from functools import cached_property
from pathlib import Path

from vqgan.data.condition_reader import ConditionReader, key_of
from vqgan.errors import DataError, printable
from vqgan.images import Map, list_images, read_map


class MapFolder(ConditionReader):
    """A folder with the paths of the images, whatever their endings.

    Args:
        path: The folder.
        channels: Of pictures.
        labels: How many labels there are; 0 for pictures.
        stretch: Whether each map fills the range of values by itself.
        shift: What is added to labels, modulo 256.

    Raises:
        DataError: If there is no such folder, or it holds no pictures.
    """

    def __init__(
        self, path: str, *, channels: int, labels: int, stretch: bool = False, shift: int = 0
    ) -> None:
        self._root, self._channels, self._labels = Path(path).expanduser(), channels, labels
        self._stretch, self._shift = stretch, shift
        if self._root.is_file():
            what = f"`{printable(path)}` is a file, expected a folder with a map for each image"
            raise DataError(what, hint="give a folder, or of poses a JSON file")
        self._paths = {key_of(each): each for each in list_images(self._root)}
        self.keys = frozenset(self._paths)

    def read(self, key: str) -> Map:
        """The map of an image."""
        path = self._root / self._paths[key]
        return read_map(path, self._channels, self._labels, stretch=self._stretch, shift=self._shift)

    def check(self, key: str, size: tuple[int, int]) -> None:
        """Reads it, and compares its size."""
        rows, columns = self.read(key).shape[:2]
        if (rows, columns) != size:
            raise DataError(f"it has {rows}x{columns} pixels, the image {size[0]}x{size[1]}")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the keys and the sizes of the files, not of the contents."""
        kind = (self._channels, self._labels, self._stretch)
        digest = hashlib.sha256(f"{kind}{self._shift or ''}".encode())
        for key, path in sorted(self._paths.items()):
            digest.update(f"{key}\0{(self._root / path).stat().st_size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
