"""Layers of a prior that tell codes' vectors, a second loss in training (He et al. 2025, reAR)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan.prior.prior import PriorConfig


class Alignment(nn.Module):
    """Reads, from what layers make of the entries, the vectors of codes; it is trained along and then left out.

    The first layer shall tell the code that it read, also where noise stood in its place; the layer at three quarters
    of the depth the next one. So the prior learns what codes look like, and what is wrong when it reads a bad one.

    Args:
        config: Of the prior.
        codebook_dim: Width of a code's vector.
    """

    def __init__(self, config: PriorConfig, codebook_dim: int) -> None:
        super().__init__()
        self.layers = 0, max(1, round(0.75 * config.depth)) - 1
        self.is_local = config.span is not None
        width = config.width
        self.current, self.next = (
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, codebook_dim))
            for _ in self.layers
        )

    def new_layers(self) -> dict[int, Tensor]:
        """What :meth:`vqgan.prior.Prior.forward` is to fill in."""
        return dict.fromkeys(self.layers, torch.empty(0))

    def forward(
        self, layers: dict[int, Tensor], codes: Float[Tensor, "b n d"], grid: tuple[int, int]
    ) -> Float[Tensor, ""]:
        """One minus the cosine between what is read and what is true, the mean of both layers.

        Args:
            layers: What the layers make of the entries that predict each token (b n width).
            codes: The true vectors of these tokens.
            grid: Rows and columns.
        """
        first, later = (layers[layer] for layer in self.layers)
        # The entry that predicts a token is the one before it; with a local span, rows begin with one of their own.
        rows = [each.unflatten(1, grid) if self.is_local else each[:, None] for each in (first, codes)]
        read, true = rows[0][..., 1:, :], rows[1][..., :-1, :]
        return (_distance(self.current(read), true) + _distance(self.next(later), codes)) / 2


def _distance(found: Float[Tensor, "*shape d"], true: Float[Tensor, "*shape d"]) -> Float[Tensor, ""]:
    distances = 1 - F.cosine_similarity(found.to(true.dtype), true, dim=-1)
    return distances.sum() / max(1, distances.numel())  # a grid of one column has none before
