"""Images in files: those of a folder and its sub-folders, of a text file that lists them, or of given paths."""

import hashlib
import logging
import os
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np

from vqgan.config import Config
from vqgan.data.source import Item, Source
from vqgan.errors import DataError, printable, reason_of
from vqgan.images import check_image, list_images, map_pixels, picture_size, read_map, read_pixels
from vqgan.images.paths import natural
from vqgan.images.reading import File

logger = logging.getLogger(__name__)

TRAIN_FOLDER, HELD_OUT_FOLDERS = "train", ("val", "valid", "validation", "test")
"""Sub-folders that are the two parts of a folder; of several to hold out, the first counts."""

WhichFrames = Literal["first", "all"]
"""Which frames of an animation are images: only the first, or each."""


class FileSource(Source):
    """Images in files. Before a training, the headers of at most 2,000 files are checked, evenly spread.

    Args:
        name: What the source is.
        root: The folder that relative paths refer to.
        paths: The files, with ``/`` between folders.
        classes: The class name of each file; empty when there are none, an empty name where one is unknown.
        frames: Which frames of an animation are images.
        heldout_folder: The folder of the held-out images, if there is one.
    """

    max_checked = 2000
    shift = 0  # what is added to the numbers of label maps, modulo 256

    def __init__(
        self,
        *,
        name: str,
        root: Path,
        paths: Sequence[str],
        classes: Sequence[str] = (),
        frames: WhichFrames = "first",
        heldout_folder: str = "",
    ) -> None:
        self.name = name
        self.class_names = tuple(sorted(set(classes) - {""}, key=natural))
        self._root, self._first_only = root, frames == "first"
        numbers = {class_name: number for number, class_name in enumerate(self.class_names)}
        images = (
            (path, numbers.get(class_name), frame)
            for path, class_name in zip_longest(paths, classes)
            for frame in range(1 if self._first_only else _num_frames(root / path))
        )
        self._paths, self._classes, self._frames = zip(*images, strict=True)
        if heldout_folder:
            self.held_out = np.array([path.startswith(f"{heldout_folder}/") for path in self._paths])

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """Reads a file in this number of channels.

        Raises:
            DataError: If the file cannot be read.
        """
        file, frame = self._file(index), self._frames[index]
        pixels = read_pixels(file, channels, frame=frame, smallest_side=smallest_side)
        return Item(pixels, self._classes[index])

    def read_map(self, index: int, labels: int = 0) -> Item:
        """Reads a file as a map: the numbers of its pixels, with a palette its indices, or values of any precision.

        Raises:
            DataError: If the file cannot be read as such.
        """
        values = read_map(self._file(index), 1, labels, shift=self.shift)
        return Item(map_pixels(values, labels), self._classes[index])

    def check(self, index: int, channels: int) -> int:
        """Checks the header of a file."""
        frames = check_image(self._file(index), channels)
        return frames if self._first_only else 1

    def size(self, index: int) -> tuple[int, int]:
        """Rows and columns by the header of a file."""
        return picture_size(self._file(index))

    def _file(self, index: int) -> File:
        """Where the file of an image is, or what it holds."""
        return self._root / self._paths[index]

    def label(self, index: int) -> str:
        """The path of the file, and the number of a later frame."""
        frame = self._frames[index]
        return printable(self._root / self._paths[index]) + (f"[{frame}]" if frame else "")

    def keys(self) -> list[bytes]:
        """What identifies each file, wherever the folder is: its relative path, the same for all frames."""
        return [os.fsencode(path) for path in self._paths]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the relative paths, sizes and classes, not of the contents."""
        digest = hashlib.sha256("\0".join(self.class_names).encode("utf-8", "surrogateescape"))
        for path, class_index in zip(self._paths, self._classes, strict=True):
            try:
                size = (self._root / path).stat().st_size
            except OSError:  # a broken link stays in the list; reading it gives the reason
                size = -1
            number = -1 if class_index is None else class_index
            digest.update(b"%s\0%d\0%d\n" % (os.fsencode(path), size, number))
        return digest.hexdigest()


class PackedSource(FileSource):
    """Images inside other files. What lacks a class or a caption that others have cannot be read.

    Args:
        name: What the source is.
        keys: What identifies each image; ``classes`` and ``captions`` are empty where an image has none.
    """

    def __init__(
        self, *, name: str, keys: Sequence[str], classes: Sequence[str], captions: Sequence[tuple[str, ...]]
    ) -> None:
        super().__init__(name=name, root=Path(), paths=keys, classes=classes if any(classes) else ())
        self.captions = captions if any(captions) else ()

    @abstractmethod
    def _open(self, index: int) -> File: ...

    def _file(self, index: int) -> File:
        label = self.label(index)
        try:
            if self.class_names and self._classes[index] is None:
                raise ValueError("it has no class")
            if self.captions and not self.captions[index]:
                raise ValueError("it has no caption")
            return self._open(index)
        except MemoryError:  # says nothing about the image
            raise
        except Exception as error:
            raise DataError(f"cannot read `{label}`: {printable(error)}") from None

    def label(self, index: int) -> str:
        """The source's name and the number."""
        return f"{self.name}[{index}]"

    @cached_property
    def fingerprint(self) -> str:
        """A hash of keys, classes and captions, and of 64 images."""
        digest = hashlib.sha256(repr((self.class_names, self._paths, self._classes, self.captions)).encode())
        for index in self.spread(64):
            with suppress(DataError):
                digest.update(getattr(self._file(index), "data", b""))
        return digest.hexdigest()


