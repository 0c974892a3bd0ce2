import math

import pytest
import torch
from torch.testing import assert_close

from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig
from vqgan.training.losses import (
    adaptive_weight,
    discriminator_loss,
    generator_objective,
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


EXACT = {"rtol": 1e-10, "atol": 1e-10}


class Setting:
    """A tokenizer, a discriminator and images, in float64."""

    def __init__(self, patch_size=1):
        torch.manual_seed(0)
        autoencoder = AutoencoderConfig(
            image_channels=3,
            base_channels=32,
            channel_multipliers=(1, 1),
            num_residual_blocks=1,
            latent_channels=8,
            resolution=16,
            attention_resolutions=(),
            patch_size=patch_size,
        )
        config = TokenizerConfig(
            autoencoder=autoencoder, quantizer=VectorQuantizerConfig(codebook_size=16, codebook_dim=4)
        )
        self.tokenizer = Tokenizer(config).double()
        self.discriminator = PatchDiscriminator(base_channels=4, num_layers=2).double()
        self.images = torch.rand(2, 3, 16, 16, dtype=torch.float64) * 2 - 1

    def distance(self, reconstruction):
        return pixel_loss(self.images, reconstruction, kind="l1+l2", hard_share=0.1)

    def objective(self, discriminator):
        result = self.tokenizer(self.images)
        return generator_objective(
            result.images,
            distance=self.distance,
            auxiliary=result.quantized.loss,
            last_weight=self.tokenizer.decoder.last_weight,
            discriminator=discriminator,
            scale=0.8,
        )


def gradients(network):
    return {name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("patch_size", [1, 2])
def test_one_pass_gives_the_gradients_of_the_loss_as_it_is_written(patch_size):
    setting = Setting(patch_size)
    surrogate, values, _ = setting.objective(setting.discriminator)
    surrogate.backward()
    ours = gradients(setting.tokenizer)

    setting.tokenizer.zero_grad()
    result = setting.tokenizer(setting.images)
    reconstruction = setting.distance(result.images)
    adversarial = -setting.discriminator(result.images).mean()
    last = setting.tokenizer.decoder.last_weight
    (pull,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (push,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    weight = adaptive_weight(pull, push, scale=0.8)
    total = reconstruction + result.quantized.loss + weight * adversarial
    total.backward()

    assert_close(values["adaptive_weight"], weight, **EXACT)
    assert_close(values["loss"], total.detach(), **EXACT)
    assert_close(values["reconstruction_loss"], reconstruction.detach(), **EXACT)
    assert_close(values["adversarial_loss"], adversarial.detach(), **EXACT)
    textbook = gradients(setting.tokenizer)
    assert sum(gradient.abs().sum() for gradient in textbook.values()) > 0
    for name, gradient in textbook.items():
        assert_close(ours[name], gradient, **EXACT)


def test_without_discriminator_the_gradients_are_those_of_reconstruction_and_quantizer():
    setting = Setting()
    surrogate, values, fake = setting.objective(None)
    surrogate.backward()
    ours = gradients(setting.tokenizer)
    setting.tokenizer.zero_grad()
    result = setting.tokenizer(setting.images)
    (setting.distance(result.images) + result.quantized.loss).backward()
    for name, gradient in gradients(setting.tokenizer).items():
        assert_close(ours[name], gradient, **EXACT)
    assert fake is None
    assert values["adaptive_weight"] == values["adversarial_loss"] == 0


def test_the_generators_backward_leaves_the_discriminator_alone():
    setting = Setting()
    setting.objective(setting.discriminator)[0].backward()
    assert all(gradient is None for gradient in gradients(setting.discriminator).values())


def test_the_discriminators_loss_does_not_reach_the_tokenizer():
    setting = Setting()
    *_, fake = setting.objective(setting.discriminator)
    discriminator_loss(setting.discriminator(setting.images), fake, kind="hinge").backward()
    assert all(gradient is None for gradient in gradients(setting.tokenizer).values())
    assert all(gradient is not None for gradient in gradients(setting.discriminator).values())


@pytest.mark.parametrize("generator_first", [True, False])
def test_the_shared_forward_gives_the_discriminator_its_own_gradients(generator_first):
    setting = Setting()
    surrogate, _, fake = setting.objective(setting.discriminator)
    if generator_first:
        surrogate.backward()
    loss = discriminator_loss(setting.discriminator(setting.images), fake, kind="hinge")
    loss.backward(inputs=list(setting.discriminator.parameters()))
    ours = gradients(setting.discriminator)

    setting.discriminator.zero_grad()
    with torch.no_grad():
        reconstruction = setting.tokenizer(setting.images).images
    real, fake = setting.discriminator(setting.images), setting.discriminator(reconstruction)
    discriminator_loss(real, fake, kind="hinge").backward()
    for name, gradient in gradients(setting.discriminator).items():
        assert_close(ours[name], gradient, **EXACT)


def test_the_discriminator_sees_the_reconstruction_once():
    setting = Setting()
    calls = []

    def discriminator(images):
        calls.append(images.shape)
        return setting.discriminator(images)

    setting.objective(discriminator)[0].backward()
    assert len(calls) == 1


def test_backward_passes_of_several_batches_add_up():
    setting = Setting()
    setting.objective(None)[0].backward()
    once = gradients(setting.tokenizer)
    setting.objective(None)[0].backward()
    for name, gradient in gradients(setting.tokenizer).items():
        assert_close(gradient, 2 * once[name], **EXACT)


def test_under_autocast_the_discriminator_and_the_distance_get_fp32_images():
    setting = Setting()
    setting.tokenizer.float()
    setting.discriminator.float()
    setting.images = setting.images.float()
    seen = []

    def discriminator(images):
        seen.append(images.dtype)
        return setting.discriminator(images)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        surrogate, values, _ = setting.objective(discriminator)
    surrogate.backward()
    assert seen == [torch.float32]
    assert values["adaptive_weight"] > 0
    assert all(gradient.isfinite().all() for gradient in gradients(setting.tokenizer).values())
