"""What every quantizer offers: latents to codebook indices and back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vqgan.config import Config, Count
from vqgan.errors import ConfigError, require
from vqgan.tokenizer.quantizers.remap import RemapConfig, check_used, to_all
from vqgan.types import Indices, Latents

NO_RESEEDING = 'leave it out: `overrides=["task.reseed_after=null"]`'
"""What to do where a quantizer cannot be re-seeded."""


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


class CodebookConfig(Config, frozen=True):
    """What the configurations of all quantizers share.

    Attributes:
        codebook_size: Number of codes.
        codebook_dim: Width of a code.
        remap: Numbers the codes in use anew and leaves the others out, or none.
    """

    codebook_size: Count
    codebook_dim: Count
    remap: RemapConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.remap is not None:
            require(
                self.remap.num_used <= self.codebook_size,
                f"`remap.num_used` is {self.remap.num_used}, expected at most the {self.codebook_size} codes",
            )

    @property
    def num_codes(self) -> int:
        """Number of indices that the quantizer gives: ``codebook_size``, or fewer with ``remap``."""
        return self.codebook_size if self.remap is None else self.remap.num_codes


class Quantizer(nn.Module, ABC):
    """Replaces each latent by one of ``codebook_size`` vectors of width ``codebook_dim``.

    With ``remap``, ``codebook_size`` counts the new indices, and the rows of the table that they stand for are
    the buffer ``used`` (int64): the first ones, until other weights are loaded.

    Args:
        config: Sizes and remapping.
    """

    used: Tensor

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__()
        self.codebook_size = config.num_codes
        self.codebook_dim = config.codebook_dim
        self.table_size = config.codebook_size
        self.remap = config.remap
        if config.remap is not None:
            self.register_buffer("used", torch.arange(config.remap.num_used))
            nn.Module.register_load_state_dict_post_hook(self, _check_loaded)

    @abstractmethod
    def forward(self, latents: Latents) -> Quantized:
        """Quantizes for training.

        With ``remap`` a code that is not in use may still be passed on; only its index is another one.
        """

    @abstractmethod
    def encode(self, latents: Latents) -> Indices:
        """The index of each latent's code; the same for the same latents."""

    @abstractmethod
    def table(self) -> Float[Tensor, "rows d"]:
        """All vectors, those that ``remap`` leaves out too, in at least fp32."""

    def lookup(self, indices: Indices) -> Latents:
        """The codebook vectors of the indices, ``0 <= index < codebook_size``."""
        return F.embedding(indices, self.codebook_vectors()).permute(0, 3, 1, 2)

    def codebook_vectors(self) -> Float[Tensor, "K d"]:
        """The vectors that the indices stand for, in at least fp32."""
        table = self.table()
        if self.remap is None:
            return table
        return table[to_all(torch.arange(self.codebook_size, device=table.device), self.used)]

    @property
    def can_reseed(self) -> bool:
        """Whether rows of the codebook can be replaced by latents."""
        return False

    def reseed(self, latents: Latents, dead: Bool[Tensor, " K"], generator: torch.Generator) -> None:
        """Replaces the codebook rows marked ``dead`` by randomly drawn latents; the device is not waited for.

        Args:
            latents: Latents of a batch, as :meth:`forward` gets them.
            dead: Which rows to replace, usually those that were not used for some steps.
            generator: A CPU generator; the same draws on every device.

        Raises:
            ConfigError: If the quantizer cannot (:attr:`can_reseed`).
        """
        raise ConfigError("the codes of this quantizer cannot be re-seeded", hint=NO_RESEEDING)


def _check_loaded(quantizer: nn.Module, _: object) -> None:
    if isinstance(quantizer, Quantizer):
        check_used(quantizer.used, table_size=quantizer.table_size)


def codebook_usage(counts: Int[Tensor, " K"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """How much of the codebook is in use; the device is not waited for.

    Args:
        counts: How often each code occurred.

    Returns:
        The share of codes that occurred, and the perplexity, exp(entropy in nats) of their frequencies: the
        number of equally frequent codes that would be as varied. Both are 0 if nothing was counted.

    Example:
        >>> usage, perplexity = codebook_usage(torch.tensor([5, 5, 0, 0]))
        >>> round(float(usage), 3), round(float(perplexity), 3)
        (0.5, 2.0)
    """
    total = counts.sum()
    frequencies = counts / total.clamp(min=1)
    perplexity = (-torch.xlogy(frequencies, frequencies).sum()).exp()
    return (counts > 0).float().mean(), perplexity * (total > 0)
