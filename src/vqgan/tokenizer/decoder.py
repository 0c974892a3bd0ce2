"""From quantized latents back to images."""

import torch.nn.functional as F
from torch import Tensor, nn

from vqgan.nn.convolution import GroupNorm, Upsample
from vqgan.nn.level import Level, middle
from vqgan.tokenizer.encoder import AutoencoderConfig
from vqgan.types import Images, Latents


class Decoder(nn.Module):
    """Attends (by default) over the whole grid, then doubles the resolution level by level.

    ``levels[0]`` has the highest resolution, as in the encoder: the decoder runs through them backwards. Each
    has one residual block more than the encoder's.

    Args:
        config: The sizes, the same as the encoder's.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        last = len(config.channel_multipliers) - 1
        width = config.level_width(last)
        self.input_conv = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.middle = middle(channels=width, dropout=config.dropout, attention=config.middle_attention)
        self.levels = nn.ModuleList(
            Level(
                in_channels=config.level_width(min(level + 1, last)),
                out_channels=config.level_width(level),
                num_blocks=config.num_residual_blocks + 1,
                attention=config.has_attention(level),
                dropout=config.dropout,
                resample=Upsample(channels=config.level_width(level)) if level > 0 else nn.Identity(),
            )
            for level in range(last + 1)
        )
        width = config.level_width(0)
        self.output_norm = GroupNorm(width)
        self.output_conv = nn.Conv2d(width, config.image_channels * config.patch_size**2, 3, padding=1)

    @property
    def last_weight(self) -> Tensor:
        """The weight of the last convolution, on which the adversarial loss is balanced."""
        return self.output_conv.weight

    def forward(self, latents: Latents) -> Images:
        """From (b d h w) with ``d = latent_channels`` to images, not clamped to [-1, 1]."""
        hidden = self.middle(self.input_conv(latents))
        for level in reversed(self.levels):
            hidden = level(hidden)
        hidden = self.output_conv(F.silu(self.output_norm(hidden)))
        return F.pixel_shuffle(hidden, self.patch_size)
