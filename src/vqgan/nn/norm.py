"""The tokenizer's normalisation, exact on maps of any size."""

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
            if exact.device.type == "cpu":  # ten times as quick as `var_mean` on channels-last data
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
