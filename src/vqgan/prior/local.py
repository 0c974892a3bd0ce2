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
from vqgan.prior.cross_attention import Context
from vqgan.prior.transformer import LocalSpan
from vqgan.types import ConditionTokens, PartLengths, lengths_on

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
    """The rectangle around a target that holds all that it sees: rows above it and columns beside it."""
    above = torch.arange(span.rows, -1, -1, device=device)
    beside = torch.arange(-span.columns, span.columns + 1, device=device)
    return torch.cartesian_prod(above, beside)


class CellCondition(nn.Module):
    """The condition of each cell as a vector that is added to its entry's: the sum of its parts.

    Parts of several tokens, as texts are, become the context instead.

    Args:
        size: Different condition tokens.
        width: Of a token's vector.
        lengths: Tokens of each part: one or more for the whole image, or (None) one for each cell.
        side: Of the square of cells around the target that is seen.
    """

    def __init__(self, size: int, width: int, *, lengths: PartLengths, side: int) -> None:
        super().__init__()
        self.lengths, self.side = lengths, side
        self.embedding = nn.Embedding(size, width)
        if many := sum(length for length in lengths if length is not None and length > 1):
            self.order = nn.Parameter(torch.zeros(many, width))
        if maps := lengths.count(None):
            self.weights = nn.Parameter(torch.full((maps * side * side, width), 1 / side))

    def forward(
        self,
        condition_tokens: ConditionTokens,
        grid: Grid,
        rows: Int[Tensor, " n"],
        columns: Int[Tensor, " n"],
    ) -> Float[Tensor, "b n d"]:
        """The vectors for the targets in these rows and columns; cells outside the grid add nothing."""
        parts, number = condition_tokens.split(lengths_on(self.lengths, grid), dim=1), 0
        found = []
        for tokens, length in zip(parts, self.lengths, strict=True):
            if length is None:
                weights = self.weights[number * self.side**2 : (number + 1) * self.side**2]
                found.append(self._near(tokens, weights, grid, rows, columns))
                number += 1
            elif length == 1:
                found.append(self.embedding(tokens).expand(-1, len(rows), -1))
        size = len(condition_tokens), len(rows), self.embedding.embedding_dim
        return sum(found, self.embedding.weight.new_zeros(size))

    def context(self, condition_tokens: ConditionTokens, grid: Grid) -> Context | None:
        """The tokens of parts that have several, each with its place."""
        parts = zip(condition_tokens.split(lengths_on(self.lengths, grid), dim=1), self.lengths, strict=True)
        many = [tokens for tokens, length in parts if length is not None and length > 1]
        return Context(self.embedding(torch.cat(many, dim=1)) + self.order, {}) if many else None

    def _near(
        self,
        tokens: Int[Tensor, "b cells"],
        weights: Float[Tensor, "near d"],
        grid: Grid,
        rows: Int[Tensor, " n"],
        columns: Int[Tensor, " n"],
    ) -> Float[Tensor, "b n d"]:
        """The weighted sum of a map's tokens around each target."""
        reach = torch.arange(self.side, device=rows.device) - self.side // 2
        near_rows = rows[:, None, None] + reach[:, None]
        near_columns = columns[:, None, None] + reach
        is_inside = (near_rows >= 0) & (near_rows < grid[0]) & (near_columns >= 0) & (near_columns < grid[1])
        cells = (near_rows * grid[1] + near_columns).where(is_inside, 0).flatten(1)
        vectors = self.embedding(tokens[:, cells]) * weights
        return (vectors * is_inside.flatten(1).unsqueeze(-1)).sum(dim=2)


