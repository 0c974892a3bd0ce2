"""The order in which a prior reads and writes the tokens of a grid: grids to sequences and back."""

from itertools import count
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from vqgan.errors import require
from vqgan.types import PartLengths

TokenOrder = Literal["raster", "subsample", "z_curve", "spiral_out", "spiral_in", "random", "alternate"]
"""How a sequence runs through a grid; every order takes every grid.

- ``raster``: row after row, each from the left.
- ``subsample``: every second cell of every second row first, in this order again; then those between.
- ``z_curve``: four quarters, each in this order again (Morton, 1966).
- ``spiral_out``: from the middle, upwards and then clockwise. Where the grid ends, the spiral goes on outside.
- ``spiral_in``: ``spiral_out`` backwards, from the border to the middle.
- ``random``: one shuffle for each number of cells, the same for ever.
- ``alternate``: row after row, every second one from the right.
"""


def check_token_order(order: str) -> None:
    """Raises ConfigError unless ``order`` is a :data:`TokenOrder`."""
    require(
        order in get_args(TokenOrder),
        f"`token_order` is `{order}`, expected a known order",
        hint="the orders are " + ", ".join(f"`{name}`" for name in get_args(TokenOrder)),
    )


def token_positions(order: TokenOrder, grid: tuple[int, int]) -> Int[Tensor, " n"]:
    """Raster positions (``row * columns + column``) of a grid's cells, in the order of the sequence.

    Each position stands there once: the place ``i`` of a sequence belongs to the cell ``positions[i]``.

    Args:
        order: How the sequence runs.
        grid: Rows and columns.

    Raises:
        ConfigError: If there is no such order.

    Example:
        >>> token_positions("alternate", (3, 3)).tolist()
        [0, 1, 2, 5, 4, 3, 6, 7, 8]
        >>> token_positions("spiral_out", (3, 3)).tolist()
        [4, 1, 2, 5, 8, 7, 6, 3, 0]
    """
    check_token_order(order)
    rows, columns = grid
    positions = torch.arange(rows * columns)
    match order:
        case "raster":
            return positions
        case "subsample":
            return _quartered(grid, coarse_first=True)
        case "z_curve":
            return _quartered(grid, coarse_first=False)
        case "spiral_out":
            return _spiral(grid)
        case "spiral_in":
            return _spiral(grid).flip(0)
        case "random":
            # numpy promises that this old generator never changes; the original's checkpoints rely on it.
            shuffled = np.random.RandomState(1).permutation(rows * columns)
            return torch.from_numpy(shuffled.astype(np.int64))
        case "alternate":
            cells = positions.view(rows, columns)
            cells[1::2] = cells[1::2].flip(1)
            return cells.flatten()


def sequence_places(
    order: TokenOrder, grid: tuple[int, int], lengths: PartLengths
) -> Int[Tensor, "context 2"]:
    """Row and column in the image of every token that a prior is fed: the condition's, and all but the grid's last.

    The condition's tokens of cells stand where their cells are. Others have no place in the image: they stand in rows
    above it, the last of them over its last column.

    Args:
        order: How the grid's tokens follow each other.
        grid: Rows and columns.
        lengths: Condition tokens of each part.

    Example:
        >>> sequence_places("raster", (2, 2), (1,)).tolist()
        [[-1, 1], [0, 0], [0, 1], [1, 0]]
    """
    with torch.device("cpu"):  # also where a model is built without memory, to be filled from a file
        numbers, above = [], -sum(length or 0 for length in lengths)
        for length in lengths:
            numbers.append(
                torch.arange(grid[0] * grid[1]) if length is None else above + torch.arange(length)
            )
            above += length or 0
        each = torch.cat([*numbers, token_positions(order, grid)[:-1]])
        return torch.stack([each.div(grid[1], rounding_mode="floor"), each % grid[1]], dim=1)


def to_tokens(values: Shaped[Tensor, "b h w *_"], order: TokenOrder) -> Shaped[Tensor, "b n *_"]:
    """One value (or vector) for each cell of a grid, as the sequence that the prior reads.

    Example:
        >>> to_tokens(torch.tensor([[[3, 4], [5, 6]]]), "alternate").tolist()
        [[3, 4, 6, 5]]
    """
    sequence = values.flatten(1, 2)
    if order == "raster":
        return sequence
    positions = token_positions(order, (values.shape[1], values.shape[2]))
    return sequence[:, positions.to(values.device)]


def to_indices(
    values: Shaped[Tensor, "b n"], grid: tuple[int, int], order: TokenOrder
) -> Shaped[Tensor, "b h w"]:
    """Puts the values of a sequence back to their cells; undoes :func:`to_tokens`.

    Example:
        >>> to_indices(torch.tensor([[3, 4, 6, 5]]), (2, 2), "alternate").tolist()
        [[[3, 4], [5, 6]]]
    """
    if order != "raster":
        values = values[:, token_positions(order, grid).argsort().to(values.device)]
    return values.view(len(values), *grid)


def _quartered(grid: tuple[int, int], *, coarse_first: bool) -> Int[Tensor, " n"]:
    """Cells sorted by the bits of row and column in turns, from the highest bit down or from the lowest up."""
    rows, columns = grid
    row = torch.arange(rows).view(rows, 1)
    column = torch.arange(columns).view(1, columns)
    bits = range(max(rows, columns).bit_length())
    key = torch.zeros(rows, columns, dtype=torch.int64)
    for bit in bits if coarse_first else reversed(bits):
        key = 4 * key + 2 * (row >> bit & 1) + (column >> bit & 1)
    return key.flatten().argsort()


def _spiral(grid: tuple[int, int]) -> Int[Tensor, " n"]:
    """Walks 1, 1, 2, 2, 3, 3, ... steps from the middle, with a turn to the right after each walk."""
    rows, columns = grid
    row, column = rows // 2, (columns - 1) // 2
    down, right = -1, 0
    found: list[int] = []
    for walk in count(2):
        if len(found) == rows * columns:
            break
        for _ in range(walk // 2):
            if 0 <= row < rows and 0 <= column < columns:
                found.append(row * columns + column)
            row, column = row + down, column + right
        down, right = right, -down
    return torch.tensor(found, dtype=torch.int64)
