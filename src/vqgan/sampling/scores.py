"""How probable the tokens of grids of any size are, each given what would have been seen while it was drawn."""

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.prior import Prior, TokenOrder, to_indices, to_tokens
from vqgan.sampling.fill import memory_costs
from vqgan.sampling.plan import rows_before, window_start
from vqgan.sampling.sliding_window import split_condition
from vqgan.types import ConditionTokens, Indices, PartLengths


def score_grids(
    prior: Prior,
    condition_tokens: ConditionTokens,
    indices: Indices,
    *,
    window: tuple[int, int],
    lengths: PartLengths,
    token_order: TokenOrder = "raster",
    memory: int,
) -> Float[Tensor, "b h w"]:
    """Natural logarithm of each token's probability given those before it; keeps gradients.

    On grids larger than the window, a token is given what the window that follows it holds before it, as in
    :func:`~vqgan.sampling.sliding_window.sample_sliding`.

    Args:
        prior: The distribution.
        condition_tokens: What stands in front of the tokens.
        indices: The tokens.
        window: Rows and columns that the prior sees.
        lengths: Condition tokens of each part; those with one for each cell are cut out with the window.
        token_order: The order in which the prior has learned its tokens.
        memory: Bytes beside the weights; they decide how many windows are read at a time.
    """
    count, rows, columns = indices.shape
    if window == (rows, columns):
        scores = prior.log_probability(to_tokens(indices, token_order), condition_tokens, window)
        return to_indices(scores, window, token_order)
    parts = split_condition(condition_tokens, lengths, (rows, columns), window)
    above, beside = rows_before(lengths, window)
    tops = [window_start(row, rows, window[0], above) for row in range(rows)]
    column = torch.arange(columns, device=indices.device)
    lefts = [window_start(each, columns, window[1], beside) for each in range(columns)]
    left = torch.tensor(lefts).to(column)
    costs, bands = memory_costs(prior), []
    for top in sorted(set(tops)):
        row = torch.tensor([each for each in range(rows) if tops[each] == top]).to(column)
        height = int(row[-1]) - top + 1  # what lies below is not seen
        # All parts of so many columns, image after image, each row after row.
        windows = indices[:, top : top + height].unfold(2, window[1], 1).transpose(1, 2)
        tokens = windows.flatten(2).flatten(0, 1)
        before = torch.cat([part[:, top].flatten(2) for part in parts], dim=2).flatten(0, 1)
        together = max(1, memory // ((tokens.shape[1] + before.shape[1]) * (costs.read + costs.drawn)))
        batches = zip(tokens.split(together), before.split(together), strict=True)
        found = torch.cat([prior.log_probability(*batch) for batch in batches]).view(
            count, -1, height, window[1]
        )
        bands.append(found[:, left, row[:, None] - top, column - left])
    return torch.cat(bands, dim=1)
