"""Fills a token grid larger than the prior can see at once: a window follows the token being sampled."""

import torch
from torch import Tensor

from vqgan.errors import ConfigError
from vqgan.prior import Prior, TokenOrder
from vqgan.sampling.filters import Decoding
from vqgan.sampling.random import GridNoise
from vqgan.sampling.sampler import choose_tokens
from vqgan.types import ConditionTokens, Indices, Known, OnProgress, Progress


def window_start(position: int, size: int, window: int) -> int:
    """First row (or column) of the window the prior sees while sampling ``position``.

    The window is centred on the position and pushed back inside the grid at the borders, so a
    token near an edge sees more context on the far side. Call it once for each axis.

    Args:
        position: Row (or column) of the token being sampled, ``0 <= position < size``.
        size: Rows (or columns) of the token grid.
        window: Rows (or columns) the prior was trained on.

    Raises:
        ConfigError: If the grid is smaller than the window; sample the whole grid at once instead.

    Example:
        >>> [window_start(i, size=32, window=16) for i in (0, 8, 20, 31)]
        [0, 0, 12, 16]
    """
    if size < window:
        raise ConfigError(
            f"a grid side of {size} tokens is smaller than the window's {window}",
            hint="sample the whole grid at once",
        )
    return min(max(position - window // 2, 0), size - window)


def usable_window(
    grid: tuple[int, int],
    window: tuple[int, int],
    *,
    is_spatial: bool,
    token_order: TokenOrder = "raster",
) -> tuple[int, int]:
    """The window in which the prior can sample ``grid`` with every token at a position that it has learned.

    That is ``window`` itself on a grid at least as large. The prior knows a token by its place in raster
    order, so on a grid of fewer rows the first rows of the window are used; fewer columns would put every
    row after the first at places that mean another column. Spatial conditions stand in front of the image,
    so with them fewer rows would move all image tokens. In another order than raster only the window itself
    will do.

    Args:
        grid: Rows and columns to sample.
        window: Rows and columns the prior was trained on.
        is_spatial: Whether the condition has a token for each cell.
        token_order: The order in which the prior has learned its tokens.

    Raises:
        ConfigError: If no window fits.

    Example:
        >>> usable_window((24, 40), (16, 16), is_spatial=True)
        (16, 16)
        >>> usable_window((8, 16), (16, 16), is_spatial=False)
        (8, 16)
    """
    rows, columns = window
    if token_order != "raster" and grid != window:
        raise ConfigError(
            f"a prior trained on {rows} x {columns} tokens in the order `{token_order}` "
            f"cannot work on {grid[0]} x {grid[1]}",
            hint="use the size it was trained on; other sizes need a prior in raster order",
        )
    if grid[1] < columns or (is_spatial and grid[0] < rows):
        least = f"{rows} x {columns} tokens" if is_spatial else f"{columns} columns of tokens"
        raise ConfigError(
            f"a grid of {grid[0]} x {grid[1]} tokens is too small for a prior trained on {rows} x {columns}",
            hint=f"use at least {least} and crop the result",
        )
    return (min(grid[0], rows), columns)


@torch.no_grad()
def sample_sliding(
    prior: Prior,
    condition_tokens: ConditionTokens,
    indices: Indices,
    known: Known,
    *,
    window: tuple[int, int],
    is_spatial: bool,
    decoding: Decoding,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Indices:
    """Samples the unknown tokens of a grid in raster order, each given what its window holds before it.

    The prior reads the window's tokens up to the one being sampled and gives one row of logits. Tokens after
    it could not change the answer, so leaving them out is exact.

    Args:
        prior: The distribution.
        condition_tokens: In front of the image's tokens; for spatial conditions those of the whole grid.
        indices: The given tokens; what stands where ``known`` is false plays no part.
        known: Which tokens are kept as they are.
        window: Rows and columns that the prior sees.
        is_spatial: Whether the condition has a token for each cell, to be cut out with the window.
        decoding: Temperature and filters.
        seed: Image ``i`` takes the noise of ``seed + i``.
        on_progress: Called after each token.

    Returns:
        The full grid.

    Raises:
        ConfigError: If the grid is smaller than the window, the context too short or a seed out of range.
    """
    batch, rows, columns = indices.shape
    height, width = window
    noise = GridNoise(
        seed=seed,
        count=batch,
        grid=(rows, columns),
        codebook_size=prior.config.codebook_size,
        device=indices.device,
    )
    given_everywhere = known.all(dim=0).tolist()
    grid = indices.clone()
    for row in range(rows):
        top = window_start(row, rows, height)
        for column in range(columns):
            if not given_everywhere[row][column]:
                left = window_start(column, columns, width)
                before = (row - top) * width + (column - left)
                tokens = _crop(grid, top, left, window)[:, :before]
                condition = condition_tokens
                if is_spatial:
                    condition = _crop(condition_tokens.view(batch, rows, columns), top, left, window)
                chosen = choose_tokens(prior.next_logits(tokens, condition), decoding, noise, row, column)
                grid[:, row, column] = torch.where(known[:, row, column], grid[:, row, column], chosen)
            if on_progress is not None:
                on_progress(Progress("sample", row * columns + column + 1, rows * columns))
    return grid


def _crop(grid: Tensor, top: int, left: int, window: tuple[int, int]) -> Tensor:
    """The window's cells in raster order (b n)."""
    return grid[:, top : top + window[0], left : left + window[1]].flatten(1)
