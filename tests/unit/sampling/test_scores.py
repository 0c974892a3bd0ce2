"""Scores of grids of any size: a token is given what the window that follows it holds before it."""

import pytest
import torch

from vqgan.prior import LocalSpan, Prior, PriorConfig
from vqgan.sampling import score_grids, window_start

CODES = 7


def make(**changes):
    torch.manual_seed(0)
    sizes = {"codebook_size": CODES, "condition_size": CODES, "context_length": 40, "depth": 1, "width": 8}
    prior = Prior(PriorConfig(**sizes, num_heads=2, **changes), lengths=(1,)).double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return prior


def inputs(grid, *, is_spatial):
    generator = torch.Generator().manual_seed(1)
    length = grid[0] * grid[1] if is_spatial else 2
    return (
        torch.randint(CODES, (2, length), generator=generator),
        torch.randint(CODES, (2, *grid), generator=generator),
    )


@pytest.mark.parametrize("is_spatial", [True, False])
@pytest.mark.parametrize("window", [(4, 5), (3, 4)])
@pytest.mark.parametrize("extra", [(0, 0), (0, 3), (4, 3)])
@pytest.mark.parametrize("memory", [1, 2**30])
def test_each_token_is_scored_in_the_window_in_which_it_would_be_drawn(is_spatial, window, extra, memory):
    prior, grid = make(), (window[0] + extra[0], window[1] + extra[1])
    condition, indices = inputs(grid, is_spatial=is_spatial)
    lengths = (None,) if is_spatial else (2,)
    found = score_grids(prior, condition, indices, window=window, lengths=lengths, memory=memory)
    assert found.requires_grad
    for row in range(0, grid[0], 2):
        for column in range(grid[1]):
            top, left = window_start(row, grid[0], window[0]), window_start(column, grid[1], window[1])
            cut = (slice(None), slice(top, top + window[0]), slice(left, left + window[1]))
            seen = condition.view(2, *grid)[cut].flatten(1) if is_spatial else condition
            scores = prior.log_probability(indices[cut].flatten(1), seen).view(2, *window)
            torch.testing.assert_close(found[:, row, column], scores[:, row - top, column - left])


def test_other_orders_are_scored_in_theirs():
    prior = make()
    condition, indices = inputs((4, 5), is_spatial=False)
    how = {"window": (4, 5), "lengths": (2,), "memory": 2**30}
    found = score_grids(prior, condition, indices, token_order="spiral_out", **how)
    changed = indices.clone()
    changed[:, 0, 0] += 1  # the last of all: nobody sees it
    again = score_grids(prior, condition, changed % CODES, token_order="spiral_out", **how)
    assert torch.equal((found != again).nonzero()[:, 1:].unique(dim=0), torch.tensor([[0, 0]]))


def test_a_local_span_scores_any_grid_whole():
    prior = make(span=LocalSpan(rows=2, columns=2), positions="rotary")
    condition, indices = inputs((9, 11), is_spatial=False)
    found = score_grids(prior, condition[:, :1], indices, window=(9, 11), lengths=(1,), memory=1)
    expected = prior.log_probability(indices.flatten(1), condition[:, :1], (9, 11))
    assert torch.equal(found.flatten(1), expected)
