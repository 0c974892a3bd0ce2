import copy

import pytest
import torch
from torch import nn

from vqgan.nn.convolution import ChannelStatistics
from vqgan.tokenizer import AutoencoderConfig, receptive_field
from vqgan.tokenizer.autoencoder import Encoder


def config(**changes):
    sizes = {
        "image_channels": 1,
        "base_channels": 32,
        "channel_multipliers": (1, 2),
        "num_residual_blocks": 1,
        "latent_channels": 4,
        "resolution": 16,
        "attention_resolutions": (8,),
    }
    return AutoencoderConfig(**{**sizes, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 1 + 2 + 1 + 2 * 2 + 2 * 4 + 2),  # input, block, halving (to the right), block, middle, output
        ({"patch_size": 2, "channel_multipliers": (1,)}, 2 * (1 + 2 + 4 + 1)),
        ({"num_residual_blocks": 2}, 1 + 4 + 1 + 2 * 4 + 2 * 4 + 2),
        ({"channel_multipliers": (1, 1, 1)}, 1 + 2 + 1 + 2 * 2 + 2 + 4 * 2 + 4 * 4 + 4),
    ],
)
def test_each_convolution_sees_one_position_more(changes, expected):
    state = torch.get_rng_state()
    assert receptive_field(config(**changes)) == expected
    assert torch.equal(torch.get_rng_state(), state)


class Held(nn.Module):
    """A norm with the statistics of the first image that it meets."""

    def __init__(self, norm):
        super().__init__()
        self.norm, self.statistics = norm, None

    def forward(self, features):
        if self.statistics is None:
            self.statistics = ChannelStatistics(features.shape[1])
            self.statistics.add(features)
        return self.statistics.normed(self.norm, features)


def held(encoder):
    result = copy.deepcopy(encoder)
    for block in list(result.modules()):
        for name, part in block.named_children():
            if isinstance(part, nn.GroupNorm):
                setattr(block, name, Held(part))
    return result


@torch.no_grad()
def test_with_held_statistics_no_pixel_beyond_changes_a_latent_and_without_them_every_pixel_does():
    settings = config(attention_resolutions=(), middle_attention=False)
    reach, side, cell = receptive_field(settings), 64, 15
    first, last = 2 * cell - reach, 2 * cell + 1 + reach
    torch.manual_seed(0)
    encoder = Encoder(settings).double()
    still = held(encoder)
    image = torch.rand(1, 1, side, side, dtype=torch.float64)
    before = still(image)[..., cell, cell], encoder(image)[..., cell, cell]
    beyond = torch.rand_like(image)
    beyond[..., first : last + 1, first : last + 1] = image[..., first : last + 1, first : last + 1]
    assert torch.equal(still(beyond)[..., cell, cell], before[0])
    assert not torch.allclose(encoder(beyond)[..., cell, cell], before[1])
    nearest = image.clone()
    nearest[..., last, last] += 1
    assert not torch.equal(still(nearest)[..., cell, cell], before[0])
