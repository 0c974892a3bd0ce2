"""`benchmarks/settings.py` measures frames as it says, and `compute.py` gives equal operations to unequal models."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from vqgan.conditioning import UnconditionalConfig
from vqgan.demo.measures import RoomFrames
from vqgan.planning import plan
from vqgan.prior import PriorConfig
from vqgan.synthesizer import SynthesizerConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COUNT, SIDE = 8, 32


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


class Brightness:
    """Reads the mean of each channel in each quarter."""

    def features(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


@pytest.fixture
def frames():
    """Of one room: a square of one colour at another place in each."""
    draws = np.random.default_rng(0)
    pictures = np.full((40, SIDE, SIDE, 3), 40, np.uint8)
    for picture in pictures:
        top, left = draws.integers(0, SIDE - 6, size=2)
        picture[top : top + 6, left : left + 6] = 220, 90, 30
    rooms = np.zeros(20, np.int64)
    return RoomFrames(pictures[:20], rooms, pictures[20:], rooms)


@pytest.fixture
def model():
    """A prior with random weights over 8x8 tokens."""
    prior = PriorConfig(
        codebook_size=tiny.CODES, condition_size=1, context_length=64, depth=1, width=16, num_heads=2
    )
    config = SynthesizerConfig(
        tokenizer=tiny.tokenizer_config(channels=3),
        conditioner=UnconditionalConfig(),
        prior=prior,
        window=(8, 8),
    )
    return tiny.random_synthesizer(config).float()


def test_training_frames_are_copies_and_held_out_ones_are_not(script, frames, model):
    measures = script("settings").Measures(frames, model.tokenizer, Brightness(), COUNT)
    train = frames.train[:COUNT]
    own = measures.numbers(train, script("settings").encode_frames(model.tokenizer, train, lambda _: None))
    assert (own["copies"], own["near"], own["ghosts"], own["things"]) == (1, 1, 0, 1)
    assert own["training"] == pytest.approx(0, abs=1e-6)
    assert own["heldout"] > 1e-6
    seen = measures.numbers(measures.seen, measures.grids)
    assert seen["heldout"] == pytest.approx(0, abs=1e-6)
    assert (seen["precision"], seen["recall"]) == (1, 1)


def test_what_is_given_is_kept_and_only_the_rest_is_measured(script, frames, model):
    measures = script("settings").Measures(frames, model.tokenizer, Brightness(), COUNT)
    pictures, grids = measures.draw(model, 6, seed=0)
    assert np.array_equal(grids[:, :6], measures.grids[:, :6])
    assert not np.array_equal(grids[:, 6:], measures.grids[:, 6:])
    found = measures.completed(pictures, grids, 6)
    assert found["codes_right"] == (grids == measures.grids)[:, 6:].mean() < 1
    changed = pictures.copy()
    changed[:, : 6 * SIDE // 8] = 0
    assert measures.completed(changed, grids, 6) == found
    right = measures.completed(measures.rebuilt, measures.grids, 6)
    assert right["codes_right"] == 1
    assert (right["psnr"], right["moving"]) == (right["rebuilt_psnr"], right["rebuilt_moving"])


def test_the_same_operations_are_more_steps_of_a_smaller_prior(script, tmp_path, monkeypatch):
    compute = script("compute")
    monkeypatch.setattr(compute, "plan", lambda *each, tokenizer, **how: plan(*each, **how))
    steps, needs = compute.equal_steps(tmp_path, compute.MODELS["half the width"], 450)
    assert needs.parameters["prior"] == 338_880
    blocks, head = (
        4 * 12 * 128 * 128,
        128 * 1024,
    )  # weights; attention itself, which is halved, is not counted here
    assert 3 < steps / 450 < (blocks + head) / (blocks / 4 + head / 2)
