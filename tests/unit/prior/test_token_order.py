import typing

import pytest
import torch

from vqgan.errors import ConfigError
from vqgan.prior import TokenOrder, check_token_order, to_indices, to_tokens, token_positions

ORDERS = typing.get_args(TokenOrder)
GRIDS = [(1, 1), (1, 7), (7, 1), (2, 2), (3, 3), (4, 8), (8, 4), (5, 3), (12, 10), (16, 16)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_visits_each_cell_of_every_grid_once(order, grid):
    positions = token_positions(order, grid)
    assert positions.dtype == torch.int64
    assert positions.sort().values.tolist() == list(range(grid[0] * grid[1]))


@pytest.mark.parametrize("order", ORDERS)
def test_an_empty_grid_has_an_empty_order(order):
    assert token_positions(order, (0, 4)).tolist() == []


@pytest.mark.parametrize(
    ("order", "grid", "expected"),
    [
        ("raster", (2, 3), [0, 1, 2, 3, 4, 5]),
        ("alternate", (3, 2), [0, 1, 3, 2, 4, 5]),
        ("z_curve", (2, 4), [0, 1, 4, 5, 2, 3, 6, 7]),
        ("z_curve", (3, 3), [0, 1, 3, 4, 2, 5, 6, 7, 8]),
        ("subsample", (4, 4), [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]),
        ("subsample", (3, 3), [0, 2, 6, 8, 1, 7, 3, 5, 4]),
        ("spiral_out", (2, 4), [5, 1, 2, 6, 4, 0, 3, 7]),
        ("spiral_out", (4, 2), [4, 2, 3, 5, 7, 6, 0, 1]),
        ("spiral_in", (2, 2), [3, 1, 0, 2]),
        ("random", (3, 3), [8, 2, 6, 7, 1, 0, 4, 3, 5]),
    ],
)
def test_orders_of_small_grids_worked_out_by_hand(order, grid, expected):
    assert token_positions(order, grid).tolist() == expected


@pytest.mark.parametrize("grid", [(8, 8), (6, 10), (5, 7)])
def test_a_subsampled_picture_comes_before_what_lies_between(grid):
    rows, columns = grid
    coarse = torch.arange(rows * columns).view(rows, columns)[::2, ::2]
    first = token_positions("subsample", grid)[: coarse.numel()]
    assert sorted(first.tolist()) == coarse.flatten().tolist()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("order", ORDERS)
def test_to_indices_undoes_to_tokens(order, grid):
    indices = torch.randint(99, (2, *grid), generator=torch.Generator().manual_seed(0))
    tokens = to_tokens(indices, order)
    assert torch.equal(tokens, indices.flatten(1)[:, token_positions(order, grid)])
    assert torch.equal(to_indices(tokens, grid, order), indices)


@pytest.mark.parametrize("order", ORDERS)
def test_masks_and_scores_are_ordered_too_and_keep_their_gradients(order):
    known = torch.eye(3, dtype=torch.bool)[None]
    assert torch.equal(to_indices(to_tokens(known, order), (3, 3), order), known)
    scores = torch.arange(9.0)[None].requires_grad_()
    to_indices(scores, (3, 3), order)[:, 1, 2].sum().backward()
    assert scores.grad.nonzero()[:, 1].tolist() == [token_positions(order, (3, 3)).tolist().index(5)]


def test_the_raster_order_copies_nothing():
    indices = torch.zeros(2, 3, 4, dtype=torch.int64)
    tokens = to_tokens(indices, "raster")
    assert tokens.data_ptr() == indices.data_ptr()
    assert to_indices(tokens, (3, 4), "raster").data_ptr() == indices.data_ptr()


def test_the_random_order_leaves_numpys_own_numbers_alone():
    import numpy as np

    state = np.random.get_state()[1].copy()
    first = token_positions("random", (4, 4))
    assert torch.equal(first, token_positions("random", (4, 4)))
    assert (np.random.get_state()[1] == state).all()


def test_an_unknown_order_is_refused_with_those_that_there_are():
    with pytest.raises(
        ConfigError, match=r"`token_order` is `zigzag`, .*\nhint: the orders are `raster`, `subs"
    ):
        check_token_order("zigzag")
