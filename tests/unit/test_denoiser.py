"""A denoiser gives images without their noise, and a distance of images."""

import pytest
import torch
from torch.testing import assert_close

import tiny
from vqgan.errors import ConfigError


def distance(first, second, seed=0):
    return tiny.denoiser(seed, channels=first.shape[1]).eval().requires_grad_(False).distance(first, second)


def test_an_image_keeps_its_shape():
    assert tiny.denoiser(channels=3)(tiny.images(2, channels=3)).shape == (2, 3, 8, 8)


def test_equal_images_have_distance_zero_and_others_more():
    images = tiny.images(2)
    found = distance(images, torch.stack([images[0], -images[1]]))
    assert found[0] == 0
    assert 0 < found[1] <= 4


def test_each_image_counts_for_itself():
    first, second = tiny.images(2, side=16), tiny.images(2, side=16, seed=1)
    assert_close(distance(first, second)[1:], distance(first[1:], second[1:]))


def test_what_features_have_in_common_everywhere_does_not_hide_how_they_differ():
    model, (first, second) = tiny.denoiser().double(), tiny.images(2, side=16).double()[:, None]
    before = model.distance(first, second)
    with torch.no_grad():
        model.encoder.input_conv.bias += 100
    assert_close(model.distance(first, second), before, atol=0, rtol=1e-4)


def test_flat_images_give_no_infinite_gradient():
    model, flat = tiny.denoiser().requires_grad_(False), torch.zeros(1, 1, 16, 16)
    for other in (flat.clone(), flat + 1e-3 * tiny.images(1, side=16)):
        other.requires_grad_()
        model.distance(flat, other).sum().backward()
        assert other.grad.abs().max() < 1e3


def test_every_level_counts():
    model, (first, second) = tiny.denoiser().eval(), tiny.images(2)[:, None]
    before = model.distance(first, second)
    for part in (model.encoder.input_conv, model.encoder.levels[0].blocks[0].conv2):
        torch.nn.init.normal_(part.weight)
        after = model.distance(first, second)
        assert not torch.isclose(before, after)
        before = after


def test_the_gradient_reaches_both_images_and_not_the_network():
    model = tiny.denoiser().requires_grad_(False)
    images = [tiny.images(2, seed=seed).requires_grad_() for seed in (0, 1)]
    model.distance(*images).sum().backward()
    for each in images:
        assert each.grad.isfinite().all()
        assert (each.grad != 0).any(dim=(1, 2, 3)).all()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 8, 8), "images of 3 channels do not fit the denoiser, which learned 1"),
        (
            (1, 8, 10),
            "images of 8x10 pixels do not fit the denoiser; height and width must be multiples of 4",
        ),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ConfigError, match=message):
        tiny.denoiser().check_fits(*shape)
