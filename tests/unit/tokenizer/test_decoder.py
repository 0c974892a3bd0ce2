import torch
from torch import nn

from vqgan.tokenizer import AutoencoderConfig
from vqgan.tokenizer.autoencoder import Decoder

CONFIG = AutoencoderConfig(
    image_channels=1,
    base_channels=32,
    channel_multipliers=(1, 2),
    num_residual_blocks=2,
    latent_channels=8,
    resolution=16,
    attention_resolutions=(),
)


def test_last_weight_is_that_of_the_last_layer():
    decoder = Decoder(CONFIG)
    nn.init.zeros_(decoder.last_weight)
    nn.init.constant_(decoder.output_conv.bias, 0.25)
    assert decoder(torch.randn(1, 8, 2, 2)).unique().tolist() == [0.25]
