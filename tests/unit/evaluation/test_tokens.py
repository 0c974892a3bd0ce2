"""What codes do, counted by hand."""

import math

import numpy as np
import pytest

from vqgan.evaluation.tokens import (
    by_above_and_previous,
    by_position,
    by_previous,
    codebook_mosaic,
    codebook_numbers,
    table_loss,
    where_codes_stand,
)


def rows(*values):
    """Grids of one row."""
    return np.array(values)[:, None]


def test_position_frequencies_add_one_to_each_count():
    loss = table_loss(rows([0, 1], [0, 2], [3, 1]), rows([0, 3]), 4, by_position)
    assert loss == pytest.approx(-(math.log(3 / 7) + math.log(1 / 7)) / 2)


def test_the_table_of_previous_tokens_has_a_row_for_the_start():
    loss = table_loss(rows([0, 1, 0, 1], [2, 0, 1, 1]), rows([2, 0, 1, 1]), 3, by_previous)
    assert loss == pytest.approx(-np.log([2 / 5, 2 / 4, 4 / 6, 2 / 5]).mean())


def test_the_table_of_previous_tokens_does_not_cross_sequences():
    loss = table_loss(rows([0, 1], [2, 0]), rows([1, 2]), 3, by_previous)
    assert loss == pytest.approx(-(math.log(1 / 5) + math.log(1 / 3)) / 2)


def test_the_table_of_neighbours_backs_off_to_the_previous_token():
    train, grids = np.array([[[0, 1], [1, 1]]]), np.array([[[0, 1], [1, 0]]])
    first = np.array(
        [2 / 3, 2 / 3, 3 / 5, 1 / 5]
    )  # (n + 1) / (N + 2); after 1: 1 and 1 once each; to 0 never
    first[2:] = (2 + 1) / (2 + 2), (0 + 1) / (2 + 2)
    above = (np.array([1, 1, 1, 0]) + 2 * first) / (1 + 2)  # the last has 1 before and 1 above, once
    loss = table_loss(train, grids, 2, by_previous, by_above_and_previous)
    assert loss == pytest.approx(-np.log(above).mean())


def test_without_contexts_all_codes_are_equally_probable():
    assert table_loss(rows([0, 1]), rows([1, 1]), 8) == pytest.approx(math.log(8))


def test_codes_are_counted_over_all_grids():
    numbers = codebook_numbers(np.array([[[0, 0], [1, 1]], [[0, 0], [1, 1]]]), 8)
    values = {name: number.value for name, number in numbers.items()}
    assert values == pytest.approx(
        {"usage": 0.25, "perplexity": 2, "dead_codes": 6, "bits_per_image": 12, "entropy_bits_per_image": 4}
    )


def test_places_of_codes_are_shares_of_the_images():
    places = where_codes_stand(np.array([[[0, 1]], [[0, 0]]]), 3)
    np.testing.assert_array_equal(places, [[[1, 0.5]], [[0, 0.5]], [[0, 0]]])


def test_the_mosaic_shows_the_mean_square_of_each_code_the_most_frequent_first():
    frames = np.zeros((1, 4, 4, 1), dtype=np.uint8)
    frames[0, :2, :2] = 10
    frames[0, :2, 2:] = 20
    frames[0, 2:] = 200
    mosaic = codebook_mosaic(frames, np.array([[[1, 1], [2, 1]]]), codebook_size=4)
    assert mosaic.shape == (4, 2, 2, 1)
    assert (mosaic[0] == round((10 + 20 + 200) / 3)).all()
    assert (mosaic[1] == 200).all()
    assert (mosaic[2:] == 128).all()
