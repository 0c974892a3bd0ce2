"""In which order, and from what, the tokens of a large grid are drawn: all of it is known beforehand.

A token's window is one sequence: the condition, then the window's cells row by row. Tokens that share a window (at the
borders it does not move) share a sequence, which is read once. A token depends only on those before it in its
window, so rows follow each other at a window's width, and all tokens that are ready are read together.
"""

import logging
from collections import defaultdict
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from vqgan.errors import ConfigError
from vqgan.prior import TokenOrder
from vqgan.sampling.settings import check_stride
from vqgan.types import PartLengths, PerWindow

logger = logging.getLogger(__name__)

Window = tuple[int, int]
"""First row and first column."""

_Place = tuple[int, int, Window, int]
"""Row and column of a token, its window, and how many tokens of the window's sequence stand before it."""


@dataclass(frozen=True)
class Reading:
    """What is read to draw one token.

    Attributes:
        row: Of the token.
        column: Of the token.
        window: Where its window starts.
        past: Tokens of the window's sequence, condition included, that were read before and kept.
        length: Tokens of the sequence, condition included, that stand before the token.
        is_kept: Whether the sequence is kept for a later token.
    """

    row: int
    column: int
    window: Window
    past: int
    length: int
    is_kept: bool

    @property
    def passes(self) -> int:
        """Tokens that go through the prior."""
        return self.length - self.past


@dataclass(frozen=True)
class Costs:
    """Bytes that one token takes.

    Attributes:
        kept: Its keys and values.
        read: While it is read.
        drawn: While the next one is drawn.
    """

    kept: int
    read: int
    drawn: int


@dataclass(frozen=True)
class Plan:
    """The steps in which a grid is drawn; the readings of one step do not depend on each other.

    Attributes:
        steps: Readings in the order of their cells, step after step.
        passes: Tokens that go through the prior, for each image.
        most_kept: The most tokens that are kept at one time, for each image.
    """

    steps: tuple[tuple[Reading, ...], ...]
    passes: int
    most_kept: int


