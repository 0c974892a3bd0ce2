"""Copies that were made are found, and where nothing was copied none are."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vqgan.errors import ConfigError
from vqgan.evaluation import copies
from vqgan.evaluation.copies import largest_repetition, nearest_patch, nearest_pictures


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.25


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """Noise whose neighbours are alike."""
    blurred = torch.nn.functional.avg_pool2d(noise(*shape, seed=seed), 9, stride=1, padding=4)
    return blurred * (0.25 / blurred.std())


# ---- autocorrelation


@pytest.mark.parametrize("period", [(20, 28), (33, 17)])
def test_a_periodic_picture_has_its_peak_at_its_period(period):
    height, width = period
    tiled = noise(3, *period).repeat(1, 3, 4)[:, :70]
    value, shift = largest_repetition(tiled, 8)
    assert value == pytest.approx(1, abs=1e-9)
    assert shift[0] % height == 0
    assert shift[1] % width == 0
    assert shift != (0, 0)


def test_the_correlation_is_that_of_the_part_that_overlaps():
    picture, own = smooth(3, 90, 60), noise(3, 90, 60, seed=1)
    for row in range(17, 90):
        picture[:, row] = 0.8 * picture[:, row - 17] + 0.4 * own[:, row]
    value, shift = largest_repetition(picture, 12)
    assert shift == (17, 0)
    around = picture.double().unfold(1, 25, 1).unfold(2, 25, 1).mean(dim=(3, 4))
    details = picture.double()[:, 12:-12, 12:-12] - around
    details -= details.mean(dim=(1, 2), keepdim=True)
    first, second = details[:, :-17].flatten(), details[:, 17:].flatten()
    assert value == pytest.approx(float(first @ second / (first.norm() * second.norm())), abs=1e-9)
    assert value > 0.6


def test_shifts_to_the_left_are_found_too():
    picture = noise(1, 80, 64)
    for row in range(20, 80):
        picture[:, row, :-9] = picture[:, row - 20, 9:].clone()
    value, shift = largest_repetition(picture, 4)
    assert value > 0.8
    assert shift == (20, -9)


def test_noise_and_slow_changes_have_no_repetition():
    assert largest_repetition(noise(3, 128, 128), 4).value < 0.06
    assert largest_repetition(noise(1, 45, 49), 4).value < 0.4
    rise = torch.linspace(-1, 1, 64).expand(1, 64, 64)
    for light in (rise, rise.square(), rise * rise.mT / 2, torch.full((3, 20, 31), 0.1)):
        assert largest_repetition(light, 4) == (0.0, (0, 0))
    sky = rise.square() + 0.01 * noise(3, 64, 64)
    assert largest_repetition(sky, 4).value < 0.2


def test_copies_are_found_in_a_sky_that_becomes_brighter():
    sky = 0.02 * noise(3, 64, 40).repeat(1, 1, 3) + torch.linspace(-1, 1, 120)
    value, shift = largest_repetition(sky, 6)
    assert value > 0.999
    assert shift == (0, 40)


@pytest.mark.parametrize("radius", [0, 9])
def test_a_radius_that_does_not_fit_is_refused(radius):
    with pytest.raises(ConfigError, match=f"`radius` is {radius}"):
        largest_repetition(noise(1, 20, 30), radius)


# ---- training patches


def by_hand(patch: Tensor, pictures: list[Tensor]) -> tuple[float, int, tuple[int, int]]:
    size, best = patch.shape[-1], (float("inf"), -1, (0, 0))
    for number, picture in enumerate(pictures):
        for row in range(picture.shape[1] - size + 1):
            for column in range(picture.shape[2] - size + 1):
                part = picture[:, row : row + size, column : column + size]
                distance = float((part - patch).double().square().mean().sqrt()) * 127.5
                best = min(best, (distance, number, (row, column)))
    return best


@pytest.mark.parametrize("positions", [1, 40, 300, 1 << 18])
def test_every_position_is_looked_at_whatever_the_bands(positions, monkeypatch):
    monkeypatch.setattr(copies, "_POSITIONS", positions)
    pictures = [smooth(2, 17, 12), smooth(2, 9, 23, seed=1), smooth(2, 5, 5, seed=2)]
    patches = smooth(7, 2, 5, 5, seed=3)
    found = nearest_patch(patches, pictures)
    for i, patch in enumerate(patches):
        distance, number, place = by_hand(patch, pictures)
        assert float(found.distance[i]) == pytest.approx(distance, rel=1e-5)
        assert (int(found.picture[i]), tuple(found.place[i].tolist())) == (number, place)


def test_a_pasted_patch_is_at_distance_zero_and_a_changed_one_as_far_as_the_change():
    pictures = [smooth(3, 64, 80, seed=seed) for seed in range(3)]
    copy = pictures[2][:, 41:57, 13:29]
    own = smooth(3, 16, 16, seed=9)
    found = nearest_patch(torch.stack([copy, copy + 4 / 127.5, own]), iter(pictures))
    assert found.distance[0] == 0
    assert found.distance[1] == pytest.approx(4, rel=1e-4)
    assert found.distance[2] > 10
    assert found.picture[:2].tolist() == [2, 2]
    assert found.place[:2].tolist() == [[41, 13], [41, 13]]


def test_pictures_that_cannot_hold_the_patches_are_refused():
    patches = noise(2, 3, 8, 8)
    with pytest.raises(ConfigError, match="no training picture was given"):
        nearest_patch(patches, [])
    for shape in ((3, 7, 20), (1, 20, 20)):
        with pytest.raises(ConfigError, match="expected 3 channels and at least 8x8 pixels"):
            nearest_patch(patches, [noise(*shape)])


# ---- the nearest of whole pictures


def test_the_nearest_frame_agrees_with_a_search_in_integers():
    train, frames = (
        np.random.default_rng(i).integers(0, 256, (n, 9, 10, 3), np.uint8) for i, n in ((1, 19), (2, 9))
    )
    difference = train[None].astype(int) - frames[:, None]
    expected = (difference**2).sum(axis=(2, 3, 4)).argmin(axis=1)
    np.testing.assert_array_equal(nearest_pictures(train, frames), expected)


def test_the_nearest_frame_tells_neighbours_apart_that_float32_cannot():
    train = np.full((3, 96, 80, 3), 255, dtype=np.uint8)
    train[0, 0, 0, 0] = 253
    train[1, 0, 0, 0] = 254
    frame = train[1:2].copy()
    assert nearest_pictures(train, frame).tolist() == [1]
    assert nearest_pictures(train[[1, 1, 0]], frame).tolist() == [0]
