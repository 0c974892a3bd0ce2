"""Gumbel quantization: scores of all codes, of which one is drawn in training (Jang et al. 2017)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.config import Positive, Weight
from vqgan.tokenizer.quantizers.base import CodebookConfig, Quantized, Quantizer
from vqgan.types import Indices, Latents

MAX_SCORES = 4_000_000
"""Scores that ``encode`` holds at the same time, about 16 MB."""


class GumbelQuantizerConfig(CodebookConfig, frozen=True, tag_field="kind", tag="gumbel"):
    """A codebook whose codes are chosen by scores that a linear layer gives them.

    Attributes:
        kl_weight: Weight of the divergence between the codes' probabilities and a uniform choice.
        temperature: Softness of the choice that the gradient sees; the choice itself does not depend on it.
    """

    kl_weight: Weight = 1e-8
    temperature: Positive = 1.0


class GumbelQuantizer(Quantizer):
    """Scores for all codes; in training one is drawn by them, in evaluation the highest one counts.

    The gradient is that of the soft choice (hard Gumbel-softmax). All arithmetic is in fp32 (float64 for float64
    latents), under autocast too. With ``remap`` the codes that are not in use get no score. Codes cannot be
    re-seeded: a latent says nothing about the scores that would choose it.

    Args:
        config: Sizes and behaviour.
    """

    def __init__(self, config: GumbelQuantizerConfig) -> None:
        super().__init__(config)
        self.config = config
        self.projection = nn.Conv2d(config.codebook_dim, config.codebook_size, 1)
        self.codebook = nn.Embedding(config.codebook_size, config.codebook_dim)

    def forward(self, latents: Latents) -> Quantized:
        """Quantizes for training: draws from PyTorch's own generator, and none in evaluation mode."""
        scores = self.scores(latents)
        with torch.autocast(latents.device.type, enabled=False):
            noisy = scores + gumbel_noise(scores) if self.training else scores
            indices = noisy.argmax(dim=1)
            soft = (noisy / self.config.temperature).softmax(dim=1)
            hard = F.one_hot(indices, soft.shape[1]).permute(0, 3, 1, 2)
            rows = self.table() if self.remap is None else self.table()[self.used]
            choice = hard - soft.detach() + soft
            quantized = torch.einsum("bkhw,kd->bdhw", choice, rows.to(choice.dtype))
            probability = scores.softmax(dim=1)
            divergence = probability * torch.log(probability * self.table_size + 1e-10)
            loss = self.config.kl_weight * divergence.sum(dim=1).mean()
            return Quantized(quantized=quantized, indices=indices, loss=loss)

    @torch.no_grad()
    def encode(self, latents: Latents, *, generator: torch.Generator | None = None) -> Indices:
        """The code of the highest score for each latent.

        Args:
            latents: What is quantized.
            generator: Draws each code with the softmax of its score as probability instead, as the original does
                even in evaluation: on the CPU with the same seed the same codes. Holds all scores in memory.
        """
        if generator is not None:
            scores = self.scores(latents)
            return (scores + gumbel_noise(scores, generator)).argmax(dim=1)
        b, _, h, w = latents.shape
        with torch.autocast(latents.device.type, enabled=False):
            points, weight, bias = self._operands(latents)
            chunks = torch.split(points, max(1, MAX_SCORES // len(weight)))
            indices = [torch.addmm(bias, chunk, weight.T).argmax(dim=1) for chunk in chunks]
            return torch.cat(indices).view(b, h, w)

    def table(self) -> Float[Tensor, "rows d"]:
        """All vectors, in at least fp32."""
        weight = self.codebook.weight
        return weight.to(torch.promote_types(weight.dtype, torch.float32))

    def scores(self, latents: Latents) -> Float[Tensor, "b rows h w"]:
        """The score of every code that can be chosen, unnormalised logarithms of probabilities."""
        b, _, h, w = latents.shape
        with torch.autocast(latents.device.type, enabled=False):
            points, weight, bias = self._operands(latents)
            return torch.addmm(bias, points, weight.T).view(b, h, w, -1).permute(0, 3, 1, 2)

    def _operands(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (p d), and the weight (rows d) and bias of their scores, in one precision of at least fp32."""
        dtype = torch.promote_types(latents.dtype, torch.float32)
        weight, bias = self.projection.weight.flatten(1), self.projection.bias
        assert bias is not None
        if self.remap is not None:
            # As in the original: codes that are not in use cannot be chosen, so none is ever unknown.
            weight, bias = weight[self.used], bias[self.used]
        return latents.permute(0, 2, 3, 1).flatten(0, 2).to(dtype), weight.to(dtype), bias.to(dtype)


def gumbel_noise(
    like: Float[Tensor, "*shape"], generator: torch.Generator | None = None
) -> Float[Tensor, "*shape"]:
    """Standard Gumbel noise of the shape, type and device of ``like``; the generator may be on another device."""
    device = generator.device if generator is not None else like.device
    waits = torch.empty(like.shape, dtype=like.dtype, device=device).exponential_(generator=generator)
    # A wait of 0, which can be drawn, would be infinite noise.
    return -waits.clamp_(min=torch.finfo(like.dtype).tiny).log_().to(like.device)
