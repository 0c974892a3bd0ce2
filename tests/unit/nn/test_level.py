import pytest
import torch
from torch import nn

from vqgan.nn.convolution import Downsample, Level, SpatialAttention, middle


@pytest.mark.parametrize("attention", [True, False])
def test_a_level_is_its_blocks_each_followed_by_attention_if_wanted_then_the_resampling(attention):
    torch.manual_seed(0)
    level = Level(
        in_channels=32,
        out_channels=64,
        num_blocks=2,
        attention=attention,
        dropout=0.0,
        resample=Downsample(channels=64),
    )
    assert [type(layer) for layer in level.attentions] == [SpatialAttention if attention else nn.Identity] * 2
    features = torch.randn(1, 32, 4, 6)
    expected = level.attentions[0](level.blocks[0](features))
    expected = level.resample(level.attentions[1](level.blocks[1](expected)))
    assert expected.shape == (1, 64, 2, 3)
    assert torch.equal(level(features), expected)


def test_the_middle_has_the_same_names_with_and_without_attention():
    for attention, names in ((True, {"0", "1", "2"}), (False, {"0", "2"})):
        layers = middle(channels=32, dropout=0.0, attention=attention)
        assert {key[0] for key in layers.state_dict()} == names
