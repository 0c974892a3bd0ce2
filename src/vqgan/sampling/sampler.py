"""Fills a token grid that the prior sees whole: reads what is given, then draws one token after the other."""

from collections.abc import Mapping, Sequence
from itertools import repeat

import torch
from jaxtyping import Bool
from torch import Tensor

from vqgan.prior import Group, Prior, TokenOrder, make_reader, record, to_tokens, token_positions
from vqgan.sampling.beam import Beam
from vqgan.sampling.random import SAMPLING, GridNoise
from vqgan.sampling.settings import SamplingSettings, choose_tokens
from vqgan.types import ConditionTokens, DrawnTokens, Indices, Known, OnProgress

_MIN_RECORDED = 8
"""Tokens; to record a CUDA graph takes as long as reading some of them."""


@torch.no_grad()
def sample_grid(
    prior: Prior,
    condition_tokens: ConditionTokens,
    indices: Indices,
    known: Known,
    *,
    settings: SamplingSettings,
    token_order: TokenOrder = "raster",
    beam: Beam | None = None,
    on_progress: OnProgress | None = None,
) -> Indices:
    """Samples the unknown tokens of a grid, each given the condition and all tokens before it.

    Each token that a later one depends on is read once, given ones together; their keys and values are kept.

    Args:
        prior: The distribution.
        condition_tokens: What stands in front of the image's tokens. With guidance, the second half of the batch is the
            first with null tokens; it gets the same tokens.
        indices: The given tokens; what stands where ``known`` is false plays no part.
        known: Which tokens are given; they are kept as they are.
        settings: How tokens are drawn.
        token_order: The order in which the prior has learned its tokens. Grids and condition tokens are in
            image order all the same, and the noise of a token is that of its row and column.
        beam: Chooses among continuations; the batch, or each half of it, has all images once for each of them.
        on_progress: Called with :class:`DrawnTokens` after each token that was drawn.

    Returns:
        The full grid.

    Raises:
        ConfigError: If condition and grid exceed the prior's context length, or a seed is out of range.
    """
    (batch, rows, columns), total = indices.shape, indices[0].numel()
    prior.check_length(condition_tokens.shape[1] + total - 1)
    cells = token_positions(token_order, (rows, columns)).to(indices.device)
    fixed = to_tokens(known, token_order)
    places, is_given, cell_of = undrawn(fixed), fixed.any(dim=0).tolist(), cells.tolist()
    if not places:
        return indices.clone()
    gumbels = grid_noise(prior, indices, settings, range(SAMPLING, -beam.width if beam else -1, -1))
    noise = repeat(None) if settings.is_greedy else gumbels.along(cells[places])
    drawn = (grid := torch.where(known, indices, -1)).view(batch, total)
    reader = make_reader(prior, has_single_rows=batch == 1)
    cache = reader.new_cache(batch, condition_tokens.shape[1] + places[-1])
    logits = reader.read([Group(prior.entries(drawn[:, cells[: places[0]]], condition_tokens), cache)])
    can_record = grid.is_cuda and places[-1] - places[0] >= _MIN_RECORDED
    recorded = record(reader, cache) if can_record else None
    for place, after, gumbel in zip(places, [*places[1:], total], noise, strict=False):
        cell = cell_of[place]
        chosen = choose_tokens(logits, settings, gumbel, place=place, of=total)
        drawn[:, cell] = torch.where(fixed[:, place], drawn[:, cell], chosen) if is_given[place] else chosen
        if beam is not None:
            beam.go_on(grid, cache, place, after)
        if after < total:
            tokens = drawn[:, cells[place:after]]
            logits = recorded(tokens) if recorded else reader.read([Group(tokens, cache)])
        if on_progress is not None:
            on_progress(whole_grid(grid, after))
    return grid


def whole_grid(grid: Indices, step: int, values: Mapping[str, float | str] | None = None) -> DrawnTokens:
    """The report that ``step`` tokens of grids which the prior sees whole are there."""
    batch, rows, columns = grid.shape
    windows, total = ((0, 0, rows, columns),), rows * columns
    return DrawnTokens(
        "sample", step, total, values or {}, indices=grid, windows=windows, images=range(batch)
    )


def grid_noise(
    prior: Prior, indices: Indices, settings: SamplingSettings, purposes: Sequence[int] = (SAMPLING,)
) -> GridNoise:
    """The noise for a prior's codes on the whole of these grids, one for each image; raises as :class:`GridNoise`."""
    (batch, rows, columns), size = indices.shape, prior.config.codebook_size
    count = batch // settings.branches // len(purposes)
    return GridNoise(
        seed=settings.seed,
        count=count,
        grid=(rows, columns),
        codebook_size=size,
        device=indices.device,
        purpose=purposes,
    )


def undrawn(known: Bool[Tensor, "b n"]) -> list[int]:
    """The places of the sequence whose tokens are not given in every image.

    Example:
        >>> undrawn(torch.tensor([[True, True, True, False], [True, True, False, True]]))
        [2, 3]
    """
    return torch.where(~known.all(dim=0))[0].tolist()
