"""The convolutional parts of the tokenizer: residual block, halving and doubling of the resolution."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.types import Latents

NORM_GROUPS = 32
"""Every normalised width is a multiple of this."""


def group_norm(channels: int) -> nn.GroupNorm:
    """The tokenizer's normalisation: 32 groups, eps 1e-6."""
    return nn.GroupNorm(NORM_GROUPS, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Two normalised, swish-activated 3x3 convolutions around a shortcut.

    Args:
        in_channels: Width of the input, a multiple of 32.
        out_channels: Width of the output, a multiple of 32. Where it differs, the shortcut is a 1x1
            convolution.
        dropout: Probability of dropping a value in front of the second convolution.
    """

    def __init__(self, *, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Latents) -> Float[Tensor, "b e h w"]:
        """Keeps height and width."""
        hidden = self.conv1(F.silu(self.norm1(features)))
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        return self.shortcut(features) + hidden


class Downsample(nn.Module):
    """Halves height and width by a 3x3 convolution of stride 2.

    The zeros are put on the right and bottom only: with an even size the filter then never skips a row at the
    border. Published weights rely on it.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, features: Latents) -> Float[Tensor, "b d h//2 w//2"]:
        """From (H, W), both even, to (H / 2, W / 2)."""
        return self.conv(F.pad(features, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles height and width: every value repeated 2x2, then a 3x3 convolution."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Latents) -> Float[Tensor, "b d 2*h 2*w"]:
        """From (H, W) to (2 H, 2 W)."""
        return self.conv(F.interpolate(features, scale_factor=2.0, mode="nearest"))
