"""Fills a grid of any size with a prior of local span: rows follow each other; all that is ready is drawn at once."""

import torch

from vqgan.prior import LocalSpan, Prior, make_reader, windows_of
from vqgan.sampling.sampler import grid_noise
from vqgan.sampling.settings import SamplingSettings, choose_tokens
from vqgan.types import ConditionTokens, DrawnTokens, Indices, Known, OnProgress


@torch.no_grad()
def sample_wavefront(  # noqa: D417 (the other arguments are those of `sample_grid`)
    prior: Prior,
    condition_tokens: ConditionTokens,
    indices: Indices,
    known: Known,
    *,
    span: LocalSpan,
    settings: SamplingSettings,
    on_progress: OnProgress | None = None,
) -> Indices:
    """Samples the unknown tokens of a grid, each given what it sees before it in raster order.

    Every token costs the same, and what is kept does not grow with the height (see :class:`~vqgan.prior.LocalCache`).

    Arguments not named here, and the result, are those of :func:`~vqgan.sampling.sampler.sample_grid`.

    Args:
        span: What a token of this prior sees.

    Raises:
        ConfigError: If a seed is out of range.
    """
    batch, rows, columns = indices.shape
    noise, grid = grid_noise(prior, indices, settings), torch.where(known, indices, -1)
    flat, given = grid.view(batch, -1), known.reshape(batch, -1)
    reader = make_reader(prior)
    cache, drawn = reader.new_local_cache(span, (rows, columns), batch), 0
    for step in range(cache.num_steps):
        cache.enter(step)
        group = reader.cells(grid, condition_tokens, cache)
        logits = reader.read([group], only_last=False).unflatten(0, (batch, -1))
        ended = int(cache.columns[0, 0] + 1 == columns)  # the uppermost row has no target any more
        cells = (cache.rows * columns + cache.columns + 1).flatten()[ended:]
        wanted = logits[:, ended:].transpose(0, 1)
        gumbel = None if settings.is_greedy else noise.at_cells(cells)
        chosen = choose_tokens(wanted, settings, gumbel, place=cells, of=rows * columns).t()
        flat[:, cells] = torch.where(given[:, cells], flat[:, cells], chosen)
        drawn += len(cells)
        if on_progress is not None:
            targets = [divmod(cell, columns) for cell in cells.tolist()]
            seen = windows_of(span, columns, targets)
            report = DrawnTokens(
                "sample", drawn, rows * columns, {}, indices=grid, windows=seen, images=range(batch)
            )
            on_progress(report)
    return grid
