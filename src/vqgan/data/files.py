"""A source whose images are files, one each; where the list comes from is not its matter."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vqgan.data.base import Item, Source
from vqgan.errors import DataError
from vqgan.images import check_image, printable, read_pixels
from vqgan.images.paths import natural

WhichFrames = Literal["first", "all"]
"""Of an animation: its first frame alone, or each as an image of its own."""


class FileSource(Source):
    """Images in files.

    Of at most 2,000 of them, evenly spread, the headers are checked before a training.

    Args:
        name: What the source is.
        root: The folder that relative paths refer to.
        paths: The files, with ``/`` between folders.
        classes: The class name of each file; empty when there are none.
        frames: Which frames of an animation are images.
    """

    checked = 2000

    def __init__(
        self,
        *,
        name: str,
        root: Path,
        paths: Sequence[str],
        classes: Sequence[str] = (),
        frames: WhichFrames = "first",
    ) -> None:
        self._frames, self._first_only = [0] * len(paths), frames == "first"
        if frames == "all":
            counts = [_num_frames(root / path) for path in paths]
            paths = [path for path, count in zip(paths, counts, strict=True) for _ in range(count)]
            classes = [name for name, count in zip(classes, counts, strict=False) for _ in range(count)]
            self._frames = [frame for count in counts for frame in range(count)]
        self.name = name
        self.channels = 3
        self.class_names = tuple(sorted(set(classes), key=natural))
        self._root = root
        self._paths = tuple(paths)
        numbers = {class_name: number for number, class_name in enumerate(self.class_names)}
        self._classes = tuple(numbers[class_name] for class_name in classes)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """Decodes a file: as RGB, or in more channels where these are wanted.

        Raises:
            DataError: If the file cannot be read.
        """
        path, frame = self._root / self._paths[index], self._frames[index]
        wanted = 3 if channels == 1 else channels
        pixels = read_pixels(path, wanted, frame=frame, smallest_side=smallest_side)
        return Item(pixels, self._classes[index] if self._classes else None)

    def check(self, index: int, channels: int) -> int:
        """Looks at the header of a file."""
        frames = check_image(self._root / self._paths[index], channels)
        return frames if self._first_only else 1

    def label(self, index: int) -> str:
        """The path of the file, and the number of a later frame."""
        frame = self._frames[index]
        return printable(self._root / self._paths[index]) + (f"[{frame}]" if frame else "")

    def keys(self) -> list[bytes]:
        """What identifies each file, wherever the folder lies: its relative path, of all frames the same."""
        return [os.fsencode(path) for path in self._paths]

    def fingerprint(self) -> str:
        """A hash of the relative paths, sizes and classes, not of the contents."""
        digest = hashlib.sha256("\0".join(self.class_names).encode("utf-8", "surrogateescape"))
        for number, path in enumerate(self._paths):
            try:
                size = (self._root / path).stat().st_size
            except OSError:  # a link to nowhere stays in the list; reading it says why it is skipped
                size = -1
            class_number = self._classes[number] if self._classes else -1
            digest.update(b"%s\0%d\0%d\n" % (os.fsencode(path), size, class_number))
        return digest.hexdigest()


def _num_frames(path: Path) -> int:
    try:
        return check_image(path, 3)
    except DataError:  # the loader says why
        return 1
