"""What follows if a token is another one: readings beside what was read before, of which nothing need be kept."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan.prior.cache import Heads, KVCache, Mask, Unkept, causal_mask, hide
from vqgan.prior.local import Grid, LocalReading, sees
from vqgan.prior.transformer import LocalSpan


class Branches(Unkept):
    """Several continuations of each sequence of a cache, which stays as it is.

    Args:
        trunk: What was read before.
        count: Continuations of each sequence; those of the first come first.
    """

    def __init__(self, trunk: KVCache, count: int) -> None:
        self._trunk, self._count, self.length = trunk, count, trunk.length

    def append(self, layer: int, keys_values: Float[Tensor, "2 b heads n head_width"]) -> tuple[Heads, Heads]:
        """Keys and values of the trunk, and the continuation's own."""
        before = self._trunk.layers[layer][:, :, :, : self.length].repeat_interleave(self._count, dim=1)
        keys, values = torch.cat([before, keys_values], dim=3)
        return keys, values

    def mask(self, count: int) -> Mask | None:
        """As :meth:`KVCache.mask`."""
        return None if count == 1 else causal_mask(self.length, count, self._trunk.layers[0])


class LocalStore(LocalReading):
    """The keys and values of all entries of grids, for a local span; any of them can be read again.

    Entries are numbered row after row, each from its start in column -1.

    Args:
        span: What is seen.
        grid: Rows and columns of the grid.
        count: Images.
        depth: Layers.
        heads: Number and width.
        like: A tensor of the type and on the device that the store shall have.
    """

    def __init__(
        self, span: LocalSpan, grid: Grid, *, count: int, depth: int, heads: tuple[int, int], like: Tensor
    ) -> None:
        super().__init__(count)
        self._span, self._grid, self._images, self._like = span, grid, count, like
        entries = grid[0] * (grid[1] + 1)
        self._layers = [like.new_zeros(2, count, heads[0], entries, heads[1]) for _ in range(depth)]

    def after(self, row: int, column: int) -> Int[Tensor, " q"]:
        """The entries that know the token of a cell, through all layers."""
        (height, width), depth = self._grid, len(self._layers)
        left, right = column - depth * (self._span.columns + 1), column + depth * (self._span.columns - 1)
        rows = torch.arange(row, min(height, row + depth * self._span.rows + 1), device=self._like.device)
        columns = torch.arange(max(-1, left), min(width - 1, right) + 1, device=self._like.device)
        numbers = (rows[:, None] * (width + 1) + columns + 1).flatten()
        return numbers[numbers > row * (width + 1) + column]

    def enter(self, entries: Int[Tensor, " q"], *, branches: int | None = None) -> None:
        """These entries are read next.

        Args:
            entries: Their numbers, ascending; what they see must have been read before, or be among them.
            branches: Grids that are read for each image, of which nothing is kept; None keeps what is read.
        """
        width, span = self._grid[1], self._span
        self._entries, self._branches = entries, branches
        self.count = self._images * (branches or 1)
        self.rows, self.columns = (entries // (width + 1))[None], (entries % (width + 1) - 1)[None]
        rows, columns = self.rows[0], self.columns[0]
        lowest, highest = max(0, int(rows.min()) - span.rows), int(rows.max())
        left = max(-1, int(columns.min()) + 1 - span.columns)
        right = min(width - 1, int(columns.max()) + 1 + span.columns)
        near = torch.cartesian_prod(
            torch.arange(lowest, highest + 1, device=entries.device),
            torch.arange(left, right + 1, device=entries.device),
        )
        self._near = near[:, 0] * (width + 1) + near[:, 1] + 1
        self._places = torch.searchsorted(self._near, entries)
        above, beside = rows[:, None] - near[:, 0], near[:, 1] - columns[:, None] - 1
        self.seen = torch.stack([above, -beside - 1], dim=-1)
        self.hidden = hide(~sees(span, above, beside), self._like)

    def append(self, layer: int, keys_values: Float[Tensor, "2 b heads n head_width"]) -> tuple[Heads, Heads]:
        """What is near these entries, with their own; kept unless these are branches."""
        store = self._layers[layer]
        if self._branches is None:
            store[:, :, :, self._entries] = keys_values
        found = store.index_select(3, self._near)
        if self._branches is not None:
            found = found.repeat_interleave(self._branches, dim=1)
            found[:, :, :, self._places] = keys_values
        return found[0], found[1]
