"""Fills a token grid larger than the prior can see: a window follows the token being sampled."""

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan.prior import Group, KVCache, Prior, Unkept, make_reader
from vqgan.sampling.plan import Plan, Reading, Window, plan_windows, rows_before
from vqgan.sampling.sampler import grid_noise
from vqgan.sampling.settings import SamplingSettings, choose_tokens
from vqgan.types import (
    ConditionTokens,
    DrawnTokens,
    Indices,
    Known,
    OnProgress,
    PartLengths,
    PerWindow,
    lengths_on,
)


@torch.no_grad()
def sample_sliding(  # noqa: D417 (the other arguments are explained where they come from)
    prior: Prior,
    condition_tokens: ConditionTokens,
    indices: Indices,
    known: Known,
    *,
    window: tuple[int, int],
    lengths: PartLengths,
    settings: SamplingSettings,
    plan: Plan | None = None,
    on_progress: OnProgress | None = None,
) -> Indices:
    """Samples the unknown tokens of a grid, each given what its window holds before it in raster order.

    The prior reads the window's tokens up to the one being sampled and gives one row of logits: tokens after
    it could not change the answer. Tokens that share a window share what was read, and tokens that do not depend
    on each other are read together (see :func:`~vqgan.sampling.plan.plan_windows`). All of this is exact; only a
    ``window_stride`` above 1 in the settings changes what a token sees.

    Arguments not named here, and the result, are those of :func:`~vqgan.sampling.sampler.sample_grid`.

    Args:
        window: Rows and columns that the prior sees.
        lengths: Condition tokens of each part; those of cells are cut out with the window.
        plan: In which order tokens are drawn, and what is kept; None makes one that keeps all. It may draw tokens that
            are known: they stay as they are.
        on_progress: Called with :class:`DrawnTokens` after each step; ``values`` has the ``token_passes`` so far.

    Raises:
        ConfigError: If the grid is smaller than the window, the context too short or a seed out of range.
    """
    batch, rows, columns = indices.shape
    noise = grid_noise(prior, indices, settings)
    if plan is None:
        length, before = sum(lengths_on(lengths, window)), rows_before(lengths, window)
        all_known, stride = known.all(dim=0).cpu().numpy(), settings.window_stride
        plan = plan_windows(all_known, window, condition=length, stride=stride, before=before)
    grid = torch.where(known, indices, -1)
    if not plan.steps:
        return grid
    windows = _Windows(make_reader(prior), window, condition_tokens, lengths, grid, plan)
    steps = [_alike(step) for step in plan.steps]
    numbers = [r.row * columns + r.column for step in steps for readings in step for r in readings]
    cells_of = torch.tensor(numbers, device=grid.device).split([len(step) for step in plan.steps])
    flat, fixed = grid.view(batch, -1), known.reshape(batch, -1)
    done, passes = rows * columns - len(numbers), 0
    for step, batches, cells in zip(plan.steps, steps, cells_of, strict=True):
        logits = windows.read(batches).view(len(step), batch, -1)
        drawn = None if settings.is_greedy else noise.at_cells(cells)
        chosen = choose_tokens(logits, settings, drawn, place=cells, of=rows * columns).t()
        flat[:, cells] = torch.where(fixed[:, cells], flat[:, cells], chosen)
        done, passes = done + len(step), passes + sum(reading.passes for reading in step)
        if on_progress is not None:
            seen = tuple((*reading.window, *window) for reading in step)
            report = ("sample", done, rows * columns, {"token_passes": float(passes)})
            on_progress(DrawnTokens(*report, indices=grid, windows=seen, images=range(batch)))
    return grid


def split_condition(
    condition: ConditionTokens, lengths: PartLengths, grid: tuple[int, int], window: tuple[int, int]
) -> list[Int[Tensor, "b y x ..."]]:
    """The parts of a condition, each as what every window sees of it: of cells its own, of others their tokens.

    Windows are numbered by their first row and first column. Nothing is copied.
    """
    (rows, columns), places = window, (grid[0] - window[0] + 1, grid[1] - window[1] + 1)
    parts = []
    for part, length in zip(condition.split(lengths_on(lengths, grid, window), dim=1), lengths, strict=True):
        if length is None:
            parts.append(part.unflatten(1, grid).unfold(1, rows, 1).unfold(2, columns, 1))
        elif isinstance(length, PerWindow):
            parts.append(part.unflatten(1, (*places, -1)))
        else:
            parts.append(part[:, None, None].expand(-1, *places, -1))
    return parts


def _alike(step: tuple[Reading, ...]) -> list[list[Reading]]:
    """The readings of a step: those that use a cache one by one, the others with all of their length."""
    cached, alike = [], defaultdict(list)
    for reading in step:
        if reading.past or reading.is_kept:
            cached.append([reading])
        else:
            alike[reading.length].append(reading)
    return [*cached, *alike.values()]


@dataclass
class _Windows:
    """Reads windows of a grid that fills up, and keeps what is needed again.

    Attributes:
        reader: The prior.
        window: Rows and columns that it sees.
        condition: All condition tokens.
        lengths: Of each part.
        grid: Where the tokens are taken from.
        plan: Everything that will be read.
        caches: What was read, by window.
    """

    reader: Prior
    window: tuple[int, int]
    condition: ConditionTokens
    lengths: PartLengths
    grid: Indices
    plan: Plan
    caches: dict[Window, KVCache] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The longest sequence of each window: its cache is made for all of it.
        self._needed = {reading.window: reading.length for step in self.plan.steps for reading in step}
        grid = (self.grid.shape[1], self.grid.shape[2])
        self._parts = split_condition(self.condition, self.lengths, grid, self.window)
        self._num_condition = sum(lengths_on(self.lengths, self.window))

    def read(self, step: list[list[Reading]]) -> Float[Tensor, "b K"]:
        """Logits of a step's tokens: those of all images for the first reading, then for the second, and so on."""
        groups = []
        for readings in step:
            entries = torch.cat([self._entries(reading) for reading in readings])
            groups.append(Group(entries, self._cache(readings[0])))
        return self.reader.read(groups)

    def _cache(self, reading: Reading) -> Unkept:
        if not (reading.past or reading.is_kept):
            return Unkept()
        cache = self.caches.pop(reading.window, None)
        if cache is None:
            cache = self.reader.new_cache(len(self.grid), self._needed[reading.window])
        if reading.is_kept:
            self.caches[reading.window] = cache
        return cache

    def _entries(self, reading: Reading) -> Tensor:
        """The tokens of a reading as rows of the embedding table."""
        (top, left), (rows, columns) = reading.window, self.window
        before = reading.length - self._num_condition
        tokens = self.grid[:, top : top + rows, left : left + columns].flatten(1)[:, :before]
        if reading.past:
            return tokens[:, reading.past - self._num_condition :]
        parts = [part[:, top, left].flatten(1) for part in self._parts]
        return self.reader.entries(tokens, torch.cat(parts, dim=1))
