"""Statistics of textures, on sets of which they are known."""

import math

import pytest
import torch
from torch import Tensor

import tiny
from vqgan.errors import ConfigError
from vqgan.evaluation.texture import (
    ROUNDING,
    colour_distance,
    cut_patches,
    cut_rings,
    latent_features,
    patch_frechet,
    power_spectrum,
    power_spectrum_distance,
    seam_ratio,
)


def noise(*shape: int, deviation: float = 0.25, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * deviation


def flat_features(images: Tensor) -> Tensor:
    return images.flatten(1)


def numbered(height: int, width: int) -> Tensor:
    """A picture in which each pixel is unlike all others."""
    return (torch.arange(height * width) / (height * width)).reshape(1, height, width)


# ---- patches


def test_patches_are_in_order_and_reach_from_border_to_border():
    picture = numbered(11, 8)
    patches = cut_patches(picture, 4)
    assert patches.shape == (4, 1, 4, 4)
    tops, lefts = (0, 0, 7, 7), (0, 4, 0, 4)
    for patch, top, left in zip(patches, tops, lefts, strict=True):
        assert torch.equal(patch, picture[:, top : top + 4, left : left + 4])


def test_rings_go_inwards_and_hold_each_patch_once():
    picture = numbered(14, 18)
    border, second, rest = cut_rings(picture, 2, 3)
    assert [len(ring) for ring in (border, second, rest)] == [28, 20, 15]
    assert {patch[0, 0, 0].item() for patch in border} >= {
        picture[0, row, column].item() for row, column in ((0, 0), (0, 16), (12, 0), (12, 16), (0, 8), (6, 0))
    }
    assert torch.equal(second[0], picture[:, 2:4, 2:4])
    assert torch.equal(rest[0], picture[:, 4:6, 4:6])
    everything = torch.cat([border, second, rest]).flatten()
    assert everything.sort().values.equal(picture.flatten())


@pytest.mark.parametrize(("size", "count", "most"), [(4, 2, 1), (4, 0, 1), (9, 1, 0)])
def test_rings_that_a_picture_does_not_have_are_refused(size, count, most):
    with pytest.raises(ConfigError, match=f"{count} rings of patches of {size} pixels do not fit") as caught:
        cut_rings(numbered(8, 8), size, count)
    assert f"there are {most};" in caught.value.hint


# ---- spectra


def test_white_noise_has_its_variance_at_every_frequency():
    spectrum = power_spectrum(noise(200, 3, 32, 32))
    assert spectrum.shape == (16,)
    expected = 10 * math.log10(0.25**2 + ROUNDING)
    assert (spectrum[1:] - expected).abs().max() < 0.2  # the lowest lacks what the mean colour takes along
    assert power_spectrum_distance(noise(200, 3, 32, 32), noise(150, 3, 32, 32, seed=1)) < 0.2


def test_noise_of_twice_the_deviation_is_six_decibels_away():
    patches = noise(50, 3, 16, 16)
    assert power_spectrum_distance(patches, 2 * patches) == pytest.approx(20 * math.log10(2), abs=0.01)
    assert power_spectrum_distance(patches, patches) == 0
    assert power_spectrum_distance(patches, patches + 0.3) < 1e-3  # colour is not texture


def test_a_wave_has_its_power_at_its_frequency_in_every_direction():
    places = torch.arange(32) / 32
    across = torch.sin(2 * torch.pi * 6 * places).expand(1, 1, 32, 32)
    down = across.mT
    for patches in (across, down):
        spectrum = power_spectrum(patches)
        assert spectrum.argmax() == 5  # the first is one wave
        assert spectrum[5] > spectrum[[0, 1, 2, 9, 12]].max() + 40
    assert power_spectrum_distance(across, down) < 1e-6


def test_what_rounding_hides_makes_no_difference():
    grey = torch.zeros(2, 1, 16, 16)
    assert power_spectrum(grey).tolist() == pytest.approx([10 * math.log10(ROUNDING)] * 8)
    assert power_spectrum_distance(grey, grey + noise(2, 1, 16, 16, deviation=1e-5)) < 0.1


# ---- colours


def test_colours_are_as_far_as_they_were_moved():
    images = torch.rand(2, 3, 16, 16) - 0.5
    assert colour_distance(images, images[:, :, torch.randperm(16)]) == 0
    assert colour_distance(images, images + 10 / 127.5) == pytest.approx(10, abs=1e-6)
    moved = images.clone()
    moved[:, 1] -= 30 / 127.5
    assert colour_distance(images, moved) == pytest.approx(10, abs=1e-6)


def test_sets_of_different_sizes_are_compared_by_shares():
    half = torch.ones(1, 1, 40, 10)
    half[:, :, :20] = -1
    assert colour_distance(half, torch.tensor([[[[1.0, -1.0]]]])) == 0
    assert colour_distance(half, -torch.ones(3, 1, 2, 2)) == pytest.approx(255 / 2)
    assert (
        colour_distance(torch.full((1, 1, 2, 2), 9.0), torch.ones(1, 1, 2, 2)) == 0
    )  # both are shown as white


def test_sets_that_cannot_be_compared_are_refused():
    with pytest.raises(ConfigError, match=r"the shapes \(1,\) and \(3,\), expected equal"):
        colour_distance(noise(2, 1, 4, 4), noise(2, 3, 4, 4))
    with pytest.raises(ConfigError, match=r"the shapes \(3, 8, 8\) and \(3, 4, 4\), expected equal"):
        power_spectrum_distance(noise(2, 3, 8, 8), noise(2, 3, 4, 4))


# ---- Frechet distance


def gaussian(mean: Tensor, root: Tensor) -> Tensor:
    """2 f points, as images (n 1 1 f), whose mean is ``mean`` and covariance ``root^T root``."""
    width = len(mean)
    points = torch.eye(width).repeat(2, 1) * math.sqrt((2 * width - 1) / 2)
    points[width:] *= -1
    return (points @ root + mean)[:, None, None, :]


def test_the_distance_of_two_gaussians_is_the_known_one():
    generator = torch.Generator().manual_seed(0)
    mean, other_mean = torch.randn(2, 5, generator=generator)
    roots = torch.randn(2, 5, 5, generator=generator)
    found = patch_frechet(gaussian(mean, roots[0]), gaussian(other_mean, roots[1]), flat_features)
    one, two = (root.double().T @ root.double() for root in roots)
    # The textbook's way, through the eigenvalues of the product.
    trace = one.trace() + two.trace() - 2 * torch.linalg.eigvals(one @ two).real.clamp(min=0).sqrt().sum()
    assert found == pytest.approx(float((mean - other_mean).double().square().sum() + trace), rel=1e-5)


def test_parallel_gaussians_differ_by_their_deviations():
    one, two = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([4.0, 2.0, 0.5])
    found = patch_frechet(
        gaussian(torch.zeros(3), one.diag()), gaussian(torch.ones(3), two.diag()), flat_features
    )
    assert found == pytest.approx(3 + 9 + 0 + 0.25, rel=1e-5)


def test_few_patches_with_many_features_are_no_trouble():
    few = noise(4, 3, 16, 16)
    assert patch_frechet(few, few.flip(0), flat_features) == pytest.approx(0, abs=1e-9)
    assert patch_frechet(few, few + 0.5, flat_features) == pytest.approx(0.25 * 768, rel=1e-5)
    # Covariances of rank 3 in directions that are almost at right angles: hardly anything is shared.
    other = noise(4, 3, 16, 16, seed=1)
    spread = sum(set_.flatten(1).var(dim=0).sum() for set_ in (few, other))
    assert patch_frechet(few, other, flat_features) > 0.8 * float(spread)


def test_what_has_no_covariance_is_refused():
    with pytest.raises(ConfigError, match="at least 2 images, got 1"):
        patch_frechet(noise(2, 1, 4, 4), noise(1, 1, 4, 4), flat_features)
    with pytest.raises(ConfigError, match="not finite"):
        patch_frechet(noise(2, 1, 4, 4), noise(2, 1, 4, 4) * torch.nan, flat_features)


def test_a_tokenizer_describes_patches_by_its_latents():
    tokenizer = tiny.tokenizer(channels=3).eval()
    features = latent_features(tokenizer)
    images = tiny.images(40, channels=3)
    values = features(images)
    with torch.no_grad():
        latents = tokenizer.latents(images)
    assert values.shape == (40, 2 * latents.shape[1])
    assert not values.requires_grad
    torch.testing.assert_close(values[7, 1], latents[7, 1].mean())
    torch.testing.assert_close(values[7, -1], latents[7, -1].std(correction=0))
    assert patch_frechet(images, images.flip(0), features) == pytest.approx(0, abs=1e-9)
    assert patch_frechet(images, images / 4, features) > 1e-3


# ---- seams


def test_a_picture_without_seams_has_ratios_of_one_within_their_errors():
    far = 0
    for seed in range(20):
        for ratio in seam_ratio(noise(3, 128, 160, seed=seed), 16, (3, 5)):
            assert 0 < ratio.error < 0.05
            far += abs(ratio.value - 1) > 2 * ratio.error
    assert far <= 6  # of 40; about two are expected


@pytest.mark.parametrize(("period", "offset"), [(16, 0), (16, 5), (15, 14), (2, 1)])
def test_steps_are_found_only_in_their_direction_and_at_their_place(period, offset):
    picture = noise(3, 130, 170, deviation=0.05)
    picture += 0.3 * ((torch.arange(130) - offset).div(period, rounding_mode="floor") % 2)[:, None]
    across, along = seam_ratio(picture, period, (offset, offset))
    assert across.value > 1 + 10 * across.error
    # Neighbours of noise differ by twice its variance; at the lines also by the step.
    assert across.value == pytest.approx(1 + 0.3**2 / (2 * 0.05**2), rel=0.1)
    assert abs(along.value - 1) < 4 * along.error
    if period > 2:
        assert seam_ratio(picture, period, (offset + 3, 0))[0].value < 1


def test_contrast_that_changes_over_the_picture_is_no_seam():
    contrast = torch.linspace(0.01, 1, 256)[:, None]
    across, along = seam_ratio(noise(3, 256, 256) * contrast, 16)
    assert abs(across.value - 1) < 3 * across.error < 0.2
    assert abs(along.value - 1) < 3 * along.error


def test_cells_that_all_leave_traces_are_no_seam_among_each_other():
    lines = (torch.arange(192) - 3) // 8
    cells = noise(3, 192, 192, deviation=0.05) + 0.2 * (lines % 2)[:, None]
    assert seam_ratio(cells, 32, (3, 0))[0].value > 2
    assert seam_ratio(cells, 32, (3, 0), step=8)[0].value == pytest.approx(1, abs=0.05)
    broken = cells + 0.3 * (lines // 4 % 2)[:, None]
    assert seam_ratio(broken, 32, (3, 0), step=8)[0].value > 1.5
    assert seam_ratio(broken, 32, (11, 0), step=8)[0].value < 1
    with pytest.raises(ConfigError, match="`period` is 12, expected a multiple of `step` = 8, at least 16"):
        seam_ratio(cells, 12, step=8)


def test_a_grid_needs_two_whole_periods():
    seam_ratio(noise(1, 40, 40), 16)
    with pytest.raises(ConfigError, match="39 pixels do not hold two lines of a grid of 16 pixels"):
        seam_ratio(noise(1, 39, 40), 16)
    with pytest.raises(ConfigError, match="`period` is 1"):
        seam_ratio(noise(1, 40, 40), 1)
    assert math.isnan(seam_ratio(torch.zeros(1, 40, 40), 8)[0].value)