class LocalReading(Unkept):
    """Entries of grids that are read together; those of each row of ``rows`` are a sequence, image after image.

    Attributes:
        rows: Of the entries that are read next.
        columns: The same; -1 is the start of a row.
        hidden: What of the ``seen`` each does not see.
        seen: Offsets from all that a sequence may see.
        context: That of the condition that was read last, with its tokens.
    """

    rows: Int[Tensor, "sequences q"]
    columns: Int[Tensor, "sequences q"]
    hidden: Mask
    seen: Int[Tensor, "q seen 2"]
    context: tuple[ConditionTokens, Context | None] | None = None

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
    at the distance that its first target needs. What a row has read in the last steps is kept, as much as ``rows + 1``
    whole rows in all, whatever the height. If this is little, each entry attends to all, with a mask for what it
    does not see. Else its neighbourhood is copied: in row ``i - a`` of the cache, what lies ``b`` columns beside its
    target was read ``a * (columns + 1) - b - 1`` steps ago, whatever ``i`` is, so all neighbourhoods are one strided
    view. No step wraps around in it, because all is kept twice, one period apart.

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
        self._abreast, slots = wavefront_size(span, grid)
        self._like, device, self._is_dense = like, like.device, slots <= _MAX_DENSE
        self._kept = _steps_kept(span, grid)
        if self._is_dense:
            shape: tuple[int, ...] = 2, count, heads[0], slots, heads[1]
            self._places = torch.full((slots, 2), -_FAR, device=device)
        else:
            self._kept += span.columns + 1
            shape = 2, count, span.rows + self._abreast, 2 * self._kept, *heads
            self._near = neighbourhood(span, device)
            self.seen = torch.stack([self._near[:, 0], -self._near[:, 1] - 1], dim=-1)[None]
            # One for all layers: to get so much memory anew takes longer than to fill it.
            self._copy = like.new_empty(
                2, count, self._abreast, heads[0], span.rows + 1, 2 * span.columns + 1, heads[1]
            )
            # Above the first row those are repeated that are above it when the rows begin anew.
            self._row_of = (torch.arange(shape[2], device=device) - span.rows) % self._abreast
        self._layers = [like.new_zeros(shape) for _ in range(depth)]

    def enter(self, step: int) -> None:
        """Begins step ``step``, from 0: ``rows`` and ``columns`` are its entries, from the uppermost row on."""
        (height, width), lag, device = self.grid, self._lag, self._like.device
        first, last = max(0, -((width - step) // lag)), min(height - 1, step // lag)
        rows = torch.arange(first, last + 1, device=device)
        targets = step - rows * lag
        if self._is_dense:
            self.rows, self.columns = rows[None], targets[None] - 1
            self._written = rows % self._abreast * self._kept + step % self._kept
            self._places[self._written] = torch.stack([rows, targets - 1], dim=1)
            above, beside = rows[:, None] - self._places[:, 0], self._places[:, 1] - targets[:, None]
            self.seen = torch.stack([above, -beside - 1], dim=-1)
            self.hidden = hide(~sees(self._span, above, beside), self._like)
            return
        self.rows, self.columns = rows[:, None], targets[:, None] - 1
        others, columns = self.rows - self._near[:, 0], targets[:, None] + self._near[:, 1]
        is_there = (others >= 0) & (columns >= -1) & (columns < width)
        is_there &= sees(self._span, self._near[:, 0], self._near[:, 1])
        self.hidden = hide(~is_there, self._like)[:, None, None].repeat(self.count, 1, 1, 1)
        number = (self._row_of - first) % self._abreast
        self._written = (number < len(rows)).nonzero()[:, 0]
        self._sources, self._step = number[self._written], step
        start = first % self._abreast
        here = min(len(rows), self._abreast - start)
        self._parts = [(start, here), (0, len(rows) - here)][: 1 + (here < len(rows))]

    def append(self, layer: int, keys_values: Float[Tensor, "2 b heads n head_width"]) -> tuple[Heads, Heads]:
        """Stores those of this step; returns all that are kept if they are few, else each entry's neighbourhood."""
        store = self._layers[layer]
        if self._is_dense:
            store[:, :, :, self._written] = keys_values
            return store[0], store[1]
        sequences = keys_values[:, :, :, 0].unflatten(1, (self.count, -1))
        for again in (0, self._kept):
            store[:, :, self._written, self._step % self._kept + again] = sequences[:, :, self._sources]
        done = 0
        for start, length in self._parts:
            self._copy[:, :, done : done + length] = self._view(store, start, length).movedim(5, 3)
            done += length
        keys, values = self._copy[:, :, :done].flatten(1, 2).flatten(3, 4)
        return keys, values

    def _view(self, store: Tensor, start: int, length: int) -> Tensor:
        """The neighbourhoods in as many rows of the cache from ``start`` on."""
        span, (copies, images, row, time, head, _) = self._span, store.stride()
        seen = span.rows + 1, 2 * span.columns + 1
        oldest = (self._step - span.rows * self._lag - span.columns + 1) % self._kept
        return store.as_strided(
            (2, self.count, length, *seen, *store.shape[4:]),
            (copies, images, row, row + self._lag * time, time, head, 1),
            start * row + oldest * time,
        )


def wavefront_size(span: LocalSpan, grid: Grid) -> tuple[int, int]:
    """How many rows of a grid are drawn abreast, and how many entries are kept."""
    abreast, kept = min(grid[0], grid[1] // min(span.columns + 1, grid[1]) + 1), _steps_kept(span, grid)
    if abreast * kept <= _MAX_DENSE:
        return abreast, abreast * kept
    return abreast, (span.rows + abreast) * 2 * (kept + span.columns + 1)


def _steps_kept(span: LocalSpan, grid: Grid) -> int:
    """How many steps ago the oldest entry was read that a target sees, at the most."""
    return span.rows * min(span.columns + 1, grid[1]) + span.columns


def windows_of(
    span: LocalSpan, columns: int, targets: Iterable[tuple[int, int]]
) -> tuple[tuple[int, int, int, int], ...]:
    """What is seen from each target in a grid of so many columns: first row and column, rows and columns."""
    found = []
    for row, column in targets:
        top, left = max(0, row - span.rows), max(0, column - span.columns)
        found.append((top, left, row - top + 1, min(columns, column + span.columns + 1) - left))
    return tuple(found)
