"""Tokenizers of pixels: no layers, and colours as codes."""

import msgspec
import numpy as np
import pytest
import torch

import tiny
from vqgan.checkpoints.diffusers import write_diffusers
from vqgan.checkpoints.load import load
from vqgan.conditioning import UnconditionalConfig
from vqgan.errors import ConfigError
from vqgan.images import to_float, to_uint8
from vqgan.runs import train
from vqgan.tokenizer import (
    Tokenizer,
    TokenizerConfig,
    VectorQuantizerConfig,
    check_decoding,
    decode_rows,
    decode_within,
    encode_within,
    receptive_field,
)
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig
from vqgan.tokenizer.quantizers.vector import MAX_SPREAD, nearest, spread
from vqgan.training.adversary import DiscriminatorConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.run import DataConfig, TokenizerRun
from vqgan.training.tokenizer_task import PerceptualConfig, TokenizerTaskConfig

PALETTE = np.random.Generator(np.random.Philox(5)).integers(0, 256, (12, 3), np.uint8)


def config(colours=12, channels=3):
    return TokenizerConfig(
        autoencoder=None, quantizer=VectorQuantizerConfig(codebook_size=colours, codebook_dim=channels)
    )


def run(colours=12, size=(6, 10), **training):
    optimizer = OptimizerConfig(learning_rate=2e-2, betas=(0.9, 0.99), decay="cosine")
    return TokenizerRun(
        tokenizer=config(colours),
        task=TokenizerTaskConfig(optimizer=optimizer, pixels="l2"),
        data=DataConfig(image_size=size, flip=True),
        training=tiny.loop(**training),
    )


