"""The parts of the tokenizer: residual block, attention, halving and doubling of the resolution, and their levels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.types import Latents

NORM_GROUPS = 32
"""Every normalised width is a multiple of this."""

EXACT_POSITIONS = 2**13
"""Positions whose values are added up in single precision; sums over more of them are merged in float64."""


class ChannelStatistics:
    """Mean and variance of each channel of a map that is given in parts.

    Args:
        channels: Width of the map.
    """

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._mean, self._squares = torch.zeros(2, channels, dtype=torch.float64)

    def add(self, band: Float[Tensor, "1 d r w"]) -> None:
        """Takes some rows into account (Chan, Golub and LeVeque 1979)."""
        for part in band.split(max(1, EXACT_POSITIONS // band.shape[3]), dim=2):
            exact = part.to(torch.promote_types(part.dtype, torch.float32))
            if exact.device.type == "cpu":  # ten times as fast as `var_mean` on channels-last data
                mean, variance = torch.batch_norm_update_stats(exact, None, None, 0.0)
            else:
                variance, mean = torch.var_mean(exact, dim=(0, 2, 3), correction=0)
            mean, variance, count = mean.cpu().double(), variance.cpu().double(), part[:, 0].numel()
            change, self._count = mean - self._mean, self._count + count
            self._mean += change * (count / self._count)
            self._squares += variance * count + change.square() * (
                count * (self._count - count) / self._count
            )

    def normed(self, norm: nn.GroupNorm, band: Float[Tensor, "1 d r w"]) -> Float[Tensor, "1 d r w"]:
        """Rows as the group norm of the whole map leaves them: a batch norm with given statistics."""
        means, variances = (
            each.view(norm.num_groups, -1) for each in (self._mean, self._squares / self._count)
        )
        variance = variances.mean(dim=1) + means.var(dim=1, correction=0)
        precision = torch.promote_types(band.dtype, torch.float32)
        statistics = (each.repeat_interleave(means.shape[1]) for each in (means.mean(dim=1), variance))
        mean, variance = (each.to(band.device, precision) for each in statistics)
        weight, bias = norm.weight.to(precision), norm.bias.to(precision)
        return F.batch_norm(band, mean, variance, weight, bias, eps=norm.eps)


class GroupNorm(nn.GroupNorm):
    """The tokenizer's normalisation: 32 groups, eps 1e-6.

    On a CPU PyTorch adds up channels-last values in single precision, one after the other: on 1024x1024 positions its
    result is off by 1e-4. Large maps are normalised by exact statistics here, where no gradient is asked for.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(NORM_GROUPS, channels, eps=1e-6)

    def forward(self, features: Latents) -> Latents:
        """Keeps the shape."""
        small = features.device.type != "cpu" or features.shape[2] * features.shape[3] <= 8 * EXACT_POSITIONS
        if small or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(features)
        images = []
        for image in features.split(1):
            statistics = ChannelStatistics(self.num_channels)
            statistics.add(image)
            images.append(statistics.normed(self, image))
        return images[0] if len(images) == 1 else torch.cat(images)


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
        self.norm1 = GroupNorm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = GroupNorm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Latents) -> Float[Tensor, "b e h w"]:
        """Keeps height and width."""
        hidden = self.conv1(F.silu(self.norm1(features)))
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        return self.shortcut(features) + hidden


class SpatialAttention(nn.Module):
    """Single-head self-attention over the positions of a feature map, added to its input.

    Args:
        channels: Width of the feature map, a multiple of 32; scores are scaled by ``channels ** -0.5``.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.projection = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Latents) -> Latents:
        """Keeps the shape; time grows with the square of ``h * w``."""
        normed = self.norm(features)
        return features + self.attend(normed, *self.keys_and_values(normed))

    def keys_and_values(self, normed: Latents) -> tuple[Float[Tensor, "b 1 n d"], Float[Tensor, "b 1 n d"]]:
        """What the positions of a normalised map offer to others."""
        return _as_sequence(self.key(normed)), _as_sequence(self.value(normed))

    def attend(
        self, normed: Latents, keys: Float[Tensor, "b 1 n d"], values: Float[Tensor, "b 1 n d"]
    ) -> Latents:
        """What some positions, normalised, gather from those with these keys and values."""
        attended = F.scaled_dot_product_attention(_as_sequence(self.query(normed)), keys, values)
        return self.projection(attended.squeeze(1).transpose(1, 2).reshape(normed.shape))


def _as_sequence(features: Tensor) -> Tensor:
    """(b d h w) to (b 1 hw d): one head, positions as the sequence.

    Laid out anew: otherwise PyTorch holds the scores of all pairs of positions, gigabytes for large images.
    """
    return features.flatten(2).transpose(1, 2).unsqueeze(1).contiguous()


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
    """Doubles height and width: every value repeated 2x2, then a 3x3 convolution.

    In training on a CPU both are one transposed convolution with the 4x4 sums of the filter's neighbours, which needs
    4 of 9 multiplications (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?").
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Latents) -> Float[Tensor, "b d 2*h 2*w"]:
        """From (H, W) to (2 H, 2 W)."""
        if self.training and torch.is_grad_enabled() and features.device.type == "cpu":
            turned = self.conv.weight.flip(2, 3).transpose(0, 1)
            wide = F.pad(turned, (0, 1)) + F.pad(turned, (1, 0))
            summed = F.pad(wide, (0, 0, 0, 1)) + F.pad(wide, (0, 0, 1, 0))
            return F.conv_transpose2d(features, summed, self.conv.bias, stride=2, padding=1)
        return self.conv(F.interpolate(features, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention if wanted, then a change of resolution.

    Args:
        in_channels: Width of the input.
        out_channels: Width of every block and of the output.
        num_blocks: Number of residual blocks.
        attention: Whether each block is followed by attention.
        dropout: Dropout inside the blocks.
        resample: What halves or doubles the resolution at the end; ``nn.Identity()`` keeps it.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        num_blocks: int,
        attention: bool,
        dropout: float,
        resample: nn.Module,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * num_blocks
        self.blocks = nn.ModuleList(
            ResidualBlock(in_channels=widths[i], out_channels=widths[i + 1], dropout=dropout)
            for i in range(num_blocks)
        )
        self.attentions = nn.ModuleList(
            SpatialAttention(channels=out_channels) if attention else nn.Identity() for _ in range(num_blocks)
        )
        self.resample = resample

    def forward(self, features: Latents) -> Float[Tensor, "b e i j"]:
        """From ``in_channels`` at one resolution to ``out_channels`` at the next."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            features = attention(block(features))
        return self.resample(features)


def middle(*, channels: int, dropout: float, attention: bool) -> nn.Sequential:
    """Block, attention if wanted, block at the lowest resolution; encoder and decoder both have one."""
    return nn.Sequential(
        ResidualBlock(in_channels=channels, out_channels=channels, dropout=dropout),
        SpatialAttention(channels=channels) if attention else nn.Identity(),
        ResidualBlock(in_channels=channels, out_channels=channels, dropout=dropout),
    )
