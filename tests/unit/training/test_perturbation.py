"""Codes that are replaced by near ones while a tokenizer learns."""

import pytest
import torch
from torch.testing import assert_close

import tiny
from vqgan.tokenizer.quantizers.base import Quantized
from vqgan.training.engine import Engine
from vqgan.training.perturbation import PerturbationConfig, perturbation
from vqgan.training.tokenizer_task import TokenizerTask, TokenizerTaskConfig

CODES, NEAREST = 40, 5


@pytest.fixture
def vectors():
    return torch.randn(CODES, 6, generator=torch.Generator().manual_seed(0)).double()


def quantized(vectors, count=400, side=8):
    indices = torch.randint(CODES, (count, side, side), generator=torch.Generator().manual_seed(1))
    return Quantized(vectors[indices].permute(0, 3, 1, 2), indices, torch.zeros(()))


def replaced(found, vectors, config, sample, seed=0):
    """Which code each became."""
    added = perturbation(found, vectors, sample, config=config, seed=seed)
    distances = torch.cdist((found.quantized + added).permute(0, 2, 3, 1).flatten(0, 2), vectors)
    assert distances.amin(dim=1).max() < 1e-6  # a code, and nothing between codes
    return distances.argmin(dim=1).view_as(found.indices)


def test_the_share_is_as_asked_and_what_comes_is_one_of_the_nearest(vectors):
    found, config = quantized(vectors), PerturbationConfig(images=0.5, codes=0.25, nearest=NEAREST)
    new = replaced(found, vectors, config, torch.arange(400))
    changed = new != found.indices
    touched = changed.flatten(1).any(dim=1)
    assert touched.float().mean() == pytest.approx(0.5, abs=0.07)
    assert changed[touched].float().mean() == pytest.approx(0.25, abs=0.02)
    rank = torch.cdist(vectors, vectors).argsort(dim=1).argsort(dim=1)
    ranks = rank[found.indices[changed], new[changed]]
    assert set(ranks.tolist()) == set(range(1, NEAREST + 1))


def test_it_is_a_function_of_the_seed_and_the_sample_s_number(vectors):
    found, config = quantized(vectors), PerturbationConfig(images=1.0, codes=0.5, nearest=NEAREST)
    whole = replaced(found, vectors, config, torch.arange(400))
    part = Quantized(found.quantized[100:103], found.indices[100:103], found.loss)
    assert torch.equal(replaced(part, vectors, config, torch.arange(100, 103)), whole[100:103])
    assert not torch.equal(replaced(part, vectors, config, torch.arange(3)), whole[100:103])
    assert not torch.equal(replaced(part, vectors, config, torch.arange(100, 103), seed=1), whole[100:103])


@pytest.mark.parametrize("changes", [{"images": 0.0}, {"codes": 0.0}])
def test_nothing_is_replaced_where_no_share_is(vectors, changes):
    found = quantized(vectors, count=8)
    config = PerturbationConfig(**{"images": 1.0, "codes": 1.0, **changes})
    assert not perturbation(found, vectors, torch.arange(8), config=config, seed=0).any()


def make(settings):
    config = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, perturbation=settings)
    return TokenizerTask(tiny.tokenizer(), config, loop=tiny.loop(), engine=Engine("cpu"), seed=0)


def test_the_decoder_learns_from_other_codes_and_the_encoder_still_gets_a_gradient():
    plain, changed, parts = make(None), *(make(PerturbationConfig(images=1.0, nearest=3)) for _ in range(2))
    data = tiny.batch(8)
    rows = [plain.train_step([data], 0), changed.train_step([data], 0)]
    assert rows[0]["reconstruction_loss"] != rows[1]["reconstruction_loss"]
    assert rows[0]["quantizer_loss"] == rows[1]["quantizer_loss"]
    moments = changed.state.optimizers["tokenizer"].tensors()
    assert all(
        moments[f"encoder.{name}|exp_avg"].any() for name, _ in changed.tokenizer.encoder.named_parameters()
    )
    row = parts.train_step(tiny.split(data, 2), 0)
    assert_close(row["reconstruction_loss"], rows[1]["reconstruction_loss"])


def test_held_out_images_keep_their_codes():
    tasks, data = [make(None), make(PerturbationConfig(images=1.0, codes=1.0))], tiny.batch(8)
    assert tasks[0].evaluate([data]) == tasks[1].evaluate([data])
