import math

import pytest
import torch
from torch.testing import assert_close

from vqgan.training.losses import (
    adaptive_weight,
    discriminator_loss,
    pixel_loss,
)


@pytest.mark.parametrize(("kind", "expected"), [("l1", 0.75), ("l2", 1.25), ("l1+l2", 2.0)])
def test_pixel_loss_of_known_differences(kind, expected):
    images = torch.tensor([0.0, 0.0, 1.0, 2.0]).view(1, 1, 2, 2)
    assert_close(pixel_loss(images, torch.zeros_like(images), kind=kind), torch.tensor(expected))


def test_the_hardest_pixels_are_those_of_each_image():
    images = torch.zeros(2, 3, 2, 2)
    images[0, :, 0, 0] = torch.tensor([1.0, 2.0, 3.0])
    images[1, :, 1, 1] = 1.0
    plain = pixel_loss(images, torch.zeros_like(images), kind="l1")
    hard = pixel_loss(images, torch.zeros_like(images), kind="l1", hard_share=0.25, hard_kind="l1")
    assert_close(hard - plain, torch.tensor((2.0 + 1.0) / 2))


def test_the_smallest_share_still_means_one_pixel():
    images = torch.zeros(1, 1, 2, 2)
    images[0, 0, 0, 1] = 4.0
    assert pixel_loss(images, torch.zeros_like(images), kind="l1", hard_share=0.01) == 1.0 + 16.0


def test_hinge_ignores_logits_beyond_the_margin():
    real = torch.tensor([2.0, 0.0]).view(1, 1, 1, 2)
    fake = torch.tensor([-3.0, 1.0]).view(1, 1, 1, 2)
    assert discriminator_loss(real, fake, kind="hinge") == 0.5 * (0.5 + 1.0)


def test_vanilla_is_the_cross_entropy():
    zero = torch.zeros(1, 1, 1, 1)
    assert_close(discriminator_loss(zero, zero, kind="vanilla").item(), math.log(2))
    assert discriminator_loss(zero + 9, zero - 9, kind="vanilla") < 1e-3


def test_adaptive_weight_is_the_ratio_of_the_norms():
    weight = adaptive_weight(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]), scale=0.8, delta=0.5)
    assert_close(weight.item(), 0.8 * 5.0 / 2.5)


def test_adaptive_weight_is_bounded_where_the_discriminator_has_no_gradient():
    weight = adaptive_weight(torch.tensor([5.0]), torch.zeros(1), scale=0.5, delta=0.0)
    assert weight == 0.5 * 1e4


def test_adaptive_weight_carries_no_gradient():
    gradient = torch.ones(2, requires_grad=True)
    assert not adaptive_weight(gradient, gradient, scale=1.0).requires_grad
