"""Which codes are in use, and for how long the others have not been."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

USAGE_STEPS = 100
"""The logged usage is the share of codes met within so many steps."""


class CodebookUsage:
    """Counts, for every code, the steps since it was last met.

    Args:
        codebook_size: Number of codes.
        device: Where the codes are counted.

    Attributes:
        counters: ``unseen``: steps since the code was met; ``unused``: steps since it was met or re-seeded.
    """

    def __init__(self, codebook_size: int, device: torch.device) -> None:
        unused = torch.zeros(codebook_size, dtype=torch.int64, device=device)
        self.counters = {"unused": unused, "unseen": torch.full_like(unused, USAGE_STEPS)}

    def add(self, counts: Int[Tensor, " K"]) -> dict[str, Float[Tensor, ""]]:
        """Takes note of how often each code occurred in a step.

        Returns:
            ``usage``: the share of codes met within the last steps; ``perplexity``: the number of equally
            frequent codes that would be as varied as those of this step.
        """
        for counter in self.counters.values():
            counter.add_(1).masked_fill_(counts > 0, 0)
        frequencies = counts.float() / counts.sum()
        return {
            "usage": (self.counters["unseen"] < USAGE_STEPS).float().mean(),
            "perplexity": (-torch.xlogy(frequencies, frequencies).sum()).exp(),
        }

    def dead(self, steps: int) -> Bool[Tensor, " K"]:
        """Which codes were neither met nor re-seeded for this number of steps."""
        return self.counters["unused"] >= steps

    def reseeded(self, codes: Bool[Tensor, " K"]) -> None:
        """Gives these codes new time."""
        self.counters["unused"].masked_fill_(codes, 0)
