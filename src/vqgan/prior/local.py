"""Priors of local span: each token sees the tokens before it that are near, so grids can have any size.

A grid is read cell by cell. The entry of a cell predicts the token to its right, which is its *target*; each row begins
with an entry of its own, in column -1, which predicts the first token. An entry sees itself and every entry before it
that lies at most ``rows`` rows above and ``columns`` columns beside its target: nothing wraps from the end of a row to
the start of the next, and every cell sees the same neighbourhood, but for what lies outside the grid.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vqgan.prior.cache import Heads, Mask, Unkept, hide
from vqgan.prior.transformer import LocalSpan
from vqgan.types import ConditionTokens

Grid = tuple[int, int]
"""Rows and columns of the token grid."""

Cells = Int[Tensor, "*shape"]

_MAX_DENSE = 1200
"""A grid of at most this many entries is read as one tile; in larger ones, tiles cost less than attention over all."""


_FAR = 2**30
"""The row and column of an entry that is not there yet: nothing sees it."""


def sees(span: LocalSpan, above: Cells, beside: Cells) -> Bool[Tensor, "*shape"]:
    """Whether a target sees an entry that is so many rows above it and so many columns to its right (or left: < 0)."""
    is_near = (above >= 0) & (above <= span.rows) & (beside.abs() <= span.columns)
    return is_near & ((above > 0) | (beside < 0))


def neighbourhood(span: LocalSpan, device: torch.device) -> Int[Tensor, "seen 2"]:
    """All that a target sees: rows above it and columns beside it."""
    above = torch.arange(span.rows, -1, -1, device=device)
    beside = torch.arange(-span.columns, span.columns + 1, device=device)
    pairs = torch.cartesian_prod(above, beside)
    return pairs[sees(span, pairs[:, 0], pairs[:, 1])]


class CellCondition(nn.Module):
    """The condition of each cell as a vector that is added to its entry's.

    Args:
        size: Different condition tokens.
        width: Of a token's vector.
        side: Of the square of cells around the target that is seen; None if one token is the whole image's condition.
    """

    def __init__(self, size: int, width: int, *, side: int | None) -> None:
        super().__init__()
        self.side = side
        self.embedding = nn.Embedding(size, width)
        if side is not None:
            self.weights = nn.Parameter(torch.full((side * side, width), 1 / side))

    def forward(
        self,
        condition_tokens: ConditionTokens,
        grid: Grid,
        rows: Int[Tensor, " n"],
        columns: Int[Tensor, " n"],
    ) -> Float[Tensor, "b n d"]:
        """The vectors for the targets in these rows and columns; cells outside the grid add nothing."""
        if self.side is None:
            return self.embedding(condition_tokens).expand(-1, len(rows), -1)
        reach = torch.arange(self.side, device=rows.device) - self.side // 2
        near_rows = rows[:, None, None] + reach[:, None]
        near_columns = columns[:, None, None] + reach
        is_inside = (near_rows >= 0) & (near_rows < grid[0]) & (near_columns >= 0) & (near_columns < grid[1])
        cells = (near_rows * grid[1] + near_columns).where(is_inside, 0).flatten(1)
        vectors = self.embedding(condition_tokens[:, cells]) * self.weights
        return (vectors * is_inside.flatten(1).unsqueeze(-1)).sum(dim=2)


class LocalReading(Unkept):
    """Entries of grids that are read together; those of each row of ``rows`` are a sequence, image after image.

    Attributes:
        rows: Of the entries that are read next.
        columns: The same; -1 is the start of a row.
        hidden: What of the ``seen`` each does not see.
        seen: Offsets from all that a sequence may see.
    """

    rows: Int[Tensor, "sequences q"]
    columns: Int[Tensor, "sequences q"]
    hidden: Mask
    seen: Int[Tensor, "q seen 2"]

    def __init__(self, count: int) -> None:
        self.count = count

    def positions(self, table: Tensor, count: int) -> Int[Tensor, "sequences q 2"]:
        """Rows and columns of the entries of all images."""
        return torch.stack([self.rows, self.columns], dim=-1).repeat(self.count, 1, 1)

    def offsets(self, table: Tensor, count: int) -> Int[Tensor, "q seen 2"]:
        """The same for all sequences."""
        return self.seen

    def mask(self, count: int) -> Mask:
        """Hides what an entry does not see."""
        return self.hidden


class TiledReading(LocalReading):
    """Reads whole grids in tiles twice as large as the span, or as one tile where they are small.

    Args:
        span: What is seen.
        grid: Rows and columns.
        count: Images.
        like: A tensor of the type and on the device that masks shall have.
        most: A grid of at most this many entries is read as one tile; by default ``_MAX_DENSE``.

    Attributes:
        targets: The entries of an image, numbered tile after tile, that predict its tokens in raster order.
    """

    def __init__(
        self, span: LocalSpan, grid: Grid, *, count: int, like: Tensor, most: int | None = None
    ) -> None:
        super().__init__(count)
        device, (height, width) = like.device, (grid[0], grid[1] + 1)
        self._is_whole = height * width <= (_MAX_DENSE if most is None else most)
        tile = (height, width) if self._is_whole else (2 * span.rows, 2 * span.columns)
        around = (0, 0, 0) if self._is_whole else (span.rows, span.columns - 1, span.columns + 1)
        corners = torch.cartesian_prod(
            *(torch.arange(0, *each, device=device) for each in zip((height, width), tile, strict=True))
        )
        inside = _cells((0, tile[0]), (0, tile[1]), device)
        seen = _cells((-around[0], tile[0]), (-around[1], tile[1] + around[2]), device)
        row, column = (corners[:, None] + seen).unbind(-1)  # here, columns count from the start of a row
        is_there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        above, beside = (inside[:, None] - seen[None]).unbind(-1)
        hidden = ~(sees(span, above, -beside - 1) & is_there[:, None])
        hidden &= (above != 0) | (beside != 0)  # what lies outside sees itself, lest it become NaN
        self.hidden = hide(hidden[:, None].repeat(1 if self._is_whole else count, 1, 1, 1), like)
        self.seen = torch.stack([above, beside], dim=-1)
        entries = corners[:, None] + inside
        self.rows = entries[..., 0].clamp(max=height - 1)
        self.columns = entries[..., 1].clamp(max=width - 1) - 1
        ends = [-(-total // step) * step for total, step in zip((height, width), tile, strict=True)]
        numbers = torch.empty(*ends, dtype=torch.int64, device=device)
        numbers[entries[..., 0], entries[..., 1]] = torch.arange(self.rows.numel(), device=device).view_as(
            self.rows
        )
        self.targets = numbers[:height, : width - 1].flatten()
        self._sources = numbers[row.clamp(0, height - 1), column.clamp(0, width - 1)]

    def append(self, layer: int, keys_values: Float[Tensor, "2 b heads n head_width"]) -> tuple[Heads, Heads]:
        """Keys and values of what each tile sees."""
        keys, values = keys_values
        if not self._is_whole:
            every = keys_values.unflatten(1, (self.count, -1)).transpose(2, 3).flatten(3, 4)
            keys, values = every[:, :, :, self._sources].transpose(2, 3).flatten(1, 2)
        return keys, values


def _cells(rows: tuple[int, int], columns: tuple[int, int], device: torch.device) -> Int[Tensor, "n 2"]:
    """All cells of these ranges in raster order."""
    return torch.cartesian_prod(*(torch.arange(*ends, device=device) for ends in (rows, columns)))


class LocalCache(LocalReading):
    """Draws grids as a wavefront; keeps the keys and values of as many entries as a local span needs again.

    In step ``t``, the entries in the columns ``t - 1 - i * (columns + 1)`` of all rows ``i`` are read, where there are
    such columns: all that they see was read in earlier steps, or is read in this one. Each row follows the one above
    at the distance that its first target needs. Kept are the last ``rows * (columns + 1) + columns`` steps: as much as
    ``rows + 1`` whole rows, whatever the height. If these are few, each entry attends to all, with a mask for what
    it does not see; else what each sees is gathered.

    Args:
        span: What is seen.
        grid: Rows and columns of the grid.
        count: Images.
        depth: Layers.
        heads: Number and width.
        like: A tensor of the type and on the device that the cache shall have.

    Attributes:
        num_steps: How many steps draw the whole grid.
    """

    def __init__(
        self, span: LocalSpan, grid: Grid, *, count: int, depth: int, heads: tuple[int, int], like: Tensor
    ) -> None:
        super().__init__(count)
        self.grid, self._span, self._lag = grid, span, min(span.columns + 1, grid[1])
        self.num_steps = grid[1] + (grid[0] - 1) * self._lag
        self._abreast, self._kept = wavefront_size(span, grid)
        slots, self._like = self._abreast * self._kept, like
        self._near = neighbourhood(span, like.device)
        self.seen = torch.stack([self._near[:, 0], -self._near[:, 1] - 1], dim=-1)[None]
        self._layers = [like.new_zeros(2, count, heads[0], slots, heads[1]) for _ in range(depth)]
        self._places = torch.full((slots, 2), -_FAR, device=like.device) if slots <= _MAX_DENSE else None

    def enter(self, step: int) -> None:
        """Begins step ``step``, from 0: ``rows`` and ``columns`` are its entries, from the uppermost row on."""
        (height, width), lag, device = self.grid, self._lag, self._near.device
        first, last = max(0, -((width - step) // lag)), min(height - 1, step // lag)
        rows = torch.arange(first, last + 1, device=device)
        targets = step - rows * lag
        self._written = self._slot(rows, targets - 1)
        if self._places is not None:
            self.rows, self.columns = rows[None], targets[None] - 1
            self._places[self._written] = torch.stack([rows, targets - 1], dim=1)
            above, beside = rows[:, None] - self._places[:, 0], self._places[:, 1] - targets[:, None]
            self.seen = torch.stack([above, -beside - 1], dim=-1)
            self.hidden = hide(~sees(self._span, above, beside), self._like)
            return
        self.rows, self.columns = rows[:, None], targets[:, None] - 1
        others, columns = self.rows - self._near[:, 0], targets[:, None] + self._near[:, 1]
        is_there = (others >= 0) & (columns >= -1) & (columns < width)
        self._read = self._slot(others, columns).where(is_there, 0).flatten()
        self.hidden = hide(~is_there, self._like)[:, None, None].repeat(self.count, 1, 1, 1)

    def _slot(self, rows: Cells, columns: Cells) -> Cells:
        return rows % self._abreast * self._kept + (columns + 1 + rows * self._lag) % self._kept

    def append(self, layer: int, keys_values: Float[Tensor, "2 b heads n head_width"]) -> tuple[Heads, Heads]:
        """Stores those of this step; returns all that are kept if they are few, else those that each entry sees."""
        store = self._layers[layer]
        if self._places is not None:
            store[:, :, :, self._written] = keys_values
            return store[0], store[1]
        sequences = keys_values[:, :, :, 0].unflatten(1, (self.count, -1))
        store[:, :, :, self._written] = sequences.transpose(2, 3)
        found = store.index_select(3, self._read).unflatten(3, (-1, len(self._near)))
        keys, values = found.transpose(2, 3).flatten(1, 2)
        return keys, values


def wavefront_size(span: LocalSpan, grid: Grid) -> tuple[int, int]:
    """How many rows of a grid are drawn abreast, and how many steps of each are kept."""
    lag = min(span.columns + 1, grid[1])
    return min(grid[0], grid[1] // lag + 1), span.rows * lag + span.columns


def windows_of(
    span: LocalSpan, columns: int, targets: Iterable[tuple[int, int]]
) -> tuple[tuple[int, int, int, int], ...]:
    """What is seen from each target in a grid of so many columns: first row and column, rows and columns."""
    found = []
    for row, column in targets:
        top, left = max(0, row - span.rows), max(0, column - span.columns)
        found.append((top, left, row - top + 1, min(columns, column + span.columns + 1) - left))
    return tuple(found)
