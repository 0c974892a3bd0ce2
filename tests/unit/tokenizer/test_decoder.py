import pytest
import torch
from torch import nn

from vqgan.tokenizer import AutoencoderConfig
from vqgan.tokenizer.decoder import Decoder

CONFIG = AutoencoderConfig(
    image_channels=1,
    base_channels=32,
    channel_multipliers=(1, 2),
    num_residual_blocks=2,
    latent_channels=8,
    resolution=16,
    attention_resolutions=(),
)


@pytest.mark.parametrize("patch_size", [1, 4])
def test_height_and_width_grow_by_the_downsample_factor(patch_size):
    config = AutoencoderConfig(
        **{name: getattr(CONFIG, name) for name in CONFIG.__struct_fields__ if name != "patch_size"},
        patch_size=patch_size,
    )
    images = Decoder(config)(torch.zeros(1, 8, 2, 3))
    assert images.shape == (1, 1, 2 * config.downsample_factor, 3 * config.downsample_factor)


def test_each_level_has_one_block_more_than_the_encoder():
    assert [len(level.blocks) for level in Decoder(CONFIG).levels] == [3, 3]


def test_last_weight_is_that_of_the_last_layer():
    decoder = Decoder(CONFIG)
    nn.init.zeros_(decoder.last_weight)
    nn.init.constant_(decoder.output_conv.bias, 0.25)
    assert decoder(torch.randn(1, 8, 2, 2)).unique().tolist() == [0.25]
