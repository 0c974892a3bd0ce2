"""Fills a token grid that the prior can see at once: read what is given, then one token after the other."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqgan.prior import Prior, TokenOrder, to_indices, to_tokens, token_positions
from vqgan.sampling.filters import Decoding, filter_logits
from vqgan.sampling.random import GridNoise
from vqgan.types import ConditionTokens, Indices, Known, OnProgress, Progress


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

    Every token is read once; the keys and values of those before it are kept. The prior should be in
    evaluation mode, and on the device of the tensors.

    Args:
        prior: The distribution.
        condition_tokens: What stands in front of the image's tokens.
        indices: The given tokens; what stands where ``known`` is false plays no part.
        known: Which tokens are given; they are kept as they are.
        decoding: Temperature and filters.
        seed: Image ``i`` takes the noise of ``seed + i``.
        token_order: The order in which the prior has learned its tokens. Grids and condition tokens are in
            image order all the same, and the noise of a token is that of its row and column.
        on_progress: Called after each token that had to be read or sampled.

    Returns:
        The full grid.

    Raises:
        ConfigError: If condition and grid exceed the prior's context length, or a seed is out of range.
    """
    batch, rows, columns = indices.shape
    total = rows * columns
    given, fixed = to_tokens(indices, token_order), to_tokens(known, token_order)
    cells = token_positions(token_order, (rows, columns)).tolist()
    noise = GridNoise(
        seed=seed,
        count=batch,
        grid=(rows, columns),
        codebook_size=prior.config.codebook_size,
        device=indices.device,
    )
    tokens = given.clone()
    start = known_prefix(fixed)
    if start < total:
        cache = prior.new_cache(condition_tokens.shape[1] + total - 1)
        logits = prior.next_logits(tokens[:, :start], condition_tokens, cache)
    for position in range(start, total):
        row, column = divmod(cells[position], columns)
        chosen = choose_tokens(logits, decoding, noise, row, column)
        tokens[:, position] = torch.where(fixed[:, position], given[:, position], chosen)
        if position + 1 < total:
            logits = prior.step(tokens[:, position], cache)
        if on_progress is not None:
            on_progress(Progress("sample", position + 1, total))
    return to_indices(tokens, (rows, columns), token_order)


def known_prefix(known: Bool[Tensor, "b n"]) -> int:
    """How many tokens from the start of the sequence are given in every image.

    Example:
        >>> known_prefix(torch.tensor([[True, True, True, False], [True, True, False, True]]))
        2
    """
    everywhere = known.all(dim=0)
    return int(everywhere.cumprod(dim=0).sum())


def choose_tokens(
    logits: Float[Tensor, "b K"], decoding: Decoding, noise: GridNoise, row: int, column: int
) -> Int[Tensor, " b"]:
    """Draws one token per image: the arg-max of filtered logits plus Gumbel noise, which is an exact draw.

    Adding the noise needs no sum over the codes, so the draw does not depend on how such a sum is rounded.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if decoding.is_greedy:
        return logits.argmax(dim=-1)
    return (filter_logits(logits, decoding) + noise.at(row, column).to(logits.dtype)).argmax(dim=-1)
