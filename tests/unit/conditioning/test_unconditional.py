import pytest
import torch

from vqgan.conditioning import Unconditional, UnconditionalConfig
from vqgan.errors import ConfigError


def test_every_image_gets_the_start_token():
    conditioner = Unconditional(UnconditionalConfig(start_token=5))
    assert torch.equal(conditioner.tokens(None, 3, (4, 4)), torch.tensor([[5], [5], [5]]))
    assert conditioner.config.vocabulary_size == 6


def test_conditions_of_the_data_play_no_part():
    found = Unconditional(UnconditionalConfig()).tokens({"class": torch.tensor([1, 2])}, 2, (4, 4))
    assert torch.equal(found, torch.zeros(2, 1, dtype=torch.int64))


def test_a_negative_start_token_is_refused():
    with pytest.raises(ConfigError, match="`start_token` is -1"):
        UnconditionalConfig(start_token=-1)
