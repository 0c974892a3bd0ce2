"""What every conditioner promises, asked of each member of the union."""

import typing

import pytest
import torch

from examples import DEPTH_TOKENIZER, example
from vqgan.conditioning import Conditioner, ConditionerConfig, Layout, build_conditioner, parts_of
from vqgan.config import Config, from_mapping, to_mapping
from vqgan.errors import ConfigError
from vqgan.prior import Prior, PriorConfig
from vqgan.sampling import SamplingSettings, sample_sliding
from vqgan.tokenizer import Tokenizer
from vqgan.types import PerWindow, lengths_on

CONFIGS = typing.get_args(ConditionerConfig)
VALUES = {
    "class": lambda grid: 1,
    "edges": lambda grid: torch.zeros(1, 3, 2 * grid[0], 2 * grid[1]),
    "image": lambda grid: torch.zeros(1, 1, 2 * grid[0], 2 * grid[1]),
    "layout": lambda grid: Layout(),
    "low_resolution": lambda grid: torch.zeros(1, 1, 2 * grid[0], 2 * grid[1]),
    "text": lambda grid: "a cat",
    "palette": lambda grid: torch.zeros(1, 3, *grid),
}
"""A valid value for each condition that has no default, on a token grid."""


class Holder(Config, frozen=True):
    conditioner: ConditionerConfig


@pytest.fixture(params=CONFIGS, ids=lambda config: config.__struct_config__.tag)
def config(request, tmp_path):
    return example(request.param, tmp_path)


@pytest.fixture
def conditioner(config):
    return build_conditioner(config, Tokenizer(DEPTH_TOKENIZER))


def valid(conditioner, grid=(4, 4)):
    values = {part.name: VALUES[part.name](grid) for part in conditioner.parts if part.name in VALUES}
    return values or None


def test_the_builder_knows_every_member(config, conditioner):
    assert isinstance(conditioner, Conditioner)
    assert conditioner.config == config


def test_names_tell_the_members_apart(tmp_path):
    shared = Tokenizer(DEPTH_TOKENIZER)
    names = [build_conditioner(example(config, tmp_path), shared).name for config in CONFIGS]
    assert len(set(names)) == len(names)


def test_the_config_survives_plain_mappings(config):
    assert from_mapping({"conditioner": to_mapping(config)}, Holder).conditioner == config


def test_an_unknown_key_is_refused(config):
    with pytest.raises(ConfigError, match="`conditioner` of config: unknown key `colour`"):
        from_mapping({"conditioner": {**to_mapping(config), "colour": 1}}, Holder)


@pytest.mark.parametrize("grid", [(1, 1), (4, 6), (5, 3)])
@pytest.mark.parametrize("count", [1, 3])
def test_tokens_have_the_promised_shape_and_range(conditioner, config, grid, count):
    tokens = conditioner.tokens(valid(conditioner, grid), count, grid)
    assert tokens.shape == (count, config.num_tokens(grid))
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < config.vocabulary_size
    assert config.num_tokens(grid) >= 1


def test_the_lengths_of_the_parts_are_those_of_the_tokens(conditioner, config):
    assert len(conditioner.lengths) == len(parts_of(config)) == len(conditioner.parts)
    for grid in ((4, 6), (5, 3)):
        assert sum(lengths_on(conditioner.lengths, grid)) == config.num_tokens(grid)


def test_a_window_sees_its_cut_of_the_tokens_of_the_whole(conditioner, config):
    """Of spatial parts those of its cells, of those of its places that of its own, of the others all."""
    torch.manual_seed(0)
    sizes = {"codebook_size": 5, "condition_size": config.vocabulary_size, "context_length": 60}
    prior = Prior(PriorConfig(**sizes, depth=1, width=8, num_heads=2)).double().eval()
    how = {"memory": 10**9, "has_null": False, "window": (4, 4)}
    tokens, nothing = conditioner.asked(valid(conditioner, (4, 6)), 1, (4, 6), **how), torch.zeros(1, 4, 6)
    drawn = sample_sliding(
        prior,
        tokens,
        nothing.long(),
        nothing.bool(),
        window=(4, 4),
        lengths=conditioner.lengths,
        settings=SamplingSettings(temperature=0.0),
    )
    parts = tokens.split(lengths_on(conditioner.lengths, (4, 6), (4, 4)), dim=1)
    last = [
        part.view(1, 4, 6)[:, :, 2:].flatten(1)
        if length is None
        else part[:, -int(length) :]
        if isinstance(length, PerWindow)
        else part
        for part, length in zip(parts, conditioner.lengths, strict=True)
    ]
    logits = prior(drawn[:, :, 2:].flatten(1), torch.cat(last, dim=1))
    assert logits[0, -1].argmax() == drawn[0, 3, 5]


def test_the_same_condition_gives_the_same_tokens(conditioner):
    first, second = (conditioner.tokens(valid(conditioner), 2, (4, 4)) for _ in range(2))
    assert torch.equal(first, second)


def test_other_names_in_the_data_are_ignored(conditioner):
    with_more = {**(valid(conditioner) or {}), "something else": 7}
    expected = conditioner.tokens(valid(conditioner), 2, (4, 4))
    assert torch.equal(conditioner.tokens(with_more, 2, (4, 4)), expected)


def test_loading_needs_nothing_but_config_and_state(config, conditioner):
    build_conditioner(config, Tokenizer(DEPTH_TOKENIZER)).load_state_dict(conditioner.state_dict())


def test_null_tokens_lie_beyond_the_vocabulary_and_stand_for_a_value_that_is_missing(conditioner, config):
    null = conditioner.null_tokens(2, (4, 6))
    assert null.shape == (2, config.num_tokens((4, 6)))
    numbers = range(config.vocabulary_size, config.vocabulary_size + len(conditioner.parts))
    assert set(null.flatten().tolist()) == {*numbers}
    how = {"memory": 10**9, "has_null": True}
    missing = conditioner.asked({}, 2, (4, 6), **how)
    assert torch.equal(missing, null if conditioner.needs_value else conditioner.tokens({}, 2, (4, 6)))
    asked = conditioner.asked(valid(conditioner, (4, 6)), 2, (4, 6), **how)
    assert torch.equal(asked, conditioner.tokens(valid(conditioner, (4, 6)), 2, (4, 6)))


def test_a_name_that_the_model_does_not_know_is_refused_when_a_user_asks(conditioner):
    with pytest.raises(ConfigError, match="this model does not know the condition `colour`"):
        conditioner.asked({"colour": 1}, 1, (4, 4), memory=10**9, has_null=True)
