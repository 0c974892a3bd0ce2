"""Fills token grids of any size, as many together as fit in the memory."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from vqgan.config import require
from vqgan.prior import Prior, TokenOrder, to_tokens
from vqgan.sampling.filters import Decoding
from vqgan.sampling.jacobi import check_block, sample_grid_jacobi
from vqgan.sampling.memory import share_whole, share_windows
from vqgan.sampling.random import check_seed
from vqgan.sampling.sampler import sample_grid, undrawn
from vqgan.sampling.sliding_window import condition_length, sample_sliding
from vqgan.types import ConditionTokens, DrawnTokens, Indices, Known, OnProgress, Progress

logger = logging.getLogger(__name__)

_Draw = Callable[..., Indices]


def fill_grids(  # noqa: D417 (the other arguments are those of `sample_grid`)
    prior: Prior,
    condition_tokens: ConditionTokens,
    indices: Indices,
    known: Known,
    *,
    window: tuple[int, int],
    is_spatial: bool,
    decoding: Decoding,
    seed: int = 0,
    token_order: TokenOrder = "raster",
    jacobi: int | None = None,
    memory: int,
    on_progress: OnProgress | None = None,
) -> Indices:
    """Samples the unknown tokens of grids: at once where the prior can see all, else window by window.

    Args:
        window: Rows and columns that the prior sees.
        is_spatial: Whether the condition has a token for each cell of the grid.
        jacobi: Draw blocks of so many tokens by iteration (see :mod:`~vqgan.sampling.jacobi`); None one by one.
        memory: Bytes beside the weights and their copies (see :func:`~vqgan.prior.make_reader`).
        on_progress: Called after each step; steps count the tokens of all images.

    Raises:
        ConfigError: If the grid does not suit window or context, or a number is out of range.
    """
    count, rows, columns = indices.shape
    check_seed(seed, count)
    seed = int(seed)
    check_block(jacobi)
    length = condition_length(condition_tokens, window, is_spatial=is_spatial)
    if window != (rows, columns):
        require(
            jacobi is None,
            f"`jacobi` works on grids that the prior sees at once, {window[0]} x {window[1]} tokens",
            hint="leave it out",
        )
        sizes = {"condition": length, "count": count, "memory": memory}
        share = share_windows(prior, known.all(dim=0).cpu().numpy(), window, **sizes)
        if share.plan.passes > share.least_passes:
            numbers = f"{share.plan.passes:,} token passes for each image instead of {share.least_passes:,}"
            logger.info("the memory does not hold all that windows share: %s", numbers)
        together = share.images
        draw: _Draw = partial(sample_sliding, window=window, is_spatial=is_spatial, plan=share.plan)
    else:
        last = max(undrawn(to_tokens(known, token_order)), default=0)
        at_once = int(known.flatten(1).sum(dim=1).max())
        read = {"at_once": length + at_once, "last": length + last, "block": jacobi or 1}
        together = share_whole(prior, **read, count=count, memory=memory)
        draw = partial(sample_grid, token_order=token_order)
        if jacobi is not None:
            draw = partial(sample_grid_jacobi, block=jacobi, token_order=token_order)
    parts = []
    for start in range(0, count, together):
        part = slice(start, min(count, start + together))
        report = on_progress and _report_part(on_progress, range(part.start, part.stop), count)
        tensors = (condition_tokens[part], indices[part], known[part])
        parts.append(draw(prior, *tensors, decoding=decoding, seed=seed + start, on_progress=report))
    return torch.cat(parts)


def _report_part(on_progress: OnProgress, images: range, count: int) -> OnProgress:
    """What is reported of some images, as a part of the work on all ``count``."""

    def report(progress: Progress) -> None:
        step = images.start * progress.total + len(images) * progress.step
        progress = replace(progress, step=step, total=count * progress.total)
        on_progress(replace(progress, images=images) if isinstance(progress, DrawnTokens) else progress)

    return report
