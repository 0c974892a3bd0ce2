import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from vqgan.nn.convolution import Downsample, GroupNorm, ResidualBlock, Upsample


def test_norm_has_32_groups_and_a_small_eps():
    norm = GroupNorm(64)
    assert (norm.num_groups, norm.eps) == (32, 1e-6)


def test_large_maps_are_normalised_as_exactly_as_small_ones():
    """PyTorch's own sums are off by 1e-5 here."""
    features = (torch.randn(2, 32, 260, 400) + 2).contiguous(memory_format=torch.channels_last)
    norm = GroupNorm(32)
    nn.init.normal_(norm.weight)
    with torch.no_grad():
        result, wanted = norm(features), F.group_norm(features.double(), 32, norm.weight.double(), eps=1e-6)
    assert float((result - wanted).abs().max() / wanted.abs().max()) < 3e-6
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert_close(norm(features), result, atol=0.01, rtol=0)  # with gradients, as PyTorch does it


def test_block_of_equal_widths_adds_to_its_input_unchanged():
    block = ResidualBlock(in_channels=32, out_channels=32)
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    features = torch.randn(1, 32, 3, 5)
    assert torch.equal(block(features), features)


def test_block_of_different_widths_projects_its_input():
    block = ResidualBlock(in_channels=32, out_channels=64)
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    features = torch.randn(1, 32, 3, 5)
    assert_close(block(features), F.conv2d(features, block.shortcut.weight, block.shortcut.bias))


@pytest.mark.parametrize("training", [True, False])
def test_dropout_acts_only_in_training(training):
    torch.manual_seed(0)
    block = ResidualBlock(in_channels=32, out_channels=32, dropout=0.5).train(training)
    features = torch.randn(1, 32, 4, 4)
    assert torch.equal(block(features), block(features)) is not training


def test_downsampling_pads_right_and_bottom_only():
    down = Downsample(channels=1)
    nn.init.ones_(down.conv.weight)
    nn.init.zeros_(down.conv.bias)
    features = torch.arange(16.0).view(1, 1, 4, 4)
    # Sums over 3x3 neighbourhoods that start at (0, 0), (0, 2), (2, 0), (2, 2).
    assert down(features).tolist() == [[[[45.0, 39.0], [66.0, 50.0]]]]


def test_upsampling_repeats_each_value_before_it_convolves():
    up = Upsample(channels=1)
    nn.init.zeros_(up.conv.weight)
    nn.init.zeros_(up.conv.bias)
    up.conv.weight.data[0, 0, 1, 1] = 1.0
    result = up(torch.tensor([[[[1.0, 2.0]]]]))
    assert result.tolist() == [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]


def test_upsampling_in_training_is_the_same_with_fewer_multiplications():
    up = Upsample(channels=3).double()
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    plain = up.eval()(features)
    trained = up.train()(features)
    torch.testing.assert_close(trained, plain)
    inputs = (features, up.conv.weight, up.conv.bias)
    expected, found = (
        torch.autograd.grad(up.train(mode)(features).square().sum(), inputs) for mode in (False, True)
    )
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found[1], expected[1]), "another sum"
