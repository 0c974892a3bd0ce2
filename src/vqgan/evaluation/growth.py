"""Pictures of an image while it grows: token by token, or row by row where it is too large to be decoded again."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from vqgan.evaluation.growth_page import MAX_PAGE_SIDE, Boxes, GrowthPage, Picture
from vqgan.images import PngRows, TilePyramid, to_float, to_uint8
from vqgan.images.png_rows import check_band, check_complete
from vqgan.images.writing import Info
from vqgan.tokenizer import Tokenizer, decode_within
from vqgan.types import DrawnTokens, Images, Progress

GREYS = -0.35, -0.25
"""The squares of what is not drawn yet."""

SQUARE = 8
"""Pixels of a grey square's side in frames that are made smaller, where tokens would be too small to be seen."""

_WHAT = "tokens drawn"

Grid = Int[Tensor, "h w"]
Mask = Bool[Tensor, "h w"]


class Frames:
    """Follows the first image of a call while it is drawn; give it to a sampling function as ``on_progress``.

    Each frame is a PNG that appears complete or not at all, of the image decoded with what is drawn so far; the
    rest is chequered in grey. Interrupted sampling leaves the frames until then. Only what the page says about
    the frames is kept in memory, until :meth:`finish` joins them.

    Args:
        tokenizer: Decodes the grids.
        folder: Made where it does not exist; frames of an earlier drawing are removed by the first one.
        memory: Bytes beside the weights for decoding, as the image itself is decoded.
        count: Number of frames, evenly spaced over the image's tokens, from the first report to the finished
            image; fewer where there are fewer reports.
        info: Text chunks for every frame, also shown on the page.
    """

    def __init__(
        self, tokenizer: Tokenizer, folder: Path, *, memory: int, count: int, info: Info | None = None
    ) -> None:
        self._tokenizer, self._memory, self._count = tokenizer, memory, count
        self._page = GrowthPage(folder, info)
        self._first: int | None = None
        self._next = 0
        self._before: Grid | None = None

    def __call__(self, progress: Progress) -> None:
        """Writes a frame if one is due. The finished image is left to :meth:`finish`.

        Raises:
            OutputError: If it cannot be written.
        """
        if not isinstance(progress, DrawnTokens) or 0 not in progress.images:
            return
        grid = progress.indices[progress.images.index(0)]
        # Not `progress.step`: it counts the tokens of all images of the call.
        drawn, tokens = int((grid >= 0).sum()), grid.numel()
        self._first = drawn if self._first is None else self._first
        due = (drawn - self._first) * (self._count - 1) // max(1, tokens - self._first)
        if drawn < tokens and due >= self._next:
            self._next = due + 1
            self._write_grid(grid.cpu(), progress.windows)
        self._before = grid.clone()

    def finish(self, image: Picture) -> list[Path]:
        """Writes the finished image as the last frame, then ``growth.png`` and ``growth.html``.

        Args:
            image: As the sampling function gave it back.

        Returns:
            The paths of the animation and the page.

        Raises:
            OutputError: If a file cannot be written.
        """
        grid = self._tokenizer.grid_size((image.shape[1], image.shape[2]))
        tokens = grid[0] * grid[1]
        self._page.add(image, tokens, tokens, _WHAT)
        return self._page.finish(image.shape, grid)

    @torch.no_grad()
    def _write_grid(self, grid: Grid, windows: Boxes) -> None:
        is_drawn = grid >= 0
        was_drawn = is_drawn if self._before is None else self._before.cpu() >= 0
        newest = [(row, column, 1, 1) for row, column in (is_drawn & ~was_drawn).nonzero().tolist()]
        image = decode_within(self._tokenizer, fill_undrawn(grid)[None], self._memory)[0].float().cpu()
        covered, drawn = cover(image, ~is_drawn), int(is_drawn.sum())
        self._page.add(covered, drawn, grid.numel(), _WHAT, windows, newest)


