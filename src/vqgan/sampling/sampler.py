"""Fills a token grid that the prior can see at once: read what is given, then one token after the other."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqgan.prior import Group, Prior, TokenOrder, make_reader, read, to_tokens, token_positions
from vqgan.sampling.filters import Decoding, filter_logits
from vqgan.sampling.random import GridNoise
from vqgan.sampling.step import make_step
from vqgan.types import ConditionTokens, DrawnTokens, Indices, Known, OnProgress

NOISE_BYTES = 2**23
"""Noise is made for several cells at once, as many as take this much memory: fewer operators a token."""

_BYTES_A_NUMBER = 24
"""Three integers of 8 bytes live while one number of noise is made."""


@torch.no_grad()
def sample_grid(
    prior: Prior,
    condition_tokens: ConditionTokens,
    indices: Indices,
    known: Known,
    *,
    decoding: Decoding,
    seed: int = 0,
    token_order: TokenOrder = "raster",
    on_progress: OnProgress | None = None,
) -> Indices:
    """Samples the unknown tokens of a grid, each given the condition and all tokens before it.

    Every token that one to be drawn depends on is read once, those given in all images without a gap together; the keys
    and values of all tokens read are kept.

    Args:
        prior: The distribution.
        condition_tokens: What stands in front of the image's tokens.
        indices: The given tokens; what stands where ``known`` is false plays no part.
        known: Which tokens are given; they are kept as they are.
        decoding: Temperature and filters.
        seed: Image ``i`` takes the noise of ``seed + i``.
        token_order: The order in which the prior has learned its tokens. Grids and condition tokens are in
            image order all the same, and the noise of a token is that of its row and column.
        on_progress: Called with :class:`DrawnTokens` after each token that was drawn.

    Returns:
        The full grid.

    Raises:
        ConfigError: If condition and grid exceed the prior's context length, or a seed is out of range.
    """
    batch, rows, columns = indices.shape
    total = rows * columns
    prior.check_length(condition_tokens.shape[1] + total - 1)
    cells = token_positions(token_order, (rows, columns)).to(indices.device)
    noise = SequenceNoise(grid_noise(prior, indices, seed), cells, is_needed=not decoding.is_greedy)
    fixed = to_tokens(known, token_order)
    places, is_given, cell_of = undrawn(fixed), fixed.any(dim=0).tolist(), cells.tolist()
    if not places:
        return indices.clone()
    drawn = torch.where(known, indices, -1)
    tokens = to_tokens(drawn, token_order)
    reader = make_reader(prior, has_single_rows=batch == 1)
    cache = reader.new_cache(batch, condition_tokens.shape[1] + places[-1])
    logits = read(reader, [Group(prior.entries(tokens[:, : places[0]], condition_tokens), cache)])
    step = make_step(reader, cache, count=places[-1] - places[0])
    for place, after in zip(places, [*places[1:], total], strict=True):
        chosen = choose_tokens(logits, decoding, noise.of(place))
        if is_given[place]:
            chosen = torch.where(fixed[:, place], tokens[:, place], chosen)
        tokens[:, place] = chosen
        drawn.view(batch, total)[:, cell_of[place]] = chosen
        if after < total:
            logits = step(tokens[:, place:after])
        if on_progress is not None:
            on_progress(whole_grid(drawn, after))
    return drawn


def whole_grid(drawn: Indices, step: int, values: Mapping[str, float | str] | None = None) -> DrawnTokens:
    """The report that ``step`` tokens of grids which the prior sees at once are there."""
    batch, rows, columns = drawn.shape
    return DrawnTokens(
        "sample",
        step,
        rows * columns,
        values or {},
        indices=drawn,
        windows=((0, 0, rows, columns),),
        images=range(batch),
    )


def grid_noise(prior: Prior, indices: Indices, seed: int) -> GridNoise:
    """The noise for the codes of a prior on the whole of these grids; raises as :class:`GridNoise`."""
    count, rows, columns = indices.shape
    size = prior.config.codebook_size
    return GridNoise(seed=seed, count=count, grid=(rows, columns), codebook_size=size, device=indices.device)


class SequenceNoise:
    """The noise of a sequence's tokens, made for several at once.

    Args:
        noise: That of the whole grid.
        cells: The cell of each token, in the order of the sequence.
        is_needed: False for none.
    """

    def __init__(self, noise: GridNoise, cells: Int[Tensor, " n"], *, is_needed: bool) -> None:
        self._noise = noise
        self._cells = cells
        at_once = max(1, NOISE_BYTES // max(1, _BYTES_A_NUMBER * noise.numbers))
        self._count = at_once if is_needed else 0
        self._first = 0
        self._block = torch.empty(0)

    def of(self, position: int) -> Float[Tensor, "b K"] | None:
        """That of one token; quick when the positions ascend."""
        if not self._count:
            return None
        if not self._first <= position < self._first + len(self._block):
            self._first = position
            self._block = self._noise.at_cells(self._cells[position : position + self._count])
        return self._block[position - self._first]


def undrawn(known: Bool[Tensor, "b n"]) -> list[int]:
    """The places of the sequence whose tokens are not given in every image.

    Example:
        >>> undrawn(torch.tensor([[True, True, True, False], [True, True, False, True]]))
        [2, 3]
    """
    return torch.where(~known.all(dim=0))[0].tolist()


def choose_tokens(
    logits: Float[Tensor, "b K"], decoding: Decoding, noise: Float[Tensor, "b K"] | None
) -> Int[Tensor, " b"]:
    """Draws one token per row: the arg-max of filtered logits plus Gumbel noise, which is an exact draw.

    Adding the noise needs no sum over the codes, so the draw does not depend on how such a sum is rounded.

    Args:
        logits: Of the next tokens.
        decoding: Temperature and filters.
        noise: Standard Gumbel noise; plays no part, and may be None, in greedy decoding.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if decoding.is_greedy or noise is None:
        return logits.argmax(dim=-1)
    return (filter_logits(logits, decoding) + noise.to(logits.dtype)).argmax(dim=-1)
