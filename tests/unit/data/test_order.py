import numpy as np
import pytest

from vqgan.data.loader import MAX_TRIES, augmentation, candidates, permutation


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_every_epoch_shows_every_image_once_and_in_another_order(size: int) -> None:
    epochs = [[next(candidates(epoch * size + i, size, seed=3)) for i in range(size)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
    assert size < 7 or len({tuple(epoch) for epoch in epochs}) == 3


def test_the_seed_decides_the_order() -> None:
    assert not np.array_equal(permutation(50, 1, 0), permutation(50, 2, 0))
    assert not np.array_equal(permutation(50, 0, 1), permutation(50, 1, 0))


def test_the_order_of_a_seed_never_changes() -> None:
    assert permutation(8, 7, 0).tolist() == [4, 1, 6, 3, 2, 7, 5, 0]
    assert permutation(8, 2**63 - 1, 10**12).tolist() == [1, 5, 7, 0, 6, 4, 3, 2]


def test_those_that_take_an_images_place_follow_in_the_epochs_order() -> None:
    order = permutation(5, 0, 4)
    assert list(candidates(4 * 5 + 3, 5, 0)) == [*order[3:], *order[:3]]
    assert len(list(candidates(0, 10_000, 0))) == MAX_TRIES


def test_augmentation_follows_from_seed_and_sample_and_is_not_the_orders_chance() -> None:
    draws = {
        (sample, seed): augmentation(sample, seed).random() for sample in range(20) for seed in range(20)
    }
    assert len(set(draws.values())) == 400
    assert augmentation(5, 9).random() == draws.get((5, 9))
    first = permutation(1000, 3, 5)
    assert not np.array_equal(
        first, np.argsort(augmentation(5, 3).bit_generator.random_raw(1000), kind="stable")
    )
