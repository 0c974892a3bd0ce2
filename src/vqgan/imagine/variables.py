"""What is optimised while a picture is drawn from words: latents, mixtures of codes, or the pixels themselves."""

import math
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqgan.config import Config, Positive
from vqgan.tokenizer import Tokenizer, decode_within, encode_within
from vqgan.tokenizer.gradient import check_gradient, decode_with_gradient
from vqgan.tokenizer.quantizers.vector import nearest
from vqgan.types import Images, Indices

Shares = Float[Tensor, "b h w K"]
"""How much of each code a cell has; they add up to 1."""

_SURE = 0.9
"""The share of its code with which a cell of a mixture begins."""

_COMPARED = 1024
"""Codes whose nearest neighbours tell how far codes lie apart."""


class LatentsConfig(Config, frozen=True, tag_field="kind", tag="latents"):
    """Latents, each decoded as its nearest code; they get the gradient of the code (straight-through)."""


class MixtureConfig(Config, frozen=True, tag_field="kind", tag="mixture"):
    """Scores of all codes: their softmax mixes what is decoded, at a temperature that falls by equal factors.

    Attributes:
        start: Temperature of the first step.
        end: Temperature of the last step.
    """

    start: Positive = 1.0
    end: Positive = 0.1


class PixelsConfig(Config, frozen=True, tag_field="kind", tag="pixels"):
    """The pixels: what comes of it where no tokenizer holds them to what pictures look like."""


VariablesConfig = LatentsConfig | MixtureConfig | PixelsConfig


class Variables:
    """How numbers that an optimizer changes become pictures: latents (b d h w), scores (b h w K) or pixels (b 3 H W).

    Args:
        config: Which of them.
        tokenizer: In evaluation mode.
        memory: Bytes beside the weights, for encoding and decoding without gradients.

    Attributes:
        bounds: The least and the largest numbers that can be decoded: of latents the codebook's, channel by channel.
    """

    bounds: tuple[Any, Any] = (-math.inf, math.inf)

    def __init__(self, config: VariablesConfig, tokenizer: Tokenizer, memory: int) -> None:
        self.config, self.tokenizer, self.memory = config, tokenizer, memory
        self.codes = tokenizer.quantizer.codebook_vectors().detach()
        if isinstance(config, LatentsConfig):
            low, high = self.codes.aminmax(dim=0)
            self.bounds = low.view(1, -1, 1, 1), high.view(1, -1, 1, 1)
        elif isinstance(config, PixelsConfig):
            self.bounds = -1, 1

    @cached_property
    def _apart(self) -> Float[Tensor, ""]:
        """The mean squared distance between neighbouring codes; by products a code would not be exactly at itself."""
        exact = "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(self.codes[:_COMPARED], self.codes, compute_mode=exact)
        return apart.where(apart > 0, torch.inf).amin(dim=1).square().mean()

    def begin(self, start: Images | Indices) -> Tensor:
        """The numbers that stand for pictures or their codes; scores give a code nine tenths of the mixture."""
        if isinstance(self.config, PixelsConfig):
            images = decode_within(self.tokenizer, start, self.memory) if start.ndim == 3 else start
            return images.clamp(-1, 1)
        indices = start if start.ndim == 3 else encode_within(self.tokenizer, start, self.memory)
        if isinstance(self.config, LatentsConfig):
            return self.tokenizer.quantizer.lookup(indices)
        score = self.config.start * math.log(_SURE / (1 - _SURE) * max(1, len(self.codes) - 1))
        return F.one_hot(indices, len(self.codes)).to(self.codes) * score

    def decoded(self, numbers: Tensor, progress: float, memory: int) -> Images:
        """The pictures, not clamped, with gradients; ``progress`` goes from 0 to 1.

        Latents get the gradient of their nearest codes (van den Oord et al. 2017).
        """
        if isinstance(self.config, PixelsConfig):
            return numbers
        if isinstance(self.config, LatentsConfig):
            chosen = self.tokenizer.quantizer.lookup(self.indices(numbers))
            vectors = numbers + (chosen - numbers).detach()
        else:
            vectors = (self.shares(numbers, progress) @ self.codes).permute(0, 3, 1, 2)
        return decode_with_gradient(self.tokenizer, vectors, memory)

    def least_memory(self, numbers: Tensor, beside: int) -> int:
        """As :func:`check_gradient` says; pixels are not decoded."""
        if isinstance(self.config, PixelsConfig):
            return 0
        return check_gradient(self.tokenizer, self.indices(numbers).shape, self.memory, beside)

    def shares(self, numbers: Tensor, progress: float) -> Shares:
        """How near each cell is to each code, with gradients: the mixture at this time.

        Of latents the softmax of the negative squared distances, counted in that between neighbouring codes.
        """
        if isinstance(self.config, MixtureConfig):
            temperature = self.config.start * (self.config.end / self.config.start) ** progress
            return (numbers / temperature).softmax(dim=-1)
        near = 2 * numbers.permute(0, 2, 3, 1) @ self.codes.T - self.codes.square().sum(dim=1)
        return (near / self._apart).softmax(dim=-1)

    def indices(self, numbers: Tensor) -> Indices:
        """The nearest codes, whichever way the quantizer chooses them, or those of the largest scores."""
        if isinstance(self.config, MixtureConfig):
            return numbers.detach().argmax(dim=-1)
        points = numbers.detach().permute(0, 2, 3, 1)
        return nearest(points.flatten(0, 2), self.codes.to(points)).view(points.shape[:3])

    def shown(self, numbers: Tensor) -> Images:
        """The pictures of the codes, values in [-1, 1], without gradients."""
        if isinstance(self.config, PixelsConfig):
            return numbers.detach().clone()
        return decode_within(self.tokenizer, self.indices(numbers), self.memory).clamp(-1, 1)
