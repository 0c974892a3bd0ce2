import copy

import pytest
import torch
from torch.testing import assert_close

import tiny
from vqgan.errors import ConfigError
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.quantizers import RemapConfig, SimQuantizerConfig
from vqgan.training.codebook import CODEBOOK
from vqgan.training.engine import Engine
from vqgan.training.tokenizer_task import TokenizerTask, TokenizerTaskConfig
from vqgan.types import Batch


@pytest.fixture(scope="module")
def engine():
    return Engine("cpu")


def make(engine, **settings):
    """A task whose codes are means, in float64."""
    config = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, codebook_decay=0.75, **settings)
    return TokenizerTask(tiny.tokenizer().double(), config, loop=tiny.loop(), engine=engine, seed=0)


def batch(seed=0):
    return Batch(tiny.images(4, seed=seed).double(), {"class": torch.arange(4) % 3}, torch.arange(4))


def test_a_code_is_the_running_mean_of_the_latents_that_choose_it(engine):
    task = make(engine)
    codes = task.tokenizer.get_parameter(CODEBOOK).detach().clone()
    counts, sums = torch.ones(16).double(), codes.clone()
    for step in range(3):
        data = batch(step)
        model = copy.deepcopy(task.tokenizer)
        points = model.latents(data.images).detach().permute(0, 2, 3, 1).reshape(-1, 4)
        chosen = model.encode(data.images).flatten()
        task.train_step([data], step)
        for code in range(16):
            own = points[chosen == code]
            counts[code] = 0.75 * counts[code] + 0.25 * len(own)
            sums[code] = 0.75 * sums[code] + 0.25 * own.sum(dim=0)
            if len(own):
                codes[code] = sums[code] / counts[code]
        assert_close(task.tokenizer.get_parameter(CODEBOOK).detach(), codes)
    assert CODEBOOK not in task.state.optimizers["tokenizer"].parameters
    assert {"code_counts", "code_sums"} <= task.state.counters.keys()


def test_a_saved_step_goes_on_with_the_same_means(engine):
    one, other = make(engine), make(engine)
    one.train_step([batch()], 0)
    saved = copy.deepcopy(one.state.tensors())
    other.state.load(saved, where="there")
    for task in (one, other):
        task.train_step([batch(1)], 1)
    assert torch.equal(one.tokenizer.get_parameter(CODEBOOK), other.tokenizer.get_parameter(CODEBOOK))


def test_a_re_seeded_code_begins_anew(engine):
    task = make(engine, reseed_after=1, reseed_until=1.0)
    with torch.no_grad():
        task.tokenizer.get_parameter(CODEBOOK)[-1] = task.moving_codes.memory["code_sums"][-1] = 1000.0
    task.train_step([batch()], 0)
    codebook = task.tokenizer.get_parameter(CODEBOOK)
    assert codebook[-1, 0] < 900
    assert torch.equal(task.state.counters["code_sums"][-1], codebook[-1])
    assert task.state.counters["code_counts"][-1] == 1


def test_an_image_that_is_not_finite_moves_no_code(engine):
    task, data = make(engine), batch()
    before = copy.deepcopy(task.state.tensors())
    data.images[0, 0, 0, 0] = torch.nan
    task.train_step([data], 0)
    assert_close(task.tokenizer.get_parameter(CODEBOOK).detach(), before["model"][f"tokenizer.{CODEBOOK}"])
    for name in ("code_counts", "code_sums"):
        assert torch.equal(task.state.counters[name], before["optimizer"][f"counters|{name}"])


@pytest.mark.parametrize("kind", ["sim", "remapped"])
def test_other_quantizers_have_no_means(engine, kind):
    few, config = RemapConfig(num_used=3), tiny.tokenizer_config()
    sizes = {"codebook_size": 16, "codebook_dim": 4}
    quantizer = SimQuantizerConfig(**sizes) if kind == "sim" else tiny.tokenizer_config(remap=few).quantizer
    tokenizer = Tokenizer(type(config)(autoencoder=config.autoencoder, quantizer=quantizer))
    settings = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, codebook_decay=0.9)
    with pytest.raises(ConfigError, match=r"`codebook_decay` is 0\.9, but this quantizer has no codes"):
        TokenizerTask(tokenizer, settings, loop=tiny.loop(), engine=engine, seed=0)
