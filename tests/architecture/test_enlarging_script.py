"""`benchmarks/enlarging.py` draws, joins, blends and cuts what it says."""

import importlib.util
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import tiny
from vqgan.conditioning import UnconditionalConfig
from vqgan.prior import PriorConfig
from vqgan.sampling import SamplingSettings
from vqgan.synthesizer import Synthesizer, SynthesizerConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("enlarging", BENCHMARKS / "enlarging.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "enlarging", module)  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model():
    """A prior with random weights that sees 4x4 tokens."""
    prior = PriorConfig(
        codebook_size=tiny.CODES,
        condition_size=1,
        context_length=16,
        depth=1,
        width=16,
        num_heads=2,
        positions="rotary",
    )
    config = SynthesizerConfig(
        tokenizer=tiny.tokenizer_config(),
        conditioner=UnconditionalConfig(),
        prior=prior,
        window=(4, 4),
    )
    torch.manual_seed(0)
    made = Synthesizer(config).double().eval()
    for parameter in made.prior.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter)
    return made


def test_crops_with_half_given_are_the_window_with_a_stride_of_half(script, model, monkeypatch):
    monkeypatch.setattr(script, "SamplingSettings", partial(SamplingSettings, temperature=0.0))
    crops = script.draw_crops(model, 3, 2, seed=0)
    joined = script.join(crops, 2)
    assert torch.equal(joined, script.draw_whole(model, 8, 2, seed=0))
    assert len(joined.unique()) > 4
    assert not torch.equal(joined, script.draw_whole(model, 8, 1, seed=0))


def test_crops_agree_with_what_their_neighbours_gave_them(script, model):
    crops = script.draw_crops(model, 3, 1, seed=0)
    assert torch.equal(crops[:, 1:, :, :1], crops[:, :-1, :, -1:])
    assert torch.equal(crops[1:, :, :1], crops[:-1, :, -1:])
    leftward = script.draw_crops(model, 3, 1, seed=0, above=False)
    assert torch.equal(leftward[1:, 0, :1], leftward[:-1, 0, -1:])
    assert torch.equal(leftward[:, 1:, :, :1], leftward[:, :-1, :, -1:])
    assert not torch.equal(leftward[1:, 1:, :1], leftward[:-1, 1:, -1:])
    joined = script.join(leftward, 1)
    assert torch.equal(joined[0, 3, 4:7], leftward[0, 1, 3, 1:])  # the row of the earlier crop stays


def test_blended_images_of_one_picture_are_that_picture(script):
    picture = torch.rand(3, 20, 20)
    images = torch.stack(
        [torch.stack([picture[:, y : y + 8, x : x + 8] for x in (0, 6, 12)]) for y in (0, 6, 12)]
    )
    torch.testing.assert_close(script.blend(images, 2), picture)
    steps = script.blend(torch.arange(2.0).repeat(2, 1)[..., None, None, None].expand(2, 2, 1, 8, 8), 4)
    expected = torch.tensor([0, 0, 0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1, 1])
    torch.testing.assert_close(steps, expected.expand(1, 12, 12))


def test_patches_at_borders_lie_on_lines_and_the_others_between_them(script):
    picture = torch.zeros(1, 256, 320)
    picture[:, 128 - 1 : 256 : 64] = 1  # the last rows and columns before the lines
    picture[:, :, 128 - 1 : 320 : 64] = 1
    at_lines, midway = script.cut_by_border(picture, 128, 64)
    assert (len(at_lines), len(midway)) == (2 * 4 + 3 * 3, 3 * 4)
    assert midway.sum() == 0
    assert (at_lines[:, 0, 15, :].all(dim=1) ^ at_lines[:, 0, :, 15].all(dim=1)).all()
