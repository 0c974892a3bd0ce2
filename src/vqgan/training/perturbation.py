"""Codes replaced by near ones while a tokenizer learns (Qiu et al. 2025): its decoder forgives a prior's errors."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vqgan.config import Config, Count, Share
from vqgan.tokenizer.quantizers.base import Quantized
from vqgan.types import Latents

_PURPOSE = 5
"""Sets these draws apart from those of the data and of a prior's training, which have the same keys."""


class PerturbationConfig(Config, frozen=True):
    """Which codes are replaced in training before they are decoded.

    Attributes:
        images: Share of the images with such codes.
        codes: Share of the codes of such an image.
        nearest: Each becomes one of so many codes whose vectors are nearest to its own.
    """

    images: Share = 0.5
    codes: Share = 0.1
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
    count = quantized.indices[0].numel()
    most = min(config.nearest, len(vectors) - 1)
    rows = np.full((len(sample), count), -1)
    for row, number in zip(rows, sample.tolist(), strict=True):
        key, counter = (np.array(each, dtype=np.uint64) for each in ([seed, number], [0, 0, 0, _PURPOSE]))
        draw = np.random.Generator(np.random.Philox(key=key, counter=counter))
        if most and draw.random() < config.images:
            replaced = draw.random(count) < config.codes
            row[replaced] = draw.integers(most, size=count)[replaced]
    ranks = torch.from_numpy(rows.ravel())
    places = (ranks >= 0).nonzero().flatten()
    added = torch.zeros(len(ranks), vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
    if len(places):
        own = F.embedding(quantized.indices.flatten()[places.to(vectors.device)], vectors)
        # The nearest of all is the code itself, or its equal.
        near = torch.cdist(own, vectors).topk(most + 1, largest=False).indices
        chosen = near.gather(1, ranks[places].to(near.device)[:, None] + 1)[:, 0]
        added[places.to(vectors.device)] = F.embedding(chosen, vectors) - own
    return added.view(*quantized.indices.shape, -1).permute(0, 3, 1, 2)
