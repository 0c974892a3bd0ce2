"""What is optimised while a picture is drawn from words: latents, mixtures of codes, or the pixels themselves."""

import math
from abc import ABC, abstractmethod
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
from vqgan.types import Images, Indices, Latents

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


class Variables(ABC):
    """How numbers that an optimizer changes become pictures.

    Args:
        tokenizer: In evaluation mode.
        memory: Bytes beside the weights, for encoding and decoding without gradients.

    Attributes:
        bounds: The least and the largest numbers that can be decoded.
    """

    bounds: tuple[Any, Any] = (-math.inf, math.inf)

    def __init__(self, tokenizer: Tokenizer, memory: int) -> None:
        self.tokenizer, self.memory = tokenizer, memory
        self.codes = tokenizer.quantizer.codebook_vectors().detach()

    @abstractmethod
    def begin(self, start: Images | Indices) -> Tensor:
        """The numbers that stand for pictures or their codes."""

    @abstractmethod
    def decoded(self, numbers: Tensor, progress: float, memory: int) -> Images:
        """The pictures, not clamped, with gradients; ``progress`` goes from 0 to 1."""

    def least_memory(self, numbers: Tensor, beside: int) -> int:
        """As :func:`check_gradient` says."""
        return check_gradient(self.tokenizer, self.indices(numbers).shape, self.memory, beside)

    def shares(self, numbers: Tensor, progress: float) -> Shares:
        """How near each cell is to each code, with gradients."""
        raise TypeError("pixels have no codes")

    def indices(self, numbers: Tensor) -> Indices:
        """The codes of the pictures."""
        raise TypeError("pixels have no codes")

    def shown(self, numbers: Tensor) -> Images:
        """The pictures of the codes, values in [-1, 1], without gradients."""
        return decode_within(self.tokenizer, self.indices(numbers), self.memory).clamp(-1, 1)

    def _codes_of(self, start: Images | Indices) -> Indices:
        return start if start.ndim == 3 else encode_within(self.tokenizer, start, self.memory)


class LatentVariables(Variables):
    """Latents (b d h w)."""

    def __init__(self, tokenizer: Tokenizer, memory: int) -> None:
        super().__init__(tokenizer, memory)
        low, high = self.codes.aminmax(dim=0)
        self.bounds = low.view(1, -1, 1, 1), high.view(1, -1, 1, 1)

    @cached_property
    def _apart(self) -> Float[Tensor, ""]:
        """The mean squared distance between neighbouring codes; by products a code would not be exactly at itself."""
        exact = "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(self.codes[:_COMPARED], self.codes, compute_mode=exact)
        return apart.where(apart > 0, torch.inf).amin(dim=1).square().mean()

    def begin(self, start: Images | Indices) -> Latents:
        """The vectors of the codes."""
        return self.tokenizer.quantizer.lookup(self._codes_of(start))

    def decoded(self, numbers: Latents, progress: float, memory: int) -> Images:
        """Those of the nearest codes; the gradient is that of the latents' own (van den Oord et al. 2017)."""
        chosen = self.tokenizer.quantizer.lookup(self.indices(numbers))
        return decode_with_gradient(self.tokenizer, numbers + (chosen - numbers).detach(), memory)

    def indices(self, numbers: Latents) -> Indices:
        """The nearest codes, whichever way the quantizer chooses them."""
        points = numbers.detach().permute(0, 2, 3, 1)
        return nearest(points.flatten(0, 2), self.codes.to(points)).view(points.shape[:3])

    def shares(self, numbers: Latents, progress: float) -> Shares:
        """The softmax of the negative squared distances, counted in that between neighbouring codes."""
        near = 2 * numbers.permute(0, 2, 3, 1) @ self.codes.T - self.codes.square().sum(dim=1)
        return (near / self._apart).softmax(dim=-1)


class MixtureVariables(Variables):
    """Scores (b h w K)."""

    def __init__(self, tokenizer: Tokenizer, memory: int, config: MixtureConfig) -> None:
        super().__init__(tokenizer, memory)
        self._config = config

    def begin(self, start: Images | Indices) -> Shares:
        """Scores that give the code nine tenths of the mixture."""
        count = len(self.codes)
        score = self._config.start * math.log(_SURE / (1 - _SURE) * max(1, count - 1))
        return F.one_hot(self._codes_of(start), count).to(self.codes) * score

    def decoded(self, numbers: Shares, progress: float, memory: int) -> Images:
        """Those of the mixed codes."""
        mixed = self.shares(numbers, progress) @ self.codes
        return decode_with_gradient(self.tokenizer, mixed.permute(0, 3, 1, 2), memory)

    def shares(self, numbers: Shares, progress: float) -> Shares:
        """The mixture at this time."""
        temperature = self._config.start * (self._config.end / self._config.start) ** progress
        return (numbers / temperature).softmax(dim=-1)

    def indices(self, numbers: Shares) -> Indices:
        """The codes of the largest scores."""
        return numbers.detach().argmax(dim=-1)


class PixelVariables(Variables):
    """Pictures (b 3 H W)."""

    bounds = -1, 1

    def begin(self, start: Images | Indices) -> Images:
        """The pictures themselves."""
        if start.ndim == 3:
            start = decode_within(self.tokenizer, start, self.memory)
        return start.clamp(-1, 1)

    def decoded(self, numbers: Images, progress: float, memory: int) -> Images:
        """The pictures themselves."""
        return numbers

    def least_memory(self, numbers: Images, beside: int) -> int:
        """Nothing is decoded."""
        return 0

    def shown(self, numbers: Images) -> Images:
        """The pictures themselves."""
        return numbers.detach().clone()


def build_variables(config: VariablesConfig, tokenizer: Tokenizer, memory: int) -> Variables:
    """The variables of a configuration."""
    match config:
        case LatentsConfig():
            return LatentVariables(tokenizer, memory)
        case MixtureConfig():
            return MixtureVariables(tokenizer, memory, config)
        case PixelsConfig():
            return PixelVariables(tokenizer, memory)