def _num_frames(path: Path) -> int:
    try:
        return check_image(path, 3)
    except DataError:  # the loader reports it
        return 1


class FolderConfig(Config, frozen=True, tag_field="kind", tag="folder"):
    """All images below a folder.

    Attributes:
        path: The folder. When every image lies in a sub-folder, the first part of its relative path is its
            class; images directly in the folder mean that there are no classes. A single folder around the
            classes is skipped. ``train`` and ``val`` (or ``valid``, ``validation``, ``test``) are the part
            to train on and the one held out, with the classes inside them.
    """

    path: str


def open_folder(config: FolderConfig, frames: WhichFrames = "first") -> FileSource:
    """Lists a folder; its sub-folders are classes or the two parts.

    A file with an image's ending that cannot be read stays in the list: the loader reports it.

    Raises:
        DataError: As :func:`list_images`; or if a class is held out that is not trained on.
    """
    root = given = Path(config.path).expanduser()
    paths = list_images(root)
    while all(path.count("/") > 1 for path in paths) and len({path.partition("/")[0] for path in paths}) == 1:
        root /= paths[0].partition("/")[0]
        paths = [path.partition("/")[2] for path in paths]
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    heldout = next((name for name in HELD_OUT_FOLDERS if TRAIN_FOLDER in tops and name in tops), "")
    used = [path for path in paths if not heldout or path.startswith((f"{TRAIN_FOLDER}/", f"{heldout}/"))]
    depth = 1 if heldout else 0
    inside = all(path.count("/") > depth for path in used)
    classes = [path.split("/")[depth] for path in used] if inside else []
    trained = {name for path, name in zip(used, classes, strict=False) if path.startswith(f"{TRAIN_FOLDER}/")}
    if heldout and (unknown := sorted(set(classes) - trained, key=natural)):
        raise DataError(
            f"`{printable(root / heldout)}` has the class `{printable(unknown[0])}`, which `{TRAIN_FOLDER}` lacks",
            hint="to train without classes, name the two folders separately: `data=` and `eval_data=`",
        )
    source = FileSource(
        name=printable(root), root=root, paths=used, classes=classes, frames=frames, heldout_folder=heldout
    )
    if root != given or source.held_out is not None:
        count, elsewhere = len(source.class_names), len(paths) - len(used)
        kinds = f"in {count} class{'es' * (count > 1)}" if inside else "without classes"
        part = (
            "" if source.held_out is None else f"; {source.held_out.sum():,} held out come from `{heldout}`"
        )
        rest = f"; {elsewhere:,} elsewhere are ignored" if elsewhere else ""
        logger.info("`%s`: %s images %s%s%s", source.name, f"{len(source):,}", kinds, part, rest)
    return source


class ListConfig(Config, frozen=True, tag_field="kind", tag="list"):
    """The images that a text file lists.

    Attributes:
        path: The text file. Each line is a path, relative to the file's folder, optionally followed by a tab
            and the class. Blank lines and lines that begin with ``#`` are ignored.
    """

    path: str


def open_list(config: ListConfig, frames: WhichFrames = "first") -> FileSource:
    """Reads the list. The order is the file's.

    Raises:
        DataError: If the file is missing, not a text file or empty, or only some lines have a class.
    """
    file = Path(config.path).expanduser()
    name = printable(file)
    paths: list[str] = []
    classes: list[str] = []
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        path, _, class_name = line.partition("\t")
        paths.append(Path(path.strip()).as_posix())
        if class_name.strip():
            classes.append(class_name.strip())
        if len(classes) not in (0, len(paths)):
            raise DataError(
                f"line {number} of list `{name}` differs from those before: every line needs a class, or none "
                "may have one",
                hint="write the path, a tab and the class",
            )
    if not paths:
        raise DataError(f"list `{name}` names no images", hint="write one path a line")
    return FileSource(name=name, root=file.parent, paths=paths, classes=classes, frames=frames)


def read_lines(file: Path) -> list[str]:
    """The lines of a text file. Raises DataError if it cannot be read or is none."""
    name = printable(file)
    try:
        # Paths are bytes on most systems; what is not UTF-8 survives this way.
        text = file.read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(f"cannot read list `{name}`: {reason_of(error)}", hint="check the path") from None
    if "\0" in text:
        hint = "a list is a text file with one path a line; to use images themselves, give their folder"
        raise DataError(f"list `{name}` is not a text file", hint=hint)
    return text.split("\n")
