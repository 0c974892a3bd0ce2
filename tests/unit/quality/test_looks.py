"""Receptive fields of large images and of few codes, where tokens look, and the conditions of chosen images."""

import numpy as np
import pytest
import torch

import tiny
from vqgan.conditioning import ClassLabelConfig, CoordinatesConfig, SeveralConfig
from vqgan.evaluation.reach import pixels_that_are_moved, sides_with
from vqgan.prior import LocalSpan, PriorConfig
from vqgan.quality.looks import attention, receptive_fields
from vqgan.quality.seen import Seen
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import Tokenizer, TokenizerConfig
from vqgan.tokenizer.quantizers import VectorQuantizerConfig
from vqgan.types import Batch

MEMORY = 1 << 30


@torch.no_grad()
def seen_by(model, *sizes, height=8, width=8, condition=None):
    """What becomes of noise, in batches of these sizes."""
    batches, first = [], 0
    for size in sizes:
        images = tiny.images(size, side=max(height, width), seed=first)[:, :, :height, :width]
        numbers = torch.arange(first, first + size)
        batches.append(Batch(images, condition(numbers) if condition else {}, numbers))
        first += size
    return Seen.of(model.eval(), batches, (height, width), MEMORY)


@pytest.fixture(scope="module")
def tokenizer():
    model = tiny.tokenizer()
    torch.nn.init.normal_(model.quantizer.codebook.weight, std=3)
    return model.eval()


def test_of_large_images_the_middle_is_looked_at(tokenizer):
    numbers, figure = receptive_fields(tokenizer, seen_by(tokenizer, 2, height=272, width=300))
    assert numbers["encoder_pixels_100"].value == 256
    assert figure.shape == (256 + 20 + 4, 2 * 260 + 4, 3)


def test_a_code_in_the_middle_becomes_another_that_is_in_use(tokenizer):
    seen = seen_by(tokenizer, 3, height=16, width=16)
    numbers, _ = receptive_fields(tokenizer, seen)
    used = sorted({*seen.grids.ravel().tolist()})
    indices, sides = torch.from_numpy(seen.grids), []
    for grid in indices:
        place = used.index(int(grid[2, 2]))
        other = torch.tensor([used[(place + len(used) // 2) % len(used)]])
        assert other != grid[2, 2]
        effects = pixels_that_are_moved(tokenizer.decode, grid[None], (2, 2), other)
        sides.append(sides_with(effects, (2, 2), 4, [0.9])[0][0].clip(max=16))
    assert numbers["decoder_pixels_90"].value == pytest.approx(np.mean(sides))
    assert numbers["decoder_pixels_90"].count == 3


def test_where_all_tokens_are_one_code_nothing_is_said_of_the_decoder(tokenizer):
    seen = seen_by(tokenizer, 2)
    seen.grids[:] = 5
    numbers, figure = receptive_fields(tokenizer, seen)
    assert not any(name.startswith("decoder") for name in numbers)
    assert figure.shape == (96 + 20 + 4, 104, 3)


def test_a_tokenizer_of_pixels_reaches_one_pixel():
    colours = VectorQuantizerConfig(codebook_size=4, codebook_dim=1)
    model = Tokenizer(TokenizerConfig(autoencoder=None, quantizer=colours)).eval()
    model.quantizer.codebook.weight.data[:] = torch.tensor([[-1.0], [-0.3], [0.3], [1.0]])
    numbers, _ = receptive_fields(model, seen_by(model, 3))
    assert {number.value for number in numbers.values()} == {1}


def synthesizer(span):
    parts = ClassLabelConfig(num_classes=3), CoordinatesConfig(num_values=4, downsample_factor=4)
    conditioner = SeveralConfig(conditioners=parts)
    prior = PriorConfig(
        codebook_size=tiny.CODES,
        condition_size=conditioner.vocabulary_size,
        context_length=7 + 5,
        depth=2,
        width=16,
        num_heads=2,
        span=span,
        positions="learned" if span is None else "rotary",
    )
    config = SynthesizerConfig(
        tokenizer=tiny.tokenizer_config(), conditioner=conditioner, prior=prior, window=(2, 3)
    )
    torch.manual_seed(0)
    return Synthesizer(config)


def test_conditions_of_chosen_images_are_found_in_their_batches():
    def condition(numbers):
        return {"class": numbers % 3, "text": [f"number {number}" for number in numbers.tolist()]}

    seen = seen_by(synthesizer(None), 3, 2, width=12, condition=condition)
    assert seen.asked([4, 0, 2])["class"].tolist() == [1, 0, 2]
    seen.conditions = [condition(torch.arange(3)), condition(torch.arange(3, 5))]
    assert seen.asked([4, 1])["text"] == ["number 4", "number 1"]
    seen.conditions = [None, None]
    assert seen.asked([1]) is None


@pytest.mark.parametrize("span", [None, LocalSpan(rows=1, columns=1)], ids=["all", "local"])
def test_tokens_of_any_prior_are_shown(span):
    model = synthesizer(span)
    seen = seen_by(model, 3, 2, width=12, condition=lambda numbers: {"class": numbers % 3})
    figure = attention(model, seen, MEMORY)
    # Two images with three cells each, (0, 1), (1, 1) and (1, 2); two layers beside each picture.
    assert figure.shape == (6 * (64 + 20) + 4, 3 * 100 + 4, 3)
    blue = (figure[..., 2] > 200) & (figure[..., 0] < 100)
    assert blue.any() == (span is None)  # with a span, conditions are added to the tokens