class RowFrames:
    """Follows a picture that is made from top to bottom; give it the same bands as :class:`~vqgan.images.PngRows`.

    Each frame shows the rows so far; the rest is chequered in grey. Frames are made smaller, to at most
    ``MAX_PAGE_SIDE`` pixels a side: each of their pixels is the mean of the area that it covers. No more than one
    such picture is in memory, whatever the height, and how the picture is cut into bands does not change a frame.

    Args:
        folder: As of :class:`Frames`.
        size: Height and width of the picture.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        count: Number of frames, one each time that another ``1 / count`` of the rows is there; fewer where there are
            fewer rows.
        info: As of :class:`Frames`.
    """

    def __init__(
        self, folder: Path, size: tuple[int, int], *, channels: int, count: int, info: Info | None = None
    ) -> None:
        self._page, self._count = GrowthPage(folder, info), count
        self._height, width = size
        self._shape, scale = (width, channels), min(1, MAX_PAGE_SIDE / max(size))
        rows, columns = (max(1, round(side * scale)) for side in size)
        squares = torch.ones(-(-rows // SQUARE), -(-columns // SQUARE), dtype=torch.bool)
        grey = cover(torch.zeros(channels, *(side * SQUARE for side in squares.shape)), squares)
        self._picture = to_uint8(grey[:, :rows, :columns]).numpy()
        self._read = self._done = 0
        self._sum = np.zeros(
            (columns, channels), np.int64
        )  # of the row of the smaller picture that is not done

    def write(self, band: np.ndarray) -> None:
        """Takes the next rows, any number of them: uint8 (rows, width, channels). Writes each frame that is due.

        Raises:
            ConfigError: If they are not rows of the picture, or too many.
            OutputError: If a frame cannot be written.
        """
        check_band(band, self._shape, self._height - self._read)
        for row in band:
            self._add(_narrow(row, self._picture.shape[1]))
            if self._read * self._count % self._height < self._count:
                self._page.add(to_float(self._picture), self._read, self._height, "rows decoded")

    def finish(self) -> list[Path]:
        """Writes ``growth.png`` and ``growth.html``, and gives their paths.

        Raises:
            ConfigError: If rows are missing.
            OutputError: If a file cannot be written.
        """
        check_complete(self._height - self._read)
        rows, columns, channels = self._picture.shape
        return self._page.finish((channels, rows, columns), (1, 1))

    def _add(self, row: Int[np.ndarray, "columns c"]) -> None:
        """Adds a row to that of the smaller picture to which it belongs, or its parts to both; completes what ends."""
        # In whole numbers: a row of the picture counts as many as the smaller one has rows, one of those its height.
        rows, top = len(self._picture), self._read * len(self._picture)
        self._read += 1
        while top < self._read * rows:
            end = (self._done + 1) * self._height
            until = min(end, self._read * rows)
            self._sum += (until - top) * row
            if until == end:
                self._picture[self._done] = np.rint(self._sum / (self._height * self._shape[0]))
                self._sum[:], self._done = 0, self._done + 1
            top = until


def _narrow(row: UInt8[np.ndarray, "W c"], columns: int) -> Int[np.ndarray, "w c"]:
    """The sums of a row's equal parts, ``columns`` times as large, so that parts of pixels are whole numbers."""
    sums = np.zeros((len(row) + 1, row.shape[1]), np.int64)
    np.cumsum(row, axis=0, dtype=np.int64, out=sums[1:])
    whole, rest = np.divmod(np.arange(columns + 1) * len(row), columns)
    after = sums[np.minimum(whole + 1, len(row))]
    return np.diff(columns * sums[whole] + rest[:, None] * (after - sums[whole]), axis=0)


def write_rows(
    bands: Iterable[Images],
    path: Path,
    size: tuple[int, int],
    *,
    channels: int,
    info: Info,
    frames: int | None = None,
) -> list[Path]:
    """Writes a picture that need not fit in memory while it is made: a PNG, and a pyramid that zooms beside it.

    Args:
        bands: Its rows (1 c r W) from top to bottom, as :meth:`Synthesizer.sample_rows` gives them.
        path: The PNG; the pyramid has the same name (:class:`~vqgan.images.TilePyramid`).
        size: Height and width.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        info: Text chunks, also shown on the pages.
        frames: Also follow it, with so many frames in the folder ``frames`` beside it (:class:`RowFrames`).

    Returns:
        The paths of the picture and its page, then those of the animation and the page of its growth.

    Raises:
        ConfigError: If the size is impossible, or the bands are not of this size.
        OutputError: If a file cannot be written.
    """
    growth = None
    if frames is not None:
        growth = RowFrames(path.with_name("frames"), size, channels=channels, count=frames, info=info)
    with (
        PngRows.open(path, size, channels, info) as png,
        TilePyramid.open(path.with_suffix(".dzi"), size, channels, info) as pyramid,
    ):
        for band in bands:
            pixels = to_uint8(band[0].float().cpu()).numpy()
            for each in (png, pyramid, growth):
                if each is not None:
                    each.write(pixels)
    return [path, path.with_suffix(".html"), *(growth.finish() if growth else [])]


def fill_undrawn(grid: Grid) -> Grid:
    """Puts a drawn code wherever there is none (-1), so that the grid can be decoded.

    It is the nearest above, else the nearest to the left, below or to the right; 0 where nothing is drawn.

    Example:
        >>> fill_undrawn(torch.tensor([[5, 6, 7], [8, -1, -1]])).tolist()
        [[5, 6, 7], [8, 6, 7]]
    """
    for axis, backwards in ((0, False), (1, False), (0, True), (1, True)):
        turned = grid.flip(axis) if backwards else grid
        places = torch.arange(grid.shape[axis]).unsqueeze(1 - axis).expand_as(turned)
        newest = torch.where(turned >= 0, places, 0).cummax(axis).values
        turned = turned.gather(axis, newest)
        grid = turned.flip(axis) if backwards else turned
    return grid.clamp_min(0)


def cover(image: Picture, hidden: Mask) -> Picture:
    """The image with the squares of the hidden tokens chequered in two greys."""
    factor = image.shape[1] // hidden.shape[0]
    rows, columns = (torch.arange(side) for side in hidden.shape)
    greys = torch.tensor(GREYS)[(rows[:, None] + columns) % 2]
    squares, mask = (x.repeat_interleave(factor, 0).repeat_interleave(factor, 1) for x in (greys, hidden))
    return torch.where(mask, squares, image)
