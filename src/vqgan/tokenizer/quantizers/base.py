"""What every quantizer offers: latents to codebook indices and back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vqgan.types import Indices, Latents


@dataclass(frozen=True)
class Quantized:
    """The result of a quantizer's forward pass.

    Attributes:
        quantized: Codebook vectors on the grid; their gradient passes to the latents (straight-through).
        indices: Which vector stands where.
        loss: The quantizer's own scalar loss, to be added to the reconstruction loss.
    """

    quantized: Latents
    indices: Indices
    loss: Float[Tensor, ""]


class Quantizer(nn.Module, ABC):
    """Replaces each latent by one of ``codebook_size`` vectors of width ``codebook_dim``."""

    def __init__(self, *, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.codebook_dim = codebook_dim

    @abstractmethod
    def forward(self, latents: Latents) -> Quantized:
        """Quantizes for training."""

    @abstractmethod
    def encode(self, latents: Latents) -> Indices:
        """The index of each latent's code; the same for the same latents."""

    @abstractmethod
    def lookup(self, indices: Indices) -> Latents:
        """The codebook vectors of the indices, ``0 <= index < codebook_size``."""

    @abstractmethod
    def codebook_vectors(self) -> Float[Tensor, "K d"]:
        """The vectors that latents are replaced by."""

    @abstractmethod
    def reseed(
        self, latents: Latents, dead: Bool[Tensor, " K"], generator: torch.Generator
    ) -> Int[Tensor, " r"]:
        """Replaces the codebook rows marked ``dead`` by randomly drawn latents.

        Args:
            latents: Latents of a batch, as :meth:`forward` gets them.
            dead: Which rows to replace, usually those that were not used for some steps.
            generator: A CPU generator; the same draws on every device.

        Returns:
            The indices of the replaced rows, ascending; moments and averages of them are to be reset.
        """


def codebook_usage(counts: Int[Tensor, " K"]) -> tuple[float, float]:
    """How much of the codebook is in use.

    Args:
        counts: How often each code occurred.

    Returns:
        The share of codes that occurred, and the perplexity, exp(entropy in nats) of their frequencies: the
        number of equally frequent codes that would be as varied. Both are 0 if nothing was counted.

    Example:
        >>> usage, perplexity = codebook_usage(torch.tensor([5, 5, 0, 0]))
        >>> usage, round(perplexity, 3)
        (0.5, 2.0)
    """
    total = counts.sum()
    if total == 0:
        return 0.0, 0.0
    frequencies = counts[counts > 0].double() / total
    perplexity = (-(frequencies * frequencies.log()).sum()).exp()
    return (counts > 0).double().mean().item(), perplexity.item()
