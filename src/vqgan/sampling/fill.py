"""Fills token grids of any size, in batches as large as the memory allows."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from vqgan.errors import require
from vqgan.prior import LocalSpan, Prior, TokenOrder, to_tokens, wavefront_size
from vqgan.sampling.beam import Beam
from vqgan.sampling.jacobi import sample_grid_jacobi
from vqgan.sampling.plan import Costs, Plan, plan_within, rows_before
from vqgan.sampling.random import NOISE_BYTES, check_seed
from vqgan.sampling.sampler import sample_grid, undrawn
from vqgan.sampling.settings import SamplingSettings, check_stride
from vqgan.sampling.sliding_window import sample_sliding
from vqgan.sampling.wavefront import sample_wavefront
from vqgan.types import (
    ConditionTokens,
    DrawnTokens,
    Indices,
    Known,
    OnProgress,
    PartLengths,
    Progress,
    lengths_on,
)

_VECTORS_AT_WORK = 16
"""Vectors of the prior's width that a token takes while it is read: queries, keys, values, twice 4 widened, ..."""

_Rows = tuple[Tensor, Tensor, Tensor]
"""A batch: condition tokens, grids, and what of them is given."""

_ROWS_OF_LOGITS = 8
"""Tensors of 8 bytes for each code that exist while a token is drawn."""


