"""The perceptual distance LPIPS: how different two images look to a classifier (Zhang et al. 2018)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.errors import require
from vqgan.types import Images

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Widths of VGG16's 3x3 convolutions; features are taken after each stage, 2x2 max-pooling follows."""


MIN_SIDE = 16
"""Pixels a side that the five stages need."""


def fits(channels: int, height: int, width: int) -> bool:
    """Whether images of this size can be compared."""
    return channels in (1, 3) and min(height, width) >= MIN_SIDE


def check_fits(channels: int, height: int, width: int) -> None:
    """Raises ConfigError if images of this size cannot be compared."""
    require(
        fits(channels, height, width),
        f"images of {height} x {width} pixels and {channels} channels do not fit the perceptual loss",
        hint=f'it needs {MIN_SIDE} pixels a side, 1 or 3 channels; or `overrides=["task.perceptual=null"]`',
    )


class PerceptualNetwork(nn.Module):
    """LPIPS on VGG16.

    The network is fixed: its parameters are frozen and it stays in evaluation mode whatever ``train`` is
    called with, so a loss that holds it is the same in training and evaluation. All weights are NaN until
    loaded with ``load_state_dict``: a forgotten load is noticed, random weights would not be.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        widths = [3] + [stage[-1] for stage in STAGES]
        self.stages = nn.ModuleList(
            nn.ModuleList(
                nn.Conv2d(before, after, 3, padding=1)
                for before, after in zip((entry, *stage), stage, strict=False)
            )
            for entry, stage in zip(widths, STAGES, strict=False)
        )
        self.heads = nn.ModuleList(nn.Conv2d(stage[-1], 1, 1, bias=False) for stage in STAGES)
        # ImageNet's mean and deviation, moved from [0, 1] to images in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        for parameter in self.parameters():
            nn.init.constant_(parameter, math.nan)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "PerceptualNetwork":
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, images: Images, others: Images) -> Float[Tensor, " b"]:
        """The distance of each pair, at least 0; differentiable with respect to both.

        Args:
            images: Values in [-1, 1], 3 channels (or 1, repeated), at least 16 pixels a side.
            others: As ``images``, of the same shape.

        Raises:
            ConfigError: If the images have another number of channels or are too small.
        """
        check_fits(*images.shape[1:])
        total = images.new_zeros(len(images))
        pairs = zip(self._features(images), self._features(others), self.heads, strict=True)
        for feature, other, head in pairs:
            total = total + head((unit_length(feature) - unit_length(other)) ** 2).mean(dim=(1, 2, 3))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        hidden = (images - self.shift) / self.scale
        taps = []
        for index, stage in enumerate(self.stages):
            if index > 0:
                hidden = F.max_pool2d(hidden, 2)
            for convolution in stage.children():
                hidden = F.relu(convolution(hidden))
            taps.append(hidden)
        return taps


def unit_length(features: Tensor) -> Tensor:
    """Of unit length over the channels; ``vector_norm`` has gradient 0 at 0, a square root would give NaN."""
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)
