"""Canny's edges: lines of one pixel, the same in the mirror and in bands, and those that scikit-image finds."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vqgan.data.sample import PICTURES, SampleConfig, open_sample
from vqgan.errors import ConfigError
from vqgan.images import canny, edges, to_float


def picture(rows):
    """Brightness (H W) in [0, 1] as an image."""
    return torch.as_tensor(rows, dtype=torch.float32)[None, None] * 2 - 1


def step(height, width, at, low=0.0, high=1.0):
    return torch.where(torch.arange(width) < at, low, high).expand(height, width)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0, 2.3])
@pytest.mark.parametrize("high", [0.3, 1.0])
def test_a_step_is_one_line_of_one_pixel_on_its_brighter_side(sigma, high):
    expected = torch.zeros(12, 30, dtype=torch.bool)
    expected[:, 14] = True
    upright = step(12, 30, 14, high=high)
    assert torch.equal(canny(picture(upright), 0.05, 0.1, sigma)[0], expected)
    assert torch.equal(canny(picture(upright.T), 0.05, 0.1, sigma)[0], expected.T)
    assert torch.equal(canny(picture(high - upright), 0.05, 0.1, sigma)[0], expected.roll(-1, 1))


def test_a_disk_has_a_closed_thin_line_on_its_border():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    distance = ((y - 31) ** 2 + (x - 32) ** 2).sqrt()
    found = canny(picture((distance < 20).float()))[0]
    assert (distance[found] - 20).abs().max() < 1.5
    assert 0.8 < found.sum() / (2 * torch.pi * 20) < 1.1  # a diagonal of pixels is shorter than its length
    # Touching pixels separate inside and outside: what spreads from the corner does not reach the middle.
    outside = torch.zeros_like(found)
    outside[0, 0] = True
    for _ in range(200):
        beside = F.max_pool2d(outside[None].float(), (1, 3), 1, (0, 1)) + F.max_pool2d(
            outside[None].float(), (3, 1), 1, (1, 0)
        )
        outside = (beside[0] > 0) & ~found
    assert not outside[31, 32]
    assert outside[63, 63]


def test_an_edge_goes_on_where_it_is_weak_and_does_not_begin_there():
    fading = torch.linspace(0.5, 0.08, 60)[:, None]
    joined = torch.where(torch.arange(20) < 10, 0.0, fading)
    alone = torch.where(torch.arange(20) < 10, 0.0, torch.full((60, 1), 0.1))
    found = canny(picture(torch.cat([joined, alone], dim=1)), 0.2, 1.0)[0]
    assert found[:, 10].all()  # the weakest end is some 50 pixels from what is strong
    assert not found[:, 22:].any()


def test_nothing_begins_in_flat_pictures_or_in_noise_below_the_thresholds():
    assert not canny(torch.full((2, 3, 9, 7), 0.3)).any()
    noise = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.05
    assert not canny(noise).any()
    assert canny(torch.zeros(1, 1, 1, 1)).tolist() == [[[False]]]


def real(name):
    """The middle of a picture, (1 3 256 256)."""
    part = open_sample(SampleConfig(names=(name,))).parts[0]
    top, left = (part.shape[0] - 256) // 2, (part.shape[1] - 256) // 2
    return to_float(part[top : top + 256, left : left + 256])[None]


@pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
def test_the_edges_of_a_mirrored_picture_are_mirrored(axes):
    for image in (real("flower"), torch.rand(2, 3, 40, 56) * 2 - 1):
        found = canny(image)
        assert found.any()
        assert torch.equal(canny(image.flip(axes)), found.flip(axes))


def test_bands_and_batches_change_nothing(monkeypatch):
    images = torch.cat([real("china"), real("brick")])
    expected = canny(images, sigma=2.0)
    monkeypatch.setattr(edges, "BAND_PIXELS", 2 * 256 * 10)
    assert torch.equal(canny(images, sigma=2.0), expected)
    assert torch.equal(canny(images[1:], sigma=2.0), expected[1:])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.3])
def test_on_cuda_the_edges_are_the_same(sigma):
    for image in (real("china"), picture(step(40, 50, 20)), torch.rand(2, 3, 300, 200) * 2 - 1):
        assert torch.equal(canny(image.cuda(), sigma=sigma).cpu(), canny(image, sigma=sigma))


def test_colours_count_by_their_brightness_and_other_channels_by_their_mean():
    image = real("flower")
    red, green, blue = image[:, :3].unbind(1)
    grey = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
    assert (canny(grey) == canny(image)).float().mean() > 0.9999  # but for rounding
    assert torch.equal(canny(torch.cat([image, -image[:, :1]], dim=1)), canny(image))
    two = torch.cat([grey, -grey], dim=1)
    assert not canny(two).any()


def agreement(ours, theirs):
    """F1 with a tolerance of one pixel."""

    def near(found):
        return F.max_pool2d(found[None].float(), 3, 1, 1)[0] > 0

    precision = (ours & near(theirs)).sum() / ours.sum()
    recall = (theirs & near(ours)).sum() / theirs.sum()
    return float(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("sigma", [1.0, 2.0])
@pytest.mark.parametrize("name", PICTURES)
def test_edges_of_real_pictures_are_those_of_scikit_image(name, sigma):
    feature = pytest.importorskip("skimage.feature", reason="scikit-image is not installed")
    image = real(name)
    grey = (image[0] + 1).permute(1, 2, 0).numpy() / 2 @ np.array([0.299, 0.587, 0.114])
    theirs = feature.canny(grey, sigma=sigma, low_threshold=0.2, high_threshold=0.4, mode="nearest")
    assert agreement(canny(image, sigma=sigma)[0], torch.from_numpy(theirs)) > 0.98


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 0.5}, "`low` is 0.5 and `high` is 0.4, expected 0 < low <= high"),
        ({"low": 0.0}, "`low` is 0.0 and"),
        ({"high": float("inf")}, "`high` is inf"),
        ({"sigma": -1.0}, "`sigma` is -1.0, expected at least 0"),
        ({"sigma": float("nan")}, "`sigma` is nan"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        canny(torch.zeros(1, 1, 4, 4), **settings)
