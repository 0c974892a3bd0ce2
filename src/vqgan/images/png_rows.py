"""PNG files written while the picture is made, band of rows by band of rows.

What is in memory does not depend on the height of the picture, and how it is cut into bands does not change a pixel.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vqgan.errors import require
from vqgan.images.pixels import MODES
from vqgan.images.writing import Info, text_chunks
from vqgan.output_files import output_errors, replacing
from vqgan.types import height_and_width

_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
_SUB, _UP, _PAETH = 1, 2, 4
_BLOCK = 1 << 18
"""Bytes that are filtered together: more would leave the processor's cache."""

Rows = UInt8[np.ndarray, "rows bytes"]


class PngRows:
    """A PNG that is written from top to bottom; :meth:`open` makes a file of it.

    The filter of each row is Sub, Up or Paeth, whichever leaves the smallest sum of absolute differences (PNG, third
    edition, 12.7). Deflate then looks for runs only (``Z_RLE``): on photographs the file is as large as Pillow's to
    a few percent, in a third of the time or less.

    Args:
        out: Gets the file's bytes, part after part.
        size: Height and width.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        info: Text chunks.

    Raises:
        ConfigError: If the size is impossible, or the channels are.
    """

    def __init__(
        self,
        out: Callable[[bytes], object],
        size: tuple[int, int],
        *,
        channels: int,
        info: Info | None = None,
    ) -> None:
        height, width = height_and_width(size)
        require(channels in MODES, f"a PNG of {channels} channels is impossible, expected 1, 3 or 4")
        self._out, self._channels = out, channels
        self._shape, self._left = (width, channels), height
        self._above = np.zeros(width * channels, np.uint8)
        self._deflate = zlib.compressobj(strategy=zlib.Z_RLE)
        head = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
        texts = [_chunk(chunk[0], chunk[1]) for chunk in text_chunks(info).chunks]
        out(b"".join([b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", head), *texts]))

    @classmethod
    @contextmanager
    def open(
        cls, path: str | Path, size: tuple[int, int], channels: int, info: Info | None = None
    ) -> Iterator["PngRows"]:
        """Gives the rows of a new file, which replaces an earlier one when the block ends and all are written.

        Example:
            >>> with PngRows.open(getfixture("tmp_path") / "black.png", size=(4, 6), channels=3) as png:
            ...     for _ in range(2):
            ...         png.write(np.zeros((2, 6, 3), np.uint8))

        Raises:
            ConfigError: As the class, or if rows are missing at the end.
            OutputError: If it cannot be written; after any error the earlier file is as it was, and no other is left.
        """
        path = Path(path)
        with replacing(path) as temporary:

            def append(part: bytes) -> None:
                with output_errors(path), temporary.open("ab") as file:
                    file.write(part)

            rows = cls(append, size, channels=channels, info=info)
            yield rows
            rows.finish()

    def write(self, band: np.ndarray) -> None:
        """Appends the next rows, any number of them: uint8 (rows, width, channels).

        Raises:
            ConfigError: If they are not rows of the picture, or too many.
            OutputError: If they cannot be written.
        """
        check_band(band, self._shape, self._left)
        rows = band.reshape(len(band), len(self._above))
        step = max(1, _BLOCK // rows.shape[1])
        for top in range(0, len(rows), step):
            part = rows[top : top + step]
            if packed := self._deflate.compress(filtered(part, self._above, self._channels).tobytes()):
                self._out(_chunk(b"IDAT", packed))
            self._above = part[-1].copy()
        self._left -= len(band)

    def finish(self) -> None:
        """Ends the file. Raises ConfigError if rows are missing."""
        check_complete(self._left)
        self._out(_chunk(b"IDAT", self._deflate.flush()) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def check_band(band: np.ndarray, shape: tuple[int, int], left: int) -> None:
    """Raises ConfigError unless this is a band of at most ``left`` rows of this width and these channels."""
    width, channels = shape
    require(
        band.dtype == np.uint8 and band.ndim == 3 and band.shape[1:] == shape and len(band) <= left,
        f"the rows are {band.dtype} of the shape {band.shape}, "
        f"expected uint8 (rows, {width}, {channels}), at most {left} rows",
    )


def check_complete(left: int) -> None:
    """Raises ConfigError if there are rows left to be written."""
    require(not left, f"the picture is not complete: its last {left} rows are missing")


def filtered(
    rows: Rows, above: UInt8[np.ndarray, " bytes"], channels: int
) -> UInt8[np.ndarray, "rows packed"]:
    """The rows as Deflate gets them: the number of the filter, then the differences to what it predicts.

    Args:
        rows: Values of the pixels, one after the other.
        above: The row before the first; zeros where it is the picture's first.
        channels: Bytes from a pixel to the next.
    """
    up = np.concatenate([above[None], rows[:-1]])
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, channels:], corner[:, channels:] = rows[:, :-channels], up[:, :-channels]
    choices = {_SUB: rows - left, _UP: rows - up, _PAETH: rows - _paeth(left, up, corner)}
    # Differences are modulo 256; the smaller of both ways around is the absolute one.
    sums = [np.minimum(each, -each).sum(axis=1, dtype=np.uint32) for each in choices.values()]
    best = np.array([*choices], np.uint8)[np.argmin(sums, axis=0)]
    packed = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    packed[:, 0] = best
    for number, each in choices.items():
        np.copyto(packed[:, 1:], each, where=(best == number)[:, None])
    return packed


def _paeth(left: Rows, up: Rows, corner: Rows) -> Rows:
    """Whichever of the three is nearest to ``left + up - corner``, in this order where two are.

    All within bytes: the third distance is the sum of the others, and so never the least, unless the corner lies
    between left and up.
    """
    to_left = np.maximum(up, corner) - np.minimum(up, corner)
    to_up = np.maximum(left, corner) - np.minimum(left, corner)
    between = (up < corner) != (left < corner)
    to_corner = np.where(between, np.maximum(to_left, to_up) - np.minimum(to_left, to_up), np.uint8(255))
    nearest = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest)