def fill_grids(  # noqa: D417 (the other arguments are those of `sample_grid`)
    prior: Prior,
    condition_tokens: ConditionTokens,
    indices: Indices,
    known: Known,
    *,
    window: tuple[int, int],
    lengths: PartLengths,
    settings: SamplingSettings,
    token_order: TokenOrder = "raster",
    null_tokens: ConditionTokens | None = None,
    beam: Beam | None = None,
    memory: int,
    on_progress: OnProgress | None = None,
) -> Indices:
    """Samples the unknown tokens of grids: whole where the prior can see all, as a wavefront where its span is local.

    Else window by window.

    Args:
        window: Rows and columns that the prior sees.
        lengths: Condition tokens of each part.
        null_tokens: What stands in front of the images' tokens where nothing steers; needed for guidance.
        beam: Chooses among continuations of each image.
        memory: Bytes beside the weights and their copies (see :func:`~vqgan.prior.make_reader`).
        on_progress: Called after each step; steps count the tokens of all images.

    Raises:
        ConfigError: If the grid does not suit window or context, or a number is out of range.
    """
    count, span, width = len(indices), prior.config.span, beam.width if beam else 1
    check_seed(settings.seed, count)
    check_grid(prior, settings, window, (indices.shape[1], indices.shape[2]))
    require(settings.branches == 1 or null_tokens is not None, "`guidance` needs null tokens")
    plan, batch_size = _plan(prior, lengths, known, window, settings, token_order, memory // width)
    batch_size, parts = max(1, min(count, batch_size)), []
    for start in range(0, count, batch_size):
        part = range(start, min(count, start + batch_size))
        copies = [*part] * width
        rows = (condition_tokens[copies], indices[copies], known[copies])
        if settings.branches == 2 and null_tokens is not None:
            rows = _below(rows, (null_tokens[copies], *rows[1:]))
        mine = replace(settings, seed=int(settings.seed) + start)
        report = on_progress and _report_part(on_progress, part, count)
        if span is not None:
            drawn = sample_wavefront(prior, *rows, span=span, settings=mine, on_progress=report)
        elif plan is not None:
            drawn = sample_sliding(
                prior, *rows, window=window, lengths=lengths, settings=mine, plan=plan, on_progress=report
            )
        else:
            one_by_one = partial(sample_grid, beam=beam and beam.of(part, count))
            whole = one_by_one if settings.jacobi is None else sample_grid_jacobi
            drawn = whole(prior, *rows, settings=mine, token_order=token_order, on_progress=report)
        parts.append(drawn[: len(part)])
    return torch.cat(parts)


def _below(first: _Rows, second: _Rows) -> _Rows:
    condition_tokens, indices, known = (torch.cat(pair) for pair in zip(first, second, strict=True))
    return condition_tokens, indices, known


def _plan(
    prior: Prior,
    lengths: PartLengths,
    known: Known,
    window: tuple[int, int],
    settings: SamplingSettings,
    token_order: TokenOrder,
    memory: int,
) -> tuple[Plan | None, int]:
    """How windows slide, if they do, and how many images are drawn at a time."""
    length = sum(lengths_on(lengths, window))
    costs, room = memory_costs(prior, settings.branches), max(0, memory - NOISE_BYTES)
    span = prior.config.span
    if span is not None:
        grid, context = (
            (known.shape[1], known.shape[2]),
            sum(filter(None, lengths)),
        )  # a text's keys and values
        return None, room // (context * costs.kept + _wavefront_memory(prior, span, grid, costs))
    if window == known.shape[1:]:
        last = length + max(undrawn(to_tokens(known, token_order)), default=0)
        prefix = length + int(known.flatten(1).sum(dim=1).max())
        return None, images_within(room, costs, prefix=prefix, last=last, block=settings.jacobi or 1)
    return plan_within(
        known.all(dim=0).cpu().numpy(),
        window,
        condition=length,
        costs=costs,
        memory=room,
        stride=settings.window_stride,
        before=rows_before(lengths, window),
    )


def images_within(memory: int, costs: Costs, *, prefix: int, last: int, block: int) -> int:
    """How many images that the prior sees whole fit at the same time; 0 where one does not.

    Args:
        memory: Bytes.
        costs: Bytes that a token takes.
        prefix: Most tokens of an image that are read in one pass before the first is drawn, condition included.
        last: Tokens that are read in all, condition included.
        block: Tokens of an image that are drawn in one pass.
    """
    return memory // (last * costs.kept + max(prefix, block) * costs.read + block * costs.drawn)


def _wavefront_memory(prior: Prior, span: LocalSpan, grid: tuple[int, int], costs: Costs) -> int:
    """Bytes that one image takes: what is kept, and in each row what a token sees, of one layer at a time."""
    abreast, kept = wavefront_size(span, grid)
    seen = (span.rows + 1) * (2 * span.columns + 1) * costs.kept // prior.config.depth
    return kept * costs.kept + abreast * (seen + costs.read + costs.drawn)


def check_grid(
    prior: Prior, settings: SamplingSettings, window: tuple[int, int], grid: tuple[int, int]
) -> None:
    """Raises ConfigError if blocks are to be guessed where the window slides, or to share windows where it does not."""
    asked = [
        name
        for name, value in (("jacobi", settings.jacobi or 1), ("window_stride", settings.window_stride))
        if value != 1
    ]
    require(
        not asked or prior.config.span is None,
        f"`{asked[0] if asked else ''}` is for priors with full attention, this one's span is local",
        hint="omit it",
    )
    require(
        settings.jacobi is None or window == grid,
        f"`jacobi` works on grids that the prior sees whole, {window[0]} x {window[1]} tokens",
        hint="omit it",
    )
    require(
        settings.window_stride == 1 or window != grid,
        f"`window_stride` works on grids larger than those that the prior sees whole, {window[0]} x {window[1]} tokens",
        hint="omit it",
    )
    check_stride(settings.window_stride, window, grid)
    require(
        settings.refine == 0 or settings.branches == 1,
        "`refine` is not possible with `guidance`",
        hint="omit one of the two",
    )
    require(
        settings.refine == 0 or window == grid,
        f"`refine` works on grids that the prior sees whole, {window[0]} x {window[1]} tokens: on larger ones a token "
        "is part of half a window of others, which would all be read again for every code",
        hint="complete a part of that size around the hole, or use a prior of local span",
    )


def memory_costs(prior: Prior, branches: int = 1) -> Costs:
    """Bytes that one token of an image takes, where each image has so many rows in the batch."""
    config, element = prior.config, prior.head.weight.element_size() * branches
    return Costs(
        kept=2 * config.depth * config.width * element,
        read=_VECTORS_AT_WORK * config.width * element,
        drawn=_ROWS_OF_LOGITS * config.codebook_size * 8 * branches,
    )


def _report_part(on_progress: OnProgress, images: range, count: int) -> OnProgress:
    """What is reported of some images, as a part of the work on all ``count``; rows without condition are left out."""

    def report(progress: Progress) -> None:
        step = images.start * progress.total + len(images) * progress.step
        progress = replace(progress, step=step, total=count * progress.total)
        if isinstance(progress, DrawnTokens):
            progress = replace(progress, images=images, indices=progress.indices[: len(images)])
        on_progress(progress)

    return report
