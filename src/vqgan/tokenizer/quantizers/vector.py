"""Vector quantization: each latent becomes its nearest codebook vector (van den Oord et al. 2017)."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vqgan.config import Weight
from vqgan.tokenizer.quantizers.base import CodebookConfig, Quantized, Quantizer
from vqgan.tokenizer.quantizers.remap import to_used
from vqgan.types import Indices, Latents

MAX_SPREAD = 2**16
"""Points that :func:`spread` chooses from; each one chosen costs a pass over them."""

MAX_DISTANCES = 4_000_000
"""Distances held at the same time, about 16 MB: 8 grids of 32x32 against 16,384 codes would be 537 MB."""


class NearestConfig(CodebookConfig, frozen=True):
    """What the quantizers that look for the nearest vector have in common.

    Attributes:
        commitment_weight: Weight of one of the two squared distances between latents and codes, see
            ``loss_convention``.
        loss_convention: "paper" weighs the term that moves the latents (eq. 4, Esser et al. 2021); "original"
            weighs the term that moves the codes, as the published models were trained. The values are equal,
            the gradients are not.
        normalize: Whether latents and codes are compared, and codes returned, at length 1.
        gradient: What the latents get of the decoder's gradient: all of it as it is ("straight"), or turned and scaled
            as its code is to its latent ("rotation", see :func:`rotated`).
    """

    commitment_weight: Weight = 0.25
    loss_convention: Literal["paper", "original"] = "paper"
    normalize: bool = False
    gradient: Literal["straight", "rotation"] = "straight"


class NearestQuantizer(Quantizer):
    """Nearest neighbour in a table of vectors.

    All arithmetic is in fp32 (float64 for float64 latents), under autocast too: half precision would move the
    nearest code.

    Args:
        config: Sizes and behaviour.
    """

    def __init__(self, config: NearestConfig) -> None:
        super().__init__(config)
        self.config = config

    def forward(self, latents: Latents) -> Quantized:
        """Quantizes for training; see :class:`NearestConfig` for the loss."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = self.prepared(latents)
            vectors = self.table().to(latents.dtype)
            indices = _nearest_on_grid(latents, vectors)
            chosen = F.embedding(indices, vectors).permute(0, 3, 1, 2)
            codes_move = F.mse_loss(chosen, latents.detach())
            latents_move = F.mse_loss(latents, chosen.detach())
            if self.config.loss_convention == "paper":
                loss = codes_move + self.config.commitment_weight * latents_move
            else:
                loss = latents_move + self.config.commitment_weight * codes_move
            passed = latents if self.config.gradient == "straight" else rotated(latents, chosen)
            quantized = passed + (chosen - passed).detach()
            return Quantized(quantized=quantized, indices=self._numbered(indices), loss=loss)

    def encode(self, latents: Latents) -> Indices:
        """The index of each latent's nearest code."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = self.prepared(latents)
            return self._numbered(_nearest_on_grid(latents, self.table().to(latents.dtype)))

    def _numbered(self, rows: Indices) -> Indices:
        """The indices of rows of the table."""
        if self.remap is None:
            return rows
        return to_used(rows, self.used, table_size=self.table_size, config=self.remap)

    def prepared(self, latents: Latents) -> Latents:
        """What is compared with the table: in at least fp32, and of length 1 if ``normalize``."""
        latents = latents.to(torch.promote_types(latents.dtype, torch.float32))
        return F.normalize(latents, dim=1) if self.config.normalize else latents


class VectorQuantizerConfig(NearestConfig, frozen=True, tag_field="kind", tag="vector"):
    """A codebook of learned vectors."""


class VectorQuantizer(NearestQuantizer):
    """Nearest neighbour in a learned codebook.

    Args:
        config: Sizes and behaviour.
    """

    def __init__(self, config: VectorQuantizerConfig) -> None:
        super().__init__(config)
        self.codebook = nn.Embedding(config.codebook_size, config.codebook_dim)
        with torch.no_grad():
            if config.normalize:
                self.codebook.weight.copy_(F.normalize(torch.randn_like(self.codebook.weight), dim=1))
            else:
                self.codebook.weight.uniform_(-1 / config.codebook_size, 1 / config.codebook_size)

    def table(self) -> Float[Tensor, "rows d"]:
        """All vectors, of length 1 if ``normalize``, in at least fp32."""
        weight = self.codebook.weight.to(torch.promote_types(self.codebook.weight.dtype, torch.float32))
        return F.normalize(weight, dim=1) if self.config.normalize else weight

    @property
    def can_reseed(self) -> bool:
        """Whether rows of the codebook can be replaced by latents: not where only some are in use."""
        return self.remap is None

    @torch.no_grad()
    def reseed(self, latents: Latents, dead: Bool[Tensor, " K"], generator: torch.Generator) -> None:
        """Replaces the rows marked ``dead`` by latents of the batch, each used once if there are enough."""
        if not self.can_reseed:
            super().reseed(latents, dead, generator)
        weight, candidates = self.codebook.weight, self.prepared(latents).permute(0, 2, 3, 1).flatten(0, 2)
        rounds = -(-len(dead) // len(candidates))
        order = torch.cat([torch.randperm(len(candidates), generator=generator) for _ in range(rounds)])
        # Each row has a candidate, by its number among the dead: how many these are, only the device knows.
        drawn = order.to(dead.device, non_blocking=dead.is_cuda)[dead.cumsum(dim=0).sub_(1).clamp_(min=0)]
        weight.copy_(torch.where(dead[:, None], candidates[drawn].to(weight.dtype), weight))


def _nearest_on_grid(latents: Tensor, vectors: Tensor) -> Tensor:
    b, _, h, w = latents.shape
    return nearest(latents.permute(0, 2, 3, 1).flatten(0, 2), vectors).view(b, h, w)


def rotated(latents: Latents, codes: Latents) -> Latents:
    """The latents, turned and scaled to their codes by a map that counts as constant: eq. 4, Fifty et al. 2024.

    The values are those of the codes. A gradient's angle to the code becomes its angle to the latent, and its length
    grows with that of the code over that of the latent.

    Args:
        latents: What was quantized.
        codes: The vector that each became.
    """
    fixed, codes = latents.detach(), codes.detach()
    here, there = F.normalize(fixed, dim=1), F.normalize(codes, dim=1)
    middle = F.normalize(here + there, dim=1)
    along, across = ((each * latents).sum(dim=1, keepdim=True) for each in (here, middle))
    scale = codes.norm(dim=1, keepdim=True) / fixed.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return scale * (latents - 2 * across * middle + 2 * along * there)


@torch.no_grad()
def nearest(
    points: Float[Tensor, "p d"], vectors: Float[Tensor, "K d"], max_distances: int = MAX_DISTANCES
) -> Int[Tensor, " p"]:
    """The index of the nearest of ``vectors`` for each of ``points``, in Euclidean distance.

    Args:
        points: The points to look up.
        vectors: The candidates.
        max_distances: Distances held at the same time: points are taken in chunks of that many over ``K``.

    Example:
        >>> nearest(torch.tensor([[0.9], [0.1]]), torch.tensor([[0.0], [1.0]])).tolist()
        [1, 0]
    """
    # |p - v|^2 without |p|^2, which is the same for all candidates and only costs digits.
    squares = vectors.square().sum(dim=1)
    chunks = torch.split(points, max(1, max_distances // len(vectors)))
    return torch.cat([torch.addmm(squares, chunk, vectors.T, alpha=-2).argmin(dim=1) for chunk in chunks])


@torch.no_grad()
def spread(points: Float[Tensor, "p d"], count: int, generator: torch.Generator) -> Float[Tensor, "count d"]:
    """Points that represent all, with which to begin k-means: k-means++ (Arthur and Vassilvitskii 2007).

    Each is drawn with its squared distance from the nearest one before as probability, so none is drawn twice as long
    as there are others. Computed on the CPU from up to 65,536 of the points: the same on every device.

    Args:
        points: What is to be represented.
        count: How many to choose; where there are fewer different points, all of these and repetitions.
        generator: A CPU generator.
    """
    chosen = torch.randperm(len(points), generator=generator)[:MAX_SPREAD]
    dtype, points = points.dtype, points[chosen.to(points.device)].double().cpu()
    distances, found = torch.ones(len(points), dtype=torch.float64), []
    for number in range(count):
        reached = distances.cumsum(dim=0)
        draw = torch.rand(1, generator=generator, dtype=torch.float64) * reached[-1]
        place = torch.searchsorted(reached, draw, right=True).clamp(max=len(points) - 1)
        found.append(points[place])
        new = (points - found[-1]).square().sum(dim=1)
        distances = torch.minimum(distances, new) if number else new
    return torch.cat(found).to(dtype)
