"""Paths of image files: which files count, and in which order."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import NoReturn

from vqgan.errors import DataError, printable

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".tif", ".tiff"),
    *(".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".npy"),
)
"""Files with these endings are images; the format follows from the content."""


def list_images(folder: Path) -> list[str]:
    """Relative paths of all image files below a folder, in natural order, with ``/`` between folders.

    Files are not opened. Hidden files and folders are omitted. Links are followed after all real folders, and
    every folder is listed once: links in a circle end, and a folder keeps its real name.

    Raises:
        DataError: If the folder is missing, cannot be listed or holds no images.
    """
    paths: list[str] = []
    others: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    starts = [str(folder)]
    while starts:
        for here, folders, files in os.walk(starts.pop(0), onerror=_refuse):
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = [name for name in folders if not name.startswith(".")]
            starts += [path for name in folders if os.path.islink(path := os.path.join(here, name))]
            inside = os.path.join(here, "")[len(os.path.join(folder, "")) :].replace(os.sep, "/")
            for name in files:
                ending = os.path.splitext(name)[1].lower()
                if ending in ENDINGS and not name.startswith("."):
                    paths.append(inside + name)
                elif not name.startswith("."):
                    others[ending] += 1
        starts.sort(key=natural)
    if not paths:
        raise _no_images(folder, others)
    return sorted(paths, key=natural)


def _refuse(error: OSError) -> NoReturn:
    name, hint = printable(error.filename), "make it readable or move it away"
    problem = f"cannot list folder `{name}`: {error.strerror}"
    if isinstance(error, FileNotFoundError):
        problem = f"folder `{name}` does not exist"
        hint = "check the path; relative paths start in the current folder"
    elif isinstance(error, NotADirectoryError):
        problem = f"`{name}` is not a folder"
        hint = "give the folder that holds the images, or a text file of paths"
    raise DataError(problem, hint=hint) from None


def _no_images(folder: Path, others: Counter[str]) -> DataError:
    name = printable(folder)
    if not others:
        return DataError(
            f"folder `{name}` holds no images: it is empty", hint="give a folder that holds images"
        )
    kinds = ", ".join(
        f"{count} {f'`{printable(ending)}`' if ending else 'without an ending'}"
        for ending, count in others.most_common(5)
    )
    more = f", {len(others) - 5} more kinds" if len(others) > 5 else ""
    return DataError(
        f"folder `{name}` holds no images: {others.total()} other files were seen ({kinds}{more})",
        hint=f"images end in {', '.join(ENDINGS)}; MNIST's files are the data source `idx:{name}`",
    )


def natural(path: str) -> tuple[list[list[str | int]], str]:
    """Sorting key that puts ``a2`` before ``a10``, folder by folder.

    Example:
        >>> sorted(["a10.png", "a2.png", "b/1.png", "a/3.png"], key=natural)
        ['a/3.png', 'a2.png', 'a10.png', 'b/1.png']
    """
    folders: list[list[str | int]] = []
    for name in path.split("/"):
        pieces = re.split(r"([0-9]+)", name)  # text and digits take turns, so equal positions compare
        folders.append([int(piece) if i % 2 else piece for i, piece in enumerate(pieces)])
    return folders, path
