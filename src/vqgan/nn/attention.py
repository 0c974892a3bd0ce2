"""Attention between all positions of a feature map."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.nn.convolution import GroupNorm
from vqgan.types import Latents


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
