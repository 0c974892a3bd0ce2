import pytest
import torch
from torch import nn

from vqgan.nn.attention import SpatialAttention
from vqgan.nn.convolution import Downsample
from vqgan.nn.level import Level, middle


@pytest.mark.parametrize("attention", [True, False])
def test_each_block_is_followed_by_attention_where_wanted(attention):
    level = Level(
        in_channels=32,
        out_channels=64,
        num_blocks=2,
        attention=attention,
        dropout=0.0,
        resample=nn.Identity(),
    )
    assert [isinstance(layer, SpatialAttention) for layer in level.attentions] == [attention] * 2
    assert level(torch.randn(1, 32, 4, 6)).shape == (1, 64, 4, 6)


def test_the_resolution_changes_after_the_blocks():
    level = Level(
        in_channels=32,
        out_channels=32,
        num_blocks=1,
        attention=False,
        dropout=0.0,
        resample=Downsample(channels=32),
    )
    assert level(torch.randn(1, 32, 4, 6)).shape == (1, 32, 2, 3)


@pytest.mark.parametrize("attention", [True, False])
def test_middle_keeps_the_shape_and_its_names_with_or_without_attention(attention):
    layers = middle(channels=32, dropout=0.0, attention=attention)
    assert layers(torch.randn(1, 32, 2, 3)).shape == (1, 32, 2, 3)
    assert {key[0] for key in layers.state_dict()} == {"0", "1", "2"} - (set() if attention else {"1"})
