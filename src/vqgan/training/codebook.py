"""The codebook in training: which codes are in use, and codes that follow the means of their latents."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vqgan.tokenizer.quantizers.base import codebook_usage
from vqgan.tokenizer.quantizers.vector import VectorQuantizer
from vqgan.training.engine import Engine
from vqgan.types import Indices, Latents

CODEBOOK = "quantizer.codebook.weight"
"""The parameter whose rows are re-seeded, or follow means."""

USAGE_STEPS = 100
"""The logged usage is the share of codes that occurred within this number of steps."""


def count_codes(counters: Mapping[str, Tensor], counts: Int[Tensor, " K"]) -> dict[str, Tensor]:
    """Adds a step to the counters of the codes.

    Args:
        counters: ``unseen``: steps since each code occurred; ``unused``: steps since it occurred or was
            re-seeded. They are changed in place.
        counts: How often each code occurred in the step; all zero if it was skipped, which changes no counter.

    Returns:
        ``usage``: the share of codes that occurred within the last steps; ``perplexity``: that of this step.
    """
    for name in ("unused", "unseen"):
        counters[name].add_(counts.any()).masked_fill_(counts > 0, 0)
    recent = (counters["unseen"] < USAGE_STEPS).long()
    return {"usage": codebook_usage(recent)[0], "perplexity": codebook_usage(counts)[1]}


class MovingCodes:
    """Codes that are running means of the latents that choose them, instead of following a gradient.

    Those of van den Oord et al. 2017, appendix A.1; a code that no latent chooses stays where it is.

    Args:
        quantizer: Its codebook no longer requires a gradient.
        decay: What is kept of counts and sums in a step.
        engine: The processes whose latents count together.

    Attributes:
        memory: Counts and sums, a part of the run's state.
    """

    def __init__(self, quantizer: VectorQuantizer, *, decay: float, engine: Engine) -> None:
        self.quantizer, self.decay, self.engine = quantizer, decay, engine
        weight = quantizer.codebook.weight.requires_grad_(False)
        self.memory = {"code_counts": torch.ones_like(weight[:, 0]), "code_sums": weight.detach().clone()}

    @torch.no_grad()
    def move(self, latents: Latents, indices: Indices, counts: Int[Tensor, " K"], skip: Tensor) -> None:
        """Moves the codes after a step.

        Args:
            latents: Those of this process.
            indices: Their codes.
            counts: How often each code occurred, over all processes.
            skip: Above 0 if the step was not applied, because something was not finite: then nothing moves.
        """
        points = self.quantizer.prepared(latents).permute(0, 2, 3, 1).flatten(0, 2)
        sums = self.memory["code_sums"]
        new = self.engine.sum(torch.zeros_like(sums).index_add_(0, indices.flatten(), points.to(sums)))
        for memory, value in ((self.memory["code_counts"], counts), (sums, new)):
            memory.copy_(torch.where(skip > 0, memory, memory.lerp(value.to(memory), 1 - self.decay)))
        weight, many = self.quantizer.codebook.weight, self.memory["code_counts"][:, None]
        weight.copy_(torch.where(counts[:, None] > 0, sums / many, weight))

    @torch.no_grad()
    def reset(self, rows: Bool[Tensor, " K"]) -> None:
        """Begins anew with the codes in these rows, which were replaced by hand."""
        self.memory["code_counts"].masked_fill_(rows, 1)
        sums = self.memory["code_sums"]
        sums.copy_(torch.where(rows[:, None], self.quantizer.codebook.weight, sums))
