"""Codes replaced by near ones while a tokenizer learns (Qiu et al. 2025): its decoder forgives a prior's errors."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vqgan.config import Config, Count, Share
from vqgan.data.loader import PERTURBATION, draws
from vqgan.tokenizer.quantizers.base import Quantized
from vqgan.tokenizer.quantizers.vector import MAX_DISTANCES
from vqgan.types import Indices, Latents


class PerturbationConfig(Config, frozen=True):
    """Which codes are replaced in training before they are decoded.

    Attributes:
        images: Share of the images with such codes.
        codes: Share of the codes of such an image.
        nearest: Each becomes one of so many codes whose vectors are nearest to its own.
    """

    images: Share = 0.1
    codes: Share = 0.5
    nearest: Count = 100


@torch.no_grad()
def perturbation(
    quantized: Quantized,
    vectors: Float[Tensor, "K d"],
    sample: Int[Tensor, " b"],
    *,
    config: PerturbationConfig,
    seed: int,
) -> Latents:
    """What is added to the codes' vectors: 0 where a code stays. A function of seed and sample numbers.

    Args:
        quantized: Of a batch.
        vectors: Of all codes.
        sample: The samples' numbers.
        config: What is replaced.
        seed: Of the run.
    """
    replaced = near_codes(quantized.indices, vectors, sample, config=config, seed=seed)
    added = F.embedding(replaced, vectors) - F.embedding(quantized.indices, vectors)
    return added.permute(0, 3, 1, 2)


@torch.no_grad()
def near_codes(
    indices: Indices,
    vectors: Float[Tensor, "K d"],
    sample: Int[Tensor, " b"],
    *,
    config: PerturbationConfig,
    seed: int,
) -> Indices:
    """The codes, some of which are replaced by near ones; arguments as of :func:`perturbation`."""
    count, most = indices[0].numel(), min(config.nearest, len(vectors) - 1)
    places, ranks = list[int](), list[int]()
    for row, number in enumerate(sample.tolist()):
        draw = draws(seed, number, PERTURBATION)
        if most and draw.random() < config.images:
            replaced = (draw.random(count) < config.codes).nonzero()[0]
            places += (row * count + replaced).tolist()
            ranks += draw.integers(most, size=count)[replaced].tolist()
    found = indices.flatten().clone()
    if places:
        where, rank = torch.tensor([places, ranks], device=vectors.device)
        # The nearest of all is the code itself, or its equal.
        parts = F.embedding(found[where], vectors).split(max(1, MAX_DISTANCES // len(vectors)))
        near = torch.cat([torch.cdist(each, vectors).topk(most + 1, largest=False).indices for each in parts])
        found[where] = near.gather(1, rank[:, None] + 1)[:, 0]
    return found.view_as(indices)