def window_start(position: int, size: int, window: int, before: int | None = None) -> int:
    """First row (or column) of the window the prior sees while sampling ``position``.

    The window is centred on the position and pushed back inside the grid at the borders, so a
    token near an edge sees more context on the far side. Call it once for each axis.

    Args:
        position: Row (or column) of the token being sampled, ``0 <= position < size``.
        size: Rows (or columns) of the token grid.
        window: Rows (or columns) the prior was trained on.
        before: Rows (or columns) of the window in front of the position, by default half.

    Raises:
        ConfigError: If the grid is smaller than the window; sample the whole grid in one window instead.

    Example:
        >>> [window_start(i, size=32, window=16) for i in (0, 8, 20, 31)]
        [0, 0, 12, 16]
    """
    if size < window:
        raise ConfigError(
            f"a grid side of {size} tokens is smaller than the window's {window}",
            hint="sample the whole grid in one window",
        )
    return min(max(position - (window // 2 if before is None else before), 0), size - window)


def rows_before(lengths: PartLengths, window: tuple[int, int]) -> tuple[int, int]:
    """Rows above and columns to the left of a token in its window: half of it, with layouts rounded down from one less.

    The original has a sampler for pictures and another for scenes.

    Example:
        >>> rows_before((1, None), (16, 16)), rows_before((PerWindow(92),), (16, 16))
        ((8, 8), (7, 7))
    """
    less = any(isinstance(length, PerWindow) for length in lengths)
    return (window[0] - less) // 2, (window[1] - less) // 2


def usable_window(
    window: tuple[int, int], grid: tuple[int, int], *, order: TokenOrder, is_spatial: bool, factor: int
) -> tuple[int, int]:
    """The rows and columns in which a prior can sample ``grid`` with every token at a position that it has learned.

    It is the prior's own window on a grid at least as large. The prior knows a token by its place in raster order, so
    on a grid of fewer rows the first rows of the window are used; fewer columns would put every row after the first at
    places that mean another column. Spatial conditions stand in front of the image, so with them fewer rows would move
    all image tokens. In another order than raster only the window itself will do.

    Args:
        window: Rows and columns that the prior was trained on.
        grid: Those of the image's tokens.
        order: In which the prior reads them.
        is_spatial: Whether the condition has a token for each cell.
        factor: Pixels per token side, for messages.

    Raises:
        ConfigError: If no window fits.
    """
    rows, columns = window
    height, width = rows * factor, columns * factor
    if order != "raster" and grid != window:
        raise ConfigError(
            f"a prior trained on {rows} x {columns} tokens in the order `{order}` "
            f"cannot work on {grid[0]} x {grid[1]}",
            hint=f"use {height} x {width} pixels; other sizes need a prior in raster order",
        )
    if grid[1] < columns or (is_spatial and grid[0] < rows):
        least = f"{height} x {width}" if is_spatial else f"a width of {width}"
        raise ConfigError(
            f"a grid of {grid[0]} x {grid[1]} tokens is too small for a prior trained on {rows} x {columns}",
            hint=f"use at least {least} pixels and crop the result",
        )
    return min(grid[0], rows), columns


def plan_windows(
    given: Bool[ndarray, "h w"],
    window: tuple[int, int],
    *,
    condition: int,
    most_kept: int | None = None,
    is_parallel: bool = True,
    stride: int = 1,
    before: tuple[int, int] | None = None,
) -> Plan:
    """Plans the drawing of a grid.

    Without a limit, a grid of H x W tokens without given ones costs, with w x w windows, m condition tokens, a stride k
    that divides w/2, H-w and W-w, and last = w/2+k-1 (of a block in its window),
    ``(H-w)/k * ((W-w)/k * (m+w*last+last) + m+w*last+w-1) + (W-w)/k * (m+w*(w-1)+last) + m+w*w-1`` passes.

    Args:
        given: Cells whose tokens need not be drawn.
        window: Rows and columns that the prior sees.
        condition: Condition tokens in front of each window's.
        most_kept: Keep no more tokens than this at one time, for each image; what is not kept is read again.
        is_parallel: False draws one token a step, in raster order.
        stride: Rows and columns of the blocks of tokens that share a window: that of the block's first token. Above 1
            an approximation: no token sees less above it or to its left, but up to ``stride - 1`` columns less to its
            right, in the rows above.
        before: As :func:`rows_before` gives them; by default half.

    Raises:
        ConfigError: If the grid is smaller than the window, or the stride more than half of a side that slides.

    Example:
        >>> plan = plan_windows(np.zeros((32, 32), dtype=bool), (16, 16), condition=1)
        >>> len(plan.steps), plan.passes
        (528, 41616)
    """
    rows, columns = given.shape
    check_stride(stride, window, (rows, columns))
    above, beside = before or (None, None)
    tops = [window_start(row - row % stride, rows, window[0], above) for row in range(rows)]
    lefts = [window_start(each - each % stride, columns, window[1], beside) for each in range(columns)]
    cells = [(int(row), int(column)) for row, column in np.argwhere(~given)]
    numbers = _ready(cells, given, tops, lefts, window[1]) if is_parallel else range(len(cells))
    steps: dict[int, list[_Place]] = defaultdict(list)
    for (row, column), number in zip(cells, numbers, strict=True):
        top, left = tops[row], lefts[column]
        length = condition + (row - top) * window[1] + column - left
        steps[number].append((row, column, (top, left), length))
    return _plan_readings([steps[number] for number in sorted(steps)], most_kept)


def plan_within(
    given: Bool[ndarray, "h w"],
    window: tuple[int, int],
    *,
    condition: int,
    costs: Costs,
    memory: int,
    stride: int = 1,
    before: tuple[int, int] | None = None,
) -> tuple[Plan, int]:
    """Plans the drawing of grids within a budget of memory; also gives how many images fit at the same time.

    Keys and values come first: it is as many images as fit with all that their windows need again, or one image with
    as much of it as fits. What one image needs at the least is always taken.

    Args:
        given: As in :func:`plan_windows`.
        window: As there.
        condition: As there.
        costs: Bytes that a token takes.
        memory: Bytes in all.
        stride: As in :func:`plan_windows`.
        before: As there.
    """
    plan_of = partial(plan_windows, given, window, condition=condition, stride=stride, before=before)
    whole = plan = plan_of()
    if (images := memory // max(1, _plan_memory(plan, costs))) >= 1:
        return plan, images
    most_kept = memory // costs.kept
    while True:
        plan = plan_of(most_kept=most_kept)
        if not most_kept or _plan_memory(plan, costs) <= memory:
            break
        most_kept //= (
            2  # what is not kept is read again, which takes memory too: how much, only the plan shows
        )
    if plan.passes > whole.passes:
        numbers = f"{plan.passes:,} token passes for each image instead of {whole.passes:,}"
        logger.info("the memory does not hold all that windows share: %s", numbers)
    return plan, 1


def _plan_readings(steps: list[list[_Place]], most_kept: int | None) -> Plan:
    """What is read in each step, and what of it is kept."""
    last = {start: length for step in steps for _, _, start, length in step}
    kept: dict[Window, int] = {}
    reserved = most = passes = 0  # reserved: for windows in use, up to their last tokens
    planned = []
    for step in steps:
        readings, ended = [], 0
        for row, column, start, length in step:
            past, needed = kept.pop(start, 0), last[start]
            is_last = length == needed
            is_kept = not is_last and (past > 0 or most_kept is None or reserved + needed <= most_kept)
            reserved += needed if is_kept and not past else 0
            ended += needed if is_last and past else 0
            if is_kept:
                kept[start] = length
            readings.append(Reading(row, column, start, past, length, is_kept))
            passes, most = passes + length - past, max(most, reserved)
        planned.append(tuple(readings))
        reserved -= ended  # only now: until then the step holds what it has read
    return Plan(tuple(planned), passes, most)


def _plan_memory(plan: Plan, costs: Costs) -> int:
    """Bytes that one image takes at the most."""
    reads = (sum(reading.passes * costs.read + costs.drawn for reading in step) for step in plan.steps)
    return plan.most_kept * costs.kept + max(reads, default=0)


def _ready(
    cells: list[tuple[int, int]],
    given: Bool[ndarray, "h w"],
    tops: list[int],
    lefts: list[int],
    width: int,
) -> list[int]:
    """The step in which each cell can be drawn: one after the last that it depends on."""
    drawn_in = np.zeros(given.shape, dtype=np.int64)  # given ones are there from the start, in step 0
    steps = []
    for row, column in cells:
        top, left = tops[row], lefts[column]
        above = drawn_in[top:row, left : left + width].max(initial=0)
        beside = drawn_in[row, left:column].max(initial=0)
        drawn_in[row, column] = max(above, beside) + 1
        steps.append(int(drawn_in[row, column]))
    return steps
