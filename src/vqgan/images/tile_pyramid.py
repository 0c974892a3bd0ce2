"""A picture as a pyramid of tiles and a page that zooms it, written while the picture is made."""

import html
import io
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt8

from vqgan.errors import OutputError, printable, require
from vqgan.images.pixels import MODES, Pixels
from vqgan.images.png_rows import PngRows, check_band, check_complete
from vqgan.images.writing import Info
from vqgan.output_files import output_errors, write_text
from vqgan.types import height_and_width

TILE = 256
"""Pixels of a tile's side. Tiles do not overlap."""

MARK = "<!-- written by vqgan -->"
"""By this line descriptions and pages are recognized as ours."""

_TILE_INFO, _TILE_MARK = {"Software": "vqgan"}, b"tEXtSoftware\0vqgan"


class TilePyramid:
    """A picture as tiles at every level of detail, in the Deep Zoom format, and a page that zooms and pans it.

    ``NAME.dzi`` describes the picture, ``NAME_files/LEVEL/COLUMN_ROW.png`` are its tiles of 256x256 pixels (smaller
    at the right and below) without overlap. Each level has half the size of the next, rounded up, down to one pixel
    at level 0; its pixels are means of 2x2, each channel by itself. ``NAME.html`` shows them in a browser, from a
    folder or a server, and asks for nothing else.

    One row of tiles of each level is in memory; with the copies for halving, 3 kB for each pixel of the width in RGB.

    Args:
        folder: Where the levels are made.
        size: Height and width.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises:
        ConfigError: If the size is impossible, or the channels are.
    """

    def __init__(self, folder: Path, size: tuple[int, int], *, channels: int) -> None:
        height, width = size = height_and_width(size)
        require(channels in MODES, f"tiles of {channels} channels are impossible, expected 1, 3 or 4")
        self._shape, self._left = (width, channels), height
        self._finest = _Level(folder, _last_level(size), size=size, channels=channels)

    @staticmethod
    def names(name: str) -> list[str]:
        """What is written for a pyramid of this name: the description, the page and the folder."""
        return [f"{name}.dzi", f"{name}.html", f"{name}_files"]

    @classmethod
    @contextmanager
    def open(
        cls, path: str | Path, size: tuple[int, int], channels: int, info: Info | None = None
    ) -> Iterator["TilePyramid"]:
        """Gives a new pyramid, which replaces an earlier one when the block ends and all rows are written.

        The description is written last: where it is, all tiles are.

        Args:
            path: ``NAME.dzi``, or ``NAME``.
            size: Height and width.
            channels: 1 (grey), 3 (RGB) or 4 (RGBA).
            info: What the page says about the picture.

        Raises:
            ConfigError: As the class, or if rows are missing at the end.
            OutputError: If a file cannot be written, or there is a folder ``NAME_files`` that is no pyramid of ours.
                After any error in the block everything is as it was before.
        """
        path, size = Path(path), height_and_width(size)
        description, page, folder = map(path.with_name, cls.names(path.name.removesuffix(".dzi")))
        if os.path.lexists(folder) and not is_pyramid(folder):
            message = f"`{printable(folder)}` exists, and vqgan did not write it"
            raise OutputError(message, hint="choose another name, or remove it")
        with output_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            made = tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent)
        with made as temporary:
            new = Path(temporary, "new")
            pyramid = cls(new, size, channels=channels)
            yield pyramid
            pyramid.finish()
            with output_errors(folder):
                description.unlink(missing_ok=True)
                if folder.exists():
                    os.replace(folder, Path(temporary, "old"))
                os.replace(new, folder)
        write_text(page, _page(folder.name, size, info or {}))
        write_text(description, _description(size))

    def write(self, band: np.ndarray) -> None:
        """Appends the next rows, any number of them: uint8 (rows, width, channels).

        Raises:
            ConfigError: If they are not rows of the picture, or too many.
            OutputError: If tiles cannot be written.
        """
        check_band(band, self._shape, self._left)
        self._finest.write(band)
        self._left -= len(band)

    def finish(self) -> None:
        """Raises ConfigError if rows are missing; else all tiles are written."""
        check_complete(self._left)


