"""A folder of images, read with its sub-folders; a sub-folder's name is the class of what lies in it."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vqgan.config import Config
from vqgan.data.base import Part, Source, Split, split_source
from vqgan.data.files import FileSource, WhichFrames
from vqgan.errors import DataError
from vqgan.images import list_images, printable, save_png, to_float
from vqgan.images.paths import natural

logger = logging.getLogger(__name__)

TRAIN, HELD_OUT = "train", ("val", "valid", "validation", "test")
"""Sub-folders that are the two parts of a folder; of several to hold out, the first counts."""


class FolderConfig(Config, frozen=True, tag_field="kind", tag="folder"):
    """All images below a folder.

    Attributes:
        path: The folder. When every image lies in a sub-folder, the first part of its relative path is its
            class; images directly in the folder mean that there are no classes. A single folder around the
            classes is looked through. ``train`` and ``val`` (or ``valid``, ``validation``, ``test``) are the part
            to train on and the one held out, with the classes inside them.
    """

    path: str

    @classmethod
    def example(cls, folder: Path) -> "FolderConfig":
        """Two classes of four noise images."""
        pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (8, 10, 12, 3), np.uint8)
        for number, image in enumerate(to_float(pixels)):
            save_png(image, folder / "pictures" / f"class {number % 2}" / f"{number}.png")
        return cls(path=str(folder / "pictures"))


def open_folder(config: FolderConfig, split: Split, frames: WhichFrames = "first") -> Source:
    """Lists the folder (without opening its files) and takes a part of it.

    Hidden files and folders are left out. Links are followed, and every folder is read once, so that links in
    a circle end. What has an image's ending but cannot be read stays in the list: the loader reports it.

    Raises:
        DataError: If the folder is missing or unreadable, or holds no images; or a class is held out that is not
            trained on.
    """
    layout = read_layout(config)
    depth = 1 if layout.held_out else 0
    inside = all(path.count("/") > depth for path in layout.paths)
    classes = [path.split("/")[depth] for path in layout.paths] if inside else []
    name = printable(layout.root)
    source = FileSource(name=name, root=layout.root, paths=layout.paths, classes=classes, frames=frames)
    if layout.held_out and inside:
        _check_classes(layout)
    keys, beginning = source.keys(), os.fsencode(f"{layout.held_out}/")
    is_held_out = np.array([key.startswith(beginning) for key in keys])
    is_plain = not layout.held_out and layout.root == Path(config.path).expanduser()
    if split != "heldout" and not is_plain:
        count = len(source.class_names)
        kinds = f"in {count} class{'es' * (count > 1)}" if inside else "without classes"
        part = f"; {is_held_out.sum():,} held out come from `{layout.held_out}`" if layout.held_out else ""
        rest = f"; {layout.left_out:,} elsewhere are left out" if layout.left_out else ""
        logger.info("`%s`: %s images %s%s%s", name, f"{len(source):,}", kinds, part, rest)
    if split == "all" or not layout.held_out:
        return split_source(source, split)
    return Part(source, np.flatnonzero(is_held_out == (split == "heldout")))


class Layout(NamedTuple):
    """The folder that is meant, its images, its sub-folder of held-out ones or "", and how many images do not count."""

    root: Path
    paths: list[str]
    held_out: str
    left_out: int


def read_layout(config: FolderConfig) -> Layout:
    """Lists the folder and understands its sub-folders.

    Raises:
        DataError: As :func:`open_folder`.
    """
    root = Path(config.path).expanduser()
    paths = list_images(root)
    around = paths[0].partition("/")[0]
    while all(path.startswith(f"{around}/") and path.count("/") > 1 for path in paths):
        root, paths = root / around, [path.partition("/")[2] for path in paths]
        around = paths[0].partition("/")[0]
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    held_out = next((name for name in HELD_OUT if TRAIN in tops and name in tops), "")
    used = [path for path in paths if not held_out or path.startswith((f"{TRAIN}/", f"{held_out}/"))]
    return Layout(root, used, held_out, len(paths) - len(used))


def _check_classes(layout: Layout) -> None:
    """Raises DataError if a class of the held-out part is none of the other's."""
    train, held_out = (
        {path.split("/")[1] for path in layout.paths if path.startswith(f"{part}/")}
        for part in (TRAIN, layout.held_out)
    )
    if unknown := sorted(held_out - train, key=natural):
        raise DataError(
            f"`{printable(layout.root / layout.held_out)}` has the class `{printable(unknown[0])}`, "
            f"which `{TRAIN}` lacks",
            hint="to train without classes, name the two folders apart: `data=` and `eval_data=`",
        )
