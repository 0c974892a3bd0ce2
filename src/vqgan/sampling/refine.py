"""Draws the unknown tokens of grids again, each given all others, also those behind it: Gibbs sampling.

A prior tells how probable a token is given those before it. Given all others, the probability of a code is in
proportion to that number times those of all tokens behind it, which are read once for each code that may stand there.
Done for one unknown token after the other, again and again, this makes the grids draws of p(unknown | known) (Geman and
Geman 1984, "Stochastic Relaxation, Gibbs Distributions, and the Bayesian Restoration of Images").
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vqgan.prior import Branches, Group, LocalSpan, Prior, TokenOrder, make_reader, to_tokens, token_positions
from vqgan.sampling.fill import memory_costs
from vqgan.sampling.random import REFINING
from vqgan.sampling.sampler import grid_noise, undrawn
from vqgan.sampling.settings import SamplingSettings, choose_tokens
from vqgan.types import ConditionTokens, Indices, Known, OnProgress, Progress

CANDIDATES = 32
"""Codes that are tried for each token."""

Codes = Int[Tensor, "b k"]
"""For each image some codes that may stand in one cell."""


@torch.no_grad()
def refine_grids(  # noqa: D417 (the other arguments are those of `sample_grid`)
    prior: Prior,
    condition_tokens: ConditionTokens,
    indices: Indices,
    known: Known,
    *,
    settings: SamplingSettings,
    token_order: TokenOrder = "raster",
    candidates: int = CANDIDATES,
    memory: int,
    on_progress: OnProgress | None = None,
) -> Indices:
    """Draws every unknown token of grids that the prior sees whole again, ``settings.refine`` times.

    What is tried for a token are the likeliest codes given those before it, and the one that stands there; the
    temperature and the filters of the settings apply to their probabilities given all others. So with a temperature T
    the grids become draws of p^(1/T). The noise depends on seed, sweep and cell alone.

    Args:
        indices: Whole grids: what is known, and a first draw of the rest.
        candidates: Codes that are tried, at least 2; as many as the prior has make every draw exact.
        memory: Bytes beside the weights and their copies.
        on_progress: Called after each token; steps count those of all sweeps and images.

    Raises:
        ConfigError: If condition and grid exceed the prior's context length, or a seed is out of range.
    """
    (count, rows, columns), codes = indices.shape, prior.config.codebook_size
    places = undrawn(to_tokens(known, token_order))
    if not settings.refine or not places:
        return indices
    cells = token_positions(token_order, (rows, columns)).tolist()
    costs, candidates = memory_costs(prior), min(candidates, codes)
    a_branch = rows * columns * (costs.read + costs.kept // prior.config.depth + 3 * codes * 8)
    at_once, grids, done = max(1, memory // a_branch), indices.clone(), 0
    together = max(1, at_once // candidates)
    for start in range(0, count, together):
        part = slice(start, start + together)
        grid, given, mine = grids[part], known[part], replace(settings, seed=int(settings.seed) + start)
        reading = _reading(prior, condition_tokens[part], grid, token_order)
        for sweep in range(settings.refine):
            noise = grid_noise(prior, grid, mine, [REFINING + sweep])
            for place in places:
                row, column = divmod(cells[place], columns)
                tried, scores = _posterior(reading, place, grid[:, row, column], candidates, at_once)
                logits = scores.new_full((len(grid), codes), -torch.inf).scatter(1, tried, scores)
                gumbel = None if settings.is_greedy else noise.at(row, column)
                chosen = choose_tokens(logits, mine, gumbel)
                chosen = torch.where(given[:, row, column], grid[:, row, column], chosen)
                if not torch.equal(chosen, grid[:, row, column]):
                    grid[:, row, column] = chosen
                    reading.settle(place)
                done += len(grid)
                if on_progress is not None:
                    on_progress(Progress("refine", done, count * settings.refine * len(places)))
    return grids


def _posterior(
    reading: "_Whole | _Local", place: int, current: Int[Tensor, " b"], candidates: int, at_once: int
) -> tuple[Codes, Float[Tensor, "b k"]]:
    """The codes that are tried in a place, and logarithms of their probabilities given all others, plus a number."""
    logits = reading.next_logits(place)
    before = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    if candidates < before.shape[1]:
        likeliest = before.topk(candidates - 1).indices
        tried = torch.cat([likeliest, current[:, None]], dim=1)
    else:
        tried = torch.arange(candidates, device=before.device).expand(len(before), -1)
    behind = [reading.behind(place, part) for part in tried.split(at_once, dim=1)]
    scores = before.gather(1, tried) + torch.cat(behind, dim=1)
    return tried, scores - scores.amax(dim=1, keepdim=True)


def _reading(
    prior: Prior, condition_tokens: ConditionTokens, grid: Indices, token_order: TokenOrder
) -> "_Whole | _Local":
    if prior.config.span is None:
        return _Whole(make_reader(prior), condition_tokens, grid=grid, token_order=token_order)
    return _Local(make_reader(prior), condition_tokens, grid=grid, span=prior.config.span)


class _Whole:
    """Reads grids with full attention: what is before a place is kept, and what is behind it is read for each code."""

    def __init__(
        self, reader: Prior, condition_tokens: ConditionTokens, *, grid: Indices, token_order: TokenOrder
    ) -> None:
        self._reader, self._grid, self._order = reader, grid, token_order
        self._condition, self._count = condition_tokens, condition_tokens.shape[1]
        self._cache = reader.new_cache(len(grid), self._count + grid[0].numel() - 1)
        self._tokens = to_tokens(grid, token_order)

    def next_logits(self, place: int) -> Float[Tensor, "b K"]:
        """Of the token in this place, given those before it."""
        end = self._count + place
        self._cache.go_back(min(self._cache.length, end - 1))
        sequence = self._reader.entries(self._tokens[:, :place], self._condition)
        return self._reader.read([Group(sequence[:, self._cache.length :], self._cache)])

    def behind(self, place: int, codes: Codes) -> Float[Tensor, "b k"]:
        """Logarithm of the probability of all tokens behind the place, if one of the codes stands there."""
        count, later = codes.shape[1], self._tokens[:, place + 1 :]
        if not later.shape[1]:
            return torch.zeros(codes.shape, device=codes.device)
        later = later.repeat_interleave(count, dim=0)
        fed = torch.cat([codes.reshape(-1, 1), later[:, :-1]], dim=1)
        logits = self._reader.read([Group(fed, Branches(self._cache, count))], only_last=False)
        return _log_probability(logits, later).view(codes.shape)

    def settle(self, place: int) -> None:
        """Takes over what now stands in the place."""
        self._tokens = to_tokens(self._grid, self._order)


class _Local:
    """Reads grids with a local span: everything is kept, and what knows a cell is read again for each code."""

    def __init__(
        self, reader: Prior, condition_tokens: ConditionTokens, *, grid: Indices, span: LocalSpan
    ) -> None:
        self._reader, self._grid, self._condition = reader, grid, condition_tokens
        (count, rows, self._columns), device = grid.shape, grid.device
        self._store = reader.new_local_store(span, (rows, self._columns), count)
        for row in range(rows):
            width = self._columns + 1
            self._read(torch.arange(row * width, (row + 1) * width, device=device))

    def next_logits(self, place: int) -> Float[Tensor, "b K"]:
        """As :meth:`_Whole.next_logits`."""
        entry = place + place // self._columns  # the one to the left
        return self._read(torch.tensor([entry], device=self._grid.device))

    def behind(self, place: int, codes: Codes) -> Float[Tensor, "b k"]:
        """As :meth:`_Whole.behind`, but for those that cannot know the cell."""
        (row, column), count = divmod(place, self._columns), codes.shape[1]
        grids = self._grid.repeat_interleave(count, dim=0)
        grids[:, row, column] = codes.flatten()
        self._store.enter(self._store.after(row, column), branches=count)
        group = self._reader.cells(grids, self._condition.repeat_interleave(count, dim=0), self._store)
        logits = self._reader.read([group], only_last=False).unflatten(0, (len(grids), -1))
        rows, columns = self._store.rows[0], self._store.columns[0] + 1
        is_there = columns < self._columns  # the last of each row has no target
        later = grids[:, rows[is_there], columns[is_there]]
        return _log_probability(logits[:, is_there].flatten(0, 1), later).view(codes.shape)

    def settle(self, place: int) -> None:
        """As :meth:`_Whole.settle`."""
        self._read(self._store.after(*divmod(place, self._columns)))

    def _read(self, entries: Int[Tensor, " q"]) -> Float[Tensor, "b K"]:
        self._store.enter(entries)
        return self._reader.read([self._reader.cells(self._grid, self._condition, self._store)])


def _log_probability(logits: Float[Tensor, "rows K"], tokens: Int[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Of each sequence, from the logits of all its tokens."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -F.cross_entropy(logits, tokens.flatten(), reduction="none").view(tokens.shape).sum(dim=1)