class _Level:
    """The tiles of one level; what they show goes on to the next coarser one at half the size."""

    def __init__(self, folder: Path, number: int, *, size: tuple[int, int], channels: int) -> None:
        (height, width), self._folder = size, folder / str(number)
        with output_errors(self._folder):
            self._folder.mkdir(parents=True)
        self._rows = np.empty((min(TILE, height), width, channels), np.uint8)
        self._height, self._top, self._filled = height, 0, 0
        half = -(-height // 2), -(-width // 2)
        self._coarser = _Level(folder, number - 1, size=half, channels=channels) if number else None

    def write(self, band: Pixels) -> None:
        while len(band):
            end = min(self._filled + len(band), TILE, self._height - self._top)
            part, band = np.split(band, [end - self._filled])
            self._rows[self._filled : end] = part
            self._filled = end
            if end in (TILE, self._height - self._top):
                self._write_tiles(self._rows[:end])
                self._top, self._filled = self._top + end, 0

    def _write_tiles(self, rows: Pixels) -> None:
        for left in range(0, rows.shape[1], TILE):
            tile, buffer = rows[:, left : left + TILE], io.BytesIO()
            png = PngRows(buffer.write, tile.shape[:2], channels=tile.shape[2], info=_TILE_INFO)
            png.write(tile)
            png.finish()
            path = self._folder / f"{left // TILE}_{self._top // TILE}.png"
            with output_errors(path):
                path.write_bytes(buffer.getvalue())
        if self._coarser is not None:
            self._coarser.write(halved(rows))


def halved(pixels: Pixels) -> UInt8[np.ndarray, "h w c"]:
    """Half the size, rounded up: means of 2x2 pixels, at an odd border of those that are there.

    Halves are rounded to even: rounded up, each level would be brighter than the last.

    Example:
        >>> halved(np.array([[[1], [2], [9]], [[3], [4], [8]]], np.uint8)).tolist()
        [[[2], [8]]]
    """
    height, width = pixels.shape[:2]
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    sums = even[::2, ::2].astype(np.uint16)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        sums += even[row::2, column::2]
    return ((sums + 1 + (sums >> 2 & 1)) >> 2).astype(np.uint8)


def is_pyramid(folder: Path) -> bool:
    """Whether this is a folder of tiles that vqgan wrote."""
    try:
        with (folder / "0" / "0_0.png").open("rb") as file:
            return _TILE_MARK in file.read(256)
    except OSError:
        return False


def _last_level(size: tuple[int, int]) -> int:
    """The number of the level that has the picture's own size."""
    return (max(size) - 1).bit_length()


def _description(size: tuple[int, int]) -> str:
    height, width = size
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{MARK}\n'
        f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="png" Overlap="0" TileSize="{TILE}">'
        f'<Size Width="{width}" Height="{height}"/></Image>\n'
    )


def _page(folder: str, size: tuple[int, int], info: Info) -> str:
    """The page for the tiles in this folder beside it. Its policy forbids it to ask for anything but pictures."""
    (height, width), last = size, _last_level(size)
    tiles = {
        "folder": quote(
            os.fsencode(folder)
        ),  # without `<`, so that no `</script>` can stand within the script
        "width": width,
        "height": height,
        "tile": TILE,
        "last": last,
    }
    terms = [f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>\n" for name, text in info.items()]
    values = {
        "mark": MARK,
        "name": html.escape(printable(folder.removesuffix("_files"))),
        "width": width,
        "height": height,
        "terms": "".join(terms),
        "data": json.dumps(tiles),
    }
    template = Path(__file__).with_name("zoom.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: str(values[found[1]]), template)
