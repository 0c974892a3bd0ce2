"""Layers for the vectors of tokens: norms, feed-forward layers, and positions by the place of a token in the image."""

from typing import Literal

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan.nn.product import Linear

NormKind = Literal["layer", "rms"]
FeedForwardKind = Literal["gelu", "swiglu"]

Place = tuple[int, int]
"""Row and column."""

Rotation = Float[Tensor, "*rows 1 2 head_width"]
"""Cosines and signed sines, the same for all heads of a token."""

_ROTARY_BASE = 100.0
"""Wavelengths reach from 6 tokens to 100 times that: enough for images, where text takes 10,000."""

_MULTIPLE = 16
"""The hidden width of a gated layer is a multiple of this, for fast products."""


def make_norm(kind: NormKind, width: int) -> nn.Module:
    """LayerNorm, or RMSNorm (Zhang and Sennrich 2019), which neither centres nor shifts."""
    return nn.LayerNorm(width) if kind == "layer" else RMSNorm(width, eps=1e-6)


class RMSNorm(nn.RMSNorm):
    """PyTorch's, in the precision of its weights also where autocast gives it a lower one, as it does LayerNorm."""

    def forward(self, rows: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Vectors divided by their root mean square, times the weights."""
        return super().forward(rows.to(self.weight.dtype))


def make_feed_forward(kind: FeedForwardKind, width: int, dropout: float) -> nn.Module:
    """Two layers for each token by itself: with GELU four times as wide, or gated, with as many weights."""
    if kind == "swiglu":
        return GatedFeedForward(width, dropout)
    return nn.Sequential(
        Linear(width, 4 * width),
        nn.GELU(),  # exact, by the error function
        Linear(4 * width, width),
        nn.Dropout(dropout),
    )


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): one half of the hidden vector, through SiLU, multiplies the other."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        hidden = -(-8 * width // (3 * _MULTIPLE)) * _MULTIPLE
        self.widen = Linear(width, 2 * hidden)
        self.narrow = Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """The new vectors, without the old ones added."""
        gate, value = self.widen(rows).chunk(2, dim=-1)
        return self.dropout(
            self.narrow(F.silu(gate).mul_(value) if not self.training else F.silu(gate) * value)
        )


def rotation(places: Num[Tensor, "*rows 2"], head_width: int, like: Tensor) -> Rotation:
    """How queries and keys of tokens at these places are turned: a quarter of their pairs by each frequency.

    The scores of two tokens then depend on the difference of their places only: rotary positions (Su et al. 2021), the
    first half of a head by the row, the second by the column (axial, as Heo et al. 2024).

    Args:
        places: Row and column of each token.
        head_width: Width of a head, a multiple of 4.
        like: A tensor of the type and on the device of queries and keys.
    """
    quarter = head_width // 4
    kind = torch.promote_types(like.dtype, torch.float32)
    powers = torch.arange(quarter, device=places.device, dtype=kind) / quarter
    angles = places.to(kind).unsqueeze(-1) * _ROTARY_BASE**-powers  # (*rows, 2, quarter)
    cosines, sines = angles.cos(), angles.sin()
    both = (torch.cat([cosines, cosines], dim=-1), torch.cat([-sines, sines], dim=-1))
    return torch.stack([each.flatten(-2) for each in both], dim=-2).unsqueeze(-3).to(like.dtype)


def rotate(
    vectors: Float[Tensor, "rows heads head_width"], by: Rotation
) -> Float[Tensor, "rows heads head_width"]:
    """The vectors turned by :func:`rotation`."""
    turned = vectors.unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3)
    return torch.addcmul(vectors * by[..., 0, :], turned, by[..., 1, :])


class RelativeBias(nn.Module):
    """A learned number for each head and offset of two tokens, added to the scores of attention (as in Swin).

    Args:
        num_heads: Attention heads.
        lowest: The smallest offsets of rows and of columns.
        highest: The largest.
    """

    def __init__(self, num_heads: int, *, lowest: Place, highest: Place) -> None:
        super().__init__()
        self.lowest, self.highest = lowest, highest
        rows, columns = (high - low + 1 for low, high in zip(lowest, highest, strict=True))
        self.table = nn.Parameter(torch.zeros(num_heads, rows, columns))

    def forward(self, offsets: Int[Tensor, "*shared new seen 2"]) -> Float[Tensor, "*shared heads new seen"]:
        """The numbers (... heads new seen) for offsets (... new seen 2); what is beyond the largest counts as it."""
        (row, column), (low, first), (high, last) = offsets.unbind(-1), self.lowest, self.highest
        found = self.table[:, row.clamp(low, high) - low, column.clamp(first, last) - first]
        return found.movedim(0, -3)
