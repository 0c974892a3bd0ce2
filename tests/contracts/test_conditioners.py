"""What every conditioner promises, asked of each member of the union."""

import typing

import pytest
import torch

from examples import DEPTH_TOKENIZER, example
from vqgan.conditioning import Conditioner, ConditionerConfig, Layout, build_conditioner
from vqgan.config import Config, from_mapping, to_mapping
from vqgan.errors import ConfigError
from vqgan.tokenizer import Tokenizer

CONFIGS = typing.get_args(ConditionerConfig)
VALUES = {
    "class": lambda grid: 1,
    "edges": lambda grid: torch.zeros(1, 3, 2 * grid[0], 2 * grid[1]),
    "image": lambda grid: torch.zeros(1, 1, 2 * grid[0], 2 * grid[1]),
    "layout": lambda grid: Layout(),
    "low_resolution": lambda grid: torch.zeros(1, 1, 2 * grid[0], 2 * grid[1]),
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
    value = VALUES.get(conditioner.name)
    return None if value is None else {conditioner.name: value(grid)}


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


def test_spatial_conditioners_have_one_token_per_cell(conditioner):
    if conditioner.is_spatial:
        assert conditioner.config.num_tokens((4, 6)) == 24


def test_the_same_condition_gives_the_same_tokens(conditioner):
    first, second = (conditioner.tokens(valid(conditioner), 2, (4, 4)) for _ in range(2))
    assert torch.equal(first, second)


def test_other_names_in_the_data_are_ignored(conditioner):
    with_more = {**(valid(conditioner) or {}), "something else": 7}
    expected = conditioner.tokens(valid(conditioner), 2, (4, 4))
    assert torch.equal(conditioner.tokens(with_more, 2, (4, 4)), expected)


def test_loading_needs_nothing_but_config_and_state(config, conditioner):
    build_conditioner(config, Tokenizer(DEPTH_TOKENIZER)).load_state_dict(conditioner.state_dict())