def pictures(count=8, size=(6, 10), palette=PALETTE):
    """Of the colours of the palette, all of which are in each picture."""
    draws = np.random.Generator(np.random.Philox(1))
    places = [draws.permutation(np.arange(size[0] * size[1]) % len(palette)) for _ in range(count)]
    return palette[np.stack(places)].reshape(count, *size, 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder whose tokenizer knows the colours of the palette."""
    folder = tmp_path_factory.mktemp("colours") / "run"
    return train(run(), data=pictures(), eval_data=pictures(2), out=folder, device="cpu")


def codebook(folder):
    return load(folder, device="cpu").quantizer.codebook.weight.detach()


@pytest.mark.parametrize("colours", [12, 20])
def test_pictures_of_no_more_colours_than_codes_come_back_exactly(colours, tmp_path):
    train(run(colours), data=pictures(), out=tmp_path / "run", device="cpu", seed=3)
    tokenizer = load(tmp_path / "run", device="cpu")
    for size in ((6, 10), (3, 8)):
        images = to_float(pictures(3, size))
        indices = tokenizer.encode(images)
        assert indices.shape == (3, *size)
        assert torch.equal(to_uint8(tokenizer.decode(indices)), to_uint8(images))
        assert torch.equal(tokenizer.decode(indices), images)
        assert torch.equal(tokenizer(images).images, images)


def test_other_pixels_become_their_nearest_colour(trained):
    tokenizer, images = load(trained, device="cpu"), tiny.images(2, channels=3)
    table = tokenizer.quantizer.codebook_vectors()
    distances = (images[:, None] - table[None, :, :, None, None]).square().sum(dim=2)
    assert torch.equal(tokenizer.encode(images), distances.argmin(dim=1))
    assert (tokenizer.downsample_factor, tokenizer.image_channels, tokenizer.codebook_size) == (1, 3, 12)
    assert tokenizer.grid_size((5, 7)) == (5, 7)
    assert receptive_field(tokenizer.config.autoencoder) == 0


def test_the_colours_are_the_means_of_known_clusters(tmp_path):
    """Six clouds of colours: k-means++ finds one of each, and the gradient moves them to the means."""
    centres = np.array([[r, g, 90] for r in (40, 128, 215) for g in (60, 190)])
    noise = np.random.Generator(np.random.Philox(2)).normal(0, 6, (16, 12, 12, 3))
    pixels = pictures(16, (12, 12), centres) + noise
    images = pixels.round().clip(0, 255).astype(np.uint8)
    train(run(6, (12, 12), steps=60, batch_size=8), data=images, out=tmp_path / "run", device="cpu")
    found, points = codebook(tmp_path / "run"), to_float(images).permute(0, 2, 3, 1).flatten(0, 2)
    cluster = nearest(points, torch.tensor(centres, dtype=torch.float32) / 127.5 - 1)
    means = torch.stack([points[cluster == number].mean(dim=0) for number in range(6)])
    order = nearest(means, found)
    assert sorted(order.tolist()) == list(range(6))
    begun = spread(points, 6, torch.Generator().manual_seed(0))
    off = (begun[nearest(means, begun)] - means).norm(dim=1).max()
    assert (found[order] - means).norm(dim=1).max() < min(0.01, off / 3)


def test_spread_points_are_different_and_repeatable():
    points = torch.cat([tiny.images(1, side=300).view(-1, 1).round(decimals=1)] * 2)
    different = points.unique()
    assert len(points) > MAX_SPREAD
    chosen = spread(points, len(different), torch.Generator().manual_seed(1))
    assert torch.equal(chosen.unique(), different)
    assert torch.equal(chosen, spread(points, len(different), torch.Generator().manual_seed(1)))
    more = spread(points, len(different) + 5, torch.Generator().manual_seed(1))
    assert torch.equal(more.unique(), different)


def test_a_run_that_was_stopped_ends_with_the_same_colours(tmp_path):
    settings = run(6)
    settings = msgspec.structs.replace(
        settings,
        task=msgspec.structs.replace(
            settings.task, optimizer=msgspec.structs.replace(settings.task.optimizer, decay="constant")
        ),
    )
    request = {"data": pictures(), "device": "cpu"}
    train(settings, out=tmp_path / "whole", **request)
    train(settings, out=tmp_path / "parts", overrides=["training.steps=2"], **request)
    train(None, resume=tmp_path / "parts", overrides=["training.steps=4"], **request)
    assert torch.equal(codebook(tmp_path / "whole"), codebook(tmp_path / "parts"))
    train(
        settings,
        out=tmp_path / "again",
        start_from=tmp_path / "whole",
        overrides=["training.steps=1"],
        **request,
    )
    assert (codebook(tmp_path / "again") - codebook(tmp_path / "whole")).abs().max() < 0.05  # not chosen anew


def test_a_prior_learns_and_draws_pixels(trained, tmp_path):
    prior = msgspec.structs.replace(
        tiny.prior_run(), conditioner=UnconditionalConfig(), data=DataConfig(image_size=(6, 10))
    )
    train(prior, data=pictures(), tokenizer=trained, out=tmp_path / "prior", device="cpu")
    model, images = load(tmp_path / "prior", device="cpu"), to_float(pictures(2))
    assert model.config.window == (6, 10)
    drawn = to_uint8(model.sample(2, (6, 12))).flatten(0, 2)
    assert {tuple(colour) for colour in drawn.tolist()} <= {tuple(colour) for colour in PALETTE.tolist()}
    known = torch.zeros(2, 6, 10, dtype=torch.bool)
    known[:, :3] = True
    completed = model.complete(images, known)
    assert torch.equal(completed[:, :, :3], images[:, :, :3])
    assert not torch.equal(completed, images)
    assert model.log_probability(images).shape == (2, 60)


def test_images_pass_within_the_memory_or_are_refused(trained):
    tokenizer, images = load(trained, device="cpu"), to_float(pictures(5, (60, 50)))
    least = 80_000_000 + 4 * 4 * 3 * 60 * 50
    for memory in (least, least + 5, 2**32):
        indices = encode_within(tokenizer, images, memory)
        assert torch.equal(decode_within(tokenizer, indices, memory), images)
        assert torch.equal(torch.cat([*decode_rows(tokenizer, indices[:1], memory)], dim=2), images[:1])
    for refused in (encode_within, decode_within):
        with pytest.raises(ConfigError, match=rf"60x50 pixels do not fit .*\nhint: .*memory={least}`"):
            refused(tokenizer, images if refused is encode_within else indices, least - 1)
    with pytest.raises(ConfigError, match="60x50 pixels do not fit"):
        check_decoding(tokenizer, (60, 50), least - 1, is_held=False)


@pytest.mark.parametrize(
    "quantizer",
    [
        GumbelQuantizerConfig(codebook_size=4, codebook_dim=3),
        VectorQuantizerConfig(codebook_size=4, codebook_dim=3, normalize=True),
    ],
)
def test_colours_are_found_by_distance(quantizer):
    with pytest.raises(ConfigError, match=r"without `autoencoder` the codes are colours: .*\nhint: describe"):
        TokenizerConfig(autoencoder=None, quantizer=quantizer)


@pytest.mark.parametrize(
    "loss", [{"discriminator": DiscriminatorConfig()}, {"perceptual": PerceptualConfig()}]
)
def test_losses_for_networks_are_refused(loss):
    settings = run()
    with pytest.raises(
        ConfigError, match=r"without `tokenizer.autoencoder` there is nothing that .*\nhint: set"
    ):
        msgspec.structs.replace(settings, task=msgspec.structs.replace(settings.task, **loss))


def test_other_formats_have_no_place_for_it(tmp_path):
    with pytest.raises(
        ConfigError, match="the tokenizer has no autoencoder, diffusers needs one\nhint: keep"
    ):
        write_diffusers(Tokenizer(config()), tmp_path / "out")
    assert not (tmp_path / "out").exists()
