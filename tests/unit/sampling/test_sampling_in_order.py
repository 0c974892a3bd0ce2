"""A synthesizer whose prior has learned another order than raster: drawing, completing, scoring, training."""

import copy

import msgspec
import pytest
import torch

import tiny
from vqgan.config import from_mapping, to_mapping
from vqgan.errors import ConfigError
from vqgan.prior import to_tokens
from vqgan.sampling import SamplingSettings, sample_grid
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.training.engine import Engine
from vqgan.training.prior_task import PriorTask, PriorTaskConfig

ORDER = "spiral_out"  # on 2x2 tokens: 2, 0, 1, 3
CONDITION = {"class": [0, 1, 2]}
START = torch.tensor([[0], [1], [2]])


def ordered(order=ORDER):
    """The same weights in every order; in float64, where two ways of computing choose the same tokens."""
    model = tiny.synthesizer()
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter)
    config = msgspec.structs.replace(model.config, token_order=order)
    result = Synthesizer(config)
    result.load_state_dict(model.state_dict())
    return result.double().eval()


@pytest.fixture(scope="module")
def model():
    return ordered()


@pytest.fixture
def grids(model, monkeypatch):
    """The grids that reach the decoder."""
    seen = []
    decode = model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda indices: seen.append(indices) or decode(indices))
    return seen


def test_samples_and_completions_are_drawn_in_the_models_order(model, grids):
    images = tiny.images(3).double()
    indices = model.tokenizer.encode(images)
    known = torch.tensor([[[True, False], [True, False]]]).expand(3, 2, 2)
    model.sample(3, condition=CONDITION, seed=4)
    model.complete(images, known, CONDITION, seed=4)
    for grid, kept in zip(grids, (torch.zeros_like(known), known), strict=True):
        expected = sample_grid(
            model.prior, START, indices, kept, settings=SamplingSettings(seed=4), token_order=ORDER
        )
        raster = sample_grid(model.prior, START, indices, kept, settings=SamplingSettings(seed=4))
        assert torch.equal(grid, expected)
        assert torch.equal(grid[kept], indices[kept])
        assert not torch.equal(grid, raster)


def test_scores_are_computed_in_the_models_order_and_given_row_after_row(model):
    images = tiny.images(3).double()
    found = model.log_probability(images, CONDITION)
    tokens = model.tokenizer.encode(images).flatten(1)[:, [2, 0, 1, 3]]
    expected = model.prior.log_probability(tokens, START)
    torch.testing.assert_close(found[:, [2, 0, 1, 3]], expected)
    assert not torch.allclose(found, ordered("raster").log_probability(images, CONDITION))


@pytest.mark.parametrize("size", [(16, 8), (16, 16), (4, 8)])
def test_another_size_than_that_of_the_window_is_refused(model, size):
    message = "in the order `spiral_out` cannot work on .*\nhint: use 8 x 8 pixels; other sizes need"
    with pytest.raises(ConfigError, match=message):
        model.sample(1, size=size, condition={"class": 0})
    with pytest.raises(ConfigError, match=message):
        model.log_probability(torch.zeros(1, 1, *size).double(), {"class": 0})


def test_training_reads_and_scores_the_tokens_in_the_models_order(monkeypatch):
    config = PriorTaskConfig(optimizer=tiny.OPTIMIZER)
    synthesizer, data = ordered().float(), tiny.batch(3)
    expected = -copy.deepcopy(synthesizer).log_probability(data.images, data.condition).mean().detach()
    task = PriorTask(synthesizer, config, loop=tiny.loop(), engine=Engine("cpu"), seed=0)
    scored = []
    score = task.prior.log_probability
    monkeypatch.setattr(
        task.prior,
        "log_probability",
        lambda tokens, *rest, **options: scored.append(tokens) or score(tokens, *rest, **options),
    )
    torch.testing.assert_close(task.train_step([data], 0)["loss"], expected)
    assert torch.equal(scored[0], to_tokens(synthesizer.tokenizer.encode(data.images), ORDER))


def test_a_configuration_from_before_orders_existed_is_in_raster_order():
    old = to_mapping(tiny.synthesizer_config())
    old.pop("token_order", None)
    config = from_mapping(old, SynthesizerConfig)
    assert config.token_order == "raster"
    assert config == tiny.synthesizer_config()


def test_an_unknown_order_is_refused():
    with pytest.raises(ConfigError, match="`token_order` is `zigzag`"):
        msgspec.structs.replace(tiny.synthesizer_config(), token_order="zigzag")
    with pytest.raises(ConfigError, match="token_order"):
        from_mapping({**to_mapping(tiny.synthesizer_config()), "token_order": "zigzag"}, SynthesizerConfig)
