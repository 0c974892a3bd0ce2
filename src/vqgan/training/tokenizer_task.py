"""Training of the first stage: reconstruct images through the codebook, in a contest with a discriminator."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vqgan.checkpoints.format import save_model
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import Config, require
from vqgan.evaluation.reconstruction import psnr
from vqgan.images import to_uint8
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.lpips import LPIPS
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.quantizers.base import NO_RESEEDING, codebook_usage
from vqgan.training.adversarial import generator_objective
from vqgan.training.codebook import CodebookUsage
from vqgan.training.ema import WeightAverage, averaged
from vqgan.training.engine import Engine
from vqgan.training.losses import PixelLoss, Scalar, pixel_loss
from vqgan.training.opponent import AdversaryConfig, Opponent
from vqgan.training.optimizers import NamedOptimizer, OptimizerConfig, learning_rate
from vqgan.training.settings import LoopConfig
from vqgan.training.state import TrainingState
from vqgan.types import Batch, Images, Indices, Latents, OnProgress

CODEBOOK = "quantizer.codebook.weight"
"""The parameter whose rows are re-seeded."""


class PerceptualConfig(Config, frozen=True):
    """LPIPS as part of the reconstruction loss.

    Attributes:
        weight: Its weight beside the pixels.
        weights: File with the network's weights; empty: the cache, else a download.
    """

    weight: float = 1.0
    weights: str = ""

    def __post_init__(self) -> None:
        require(self.weight > 0, f"`weight` is {self.weight}, expected a number above 0")


class TokenizerTaskConfig(Config, frozen=True):
    """How a tokenizer is trained. Without ``adversary`` and ``perceptual`` it is a VQ-VAE.

    Attributes:
        optimizer: Adam of the tokenizer, and of the discriminator.
        pixels: ``"l1"``, ``"l2"`` or ``"l1+l2"``.
        hard_share: Share of each image's pixels, the worst ones, whose mean error counts once more; 0 is off.
        hard_pixels: Which error counts for them, as in ``pixels``.
        codebook_weight: Weight of the quantizer's own loss.
        perceptual: LPIPS, or none.
        adversary: The discriminator, or none.
        reseed_after: Steps after which an unused code is replaced by a latent of the batch, or never.
        reseed_until: Share of the run after which no code is replaced any more, so that the last ones settle.
    """

    optimizer: OptimizerConfig
    pixels: PixelLoss = "l1"
    hard_share: float = 0.0
    hard_pixels: PixelLoss = "l2"
    codebook_weight: float = 1.0
    perceptual: PerceptualConfig | None = None
    adversary: AdversaryConfig | None = None
    reseed_after: int | None = None
    reseed_until: float = 0.8

    def __post_init__(self) -> None:
        share, weight, after = self.hard_share, self.codebook_weight, self.reseed_after
        require(0 <= share < 1, f"`hard_share` is {share}, expected 0 <= hard_share < 1")
        require(weight >= 0, f"`codebook_weight` is {weight}, expected a number of at least 0")
        require(0 <= self.reseed_until <= 1, f"`reseed_until` is {self.reseed_until}, expected 0 to 1")
        require(after is None or after >= 1, f"`reseed_after` is {after}, expected at least 1, or none")


@dataclass(frozen=True)
class _Pass:
    """What one micro-batch gave: scalars to log, codes, and the latents they stand for."""

    terms: dict[str, Tensor]
    indices: Indices
    latents: Latents


class TokenizerTask:
    """One step of both players, held-out metrics and pictures of a tokenizer's training.

    Args:
        tokenizer: The model, on the engine's device.
        config: How it is trained.
        loop: Length of the run and decay of the averaged weights.
        engine: Device, precision, processes.
        seed: Of the run; re-seeding draws from it and the step.
        judges: The discriminator if the configuration has an adversary, the perceptual network if it has one.
    """

    phase: Literal["tokenizer", "prior"] = "tokenizer"

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: TokenizerTaskConfig,
        *,
        loop: LoopConfig,
        engine: Engine,
        seed: int,
        judges: tuple[PatchDiscriminator | None, LPIPS | None] = (None, None),
    ) -> None:
        require(
            config.reseed_after is None or tokenizer.quantizer.can_reseed,
            f"`reseed_after` is {config.reseed_after}, but the codes of this quantizer cannot be re-seeded",
            hint=NO_RESEEDING,
        )
        self.tokenizer = tokenizer.train()
        self.config = config
        self.loop = loop
        self.engine = engine
        self.seed = seed
        discriminator, self.perceptual = judges
        if (discriminator is None) != (config.adversary is None):
            raise ValueError("a discriminator is needed exactly when the configuration has an adversary")
        modules: dict[str, torch.nn.Module] = {"tokenizer": self.tokenizer}
        self.opponent: Opponent | None = None
        if discriminator is not None and config.adversary is not None:
            modules["discriminator"] = discriminator
            self.opponent = Opponent(discriminator, config.adversary, engine)
        self.usage = CodebookUsage(tokenizer.codebook_size, engine.device)
        self.state = TrainingState(
            modules=modules,
            optimizers={name: NamedOptimizer(module, config.optimizer) for name, module in modules.items()},
            average=WeightAverage(tokenizer, loop.ema_decay) if loop.ema_decay else None,
            counters=self.usage.counters,
        )

    @property
    def image_channels(self) -> int:
        """Channels of the tokenizer's images."""
        return self.tokenizer.image_channels

    def train_step(self, batches: Sequence[Batch], step: int) -> Mapping[str, Tensor]:
        """One step of the tokenizer and, once it is due, of the discriminator.

        Returns:
            The terms of the losses, the adaptive weight, codebook usage and perplexity, gradient norms.
        """
        for optimizer in self.state.optimizers.values():
            optimizer.zero_grad()
        passes = [self._generator(batch.images, step, len(batches)) for batch in batches]
        rate = learning_rate(self.config.optimizer, step, self.loop.steps)
        measured = {"gradient_norm": self._apply("tokenizer", rate), "learning_rate": torch.tensor(rate)}
        if self.opponent is not None and self.opponent.is_trained(step):
            if self.opponent.config.reconstruction == "updated":
                for batch, done in zip(batches, passes, strict=True):
                    with torch.no_grad(), self.engine.autocast():
                        fake = self.tokenizer(batch.images).images
                    done.terms.update(self.opponent.learn(batch.images, fake, None, parts=len(batches)))
            share = self.opponent.config.learning_rate_share
            measured["discriminator_gradient_norm"] = self._apply("discriminator", rate * share)
        if self.state.average is not None:
            self.state.average.update(self.tokenizer, step)
        measured |= self._codebook(passes, step)
        terms = [done.terms for done in passes]
        return {name: torch.stack([each[name] for each in terms]).mean() for name in terms[0]} | measured

    def _generator(self, images: Images, step: int, parts: int) -> _Pass:
        """The tokenizer's gradients of one micro-batch; the discriminator's too if it sees the same images."""
        opponent = self.opponent
        with self.engine.autocast():
            output = self.tokenizer(images)
            objective = generator_objective(
                output.images,
                distance=lambda reconstruction: self._distance(images, reconstruction),
                auxiliary=self.config.codebook_weight * output.quantized.loss,
                last_weight=self.tokenizer.decoder.last_weight,
                adversary=opponent.adversary(step) if opponent is not None else None,
            )
        (objective.surrogate / parts).backward()
        terms = {
            "loss": objective.total,
            "reconstruction_loss": objective.reconstruction,
            "quantizer_loss": output.quantized.loss.detach(),
            "adversarial_loss": objective.adversarial,
            "adaptive_weight": objective.weight,
        }
        if opponent is not None and opponent.config.reconstruction == "same" and opponent.is_trained(step):
            # The logits that the generator's pass gave serve the discriminator too.
            fake = output.images.detach()
            terms |= opponent.learn(images, fake, objective.fake, parts=parts)
        return _Pass(terms, output.quantized.indices, output.latents.detach())

    def _distance(self, images: Images, reconstruction: Images) -> Scalar:
        config = self.config
        total = pixel_loss(
            images,
            reconstruction,
            kind=config.pixels,
            hard_share=config.hard_share,
            hard_kind=config.hard_pixels,
        )
        if self.perceptual is not None and config.perceptual is not None:
            total = total + config.perceptual.weight * self.perceptual(images, reconstruction).mean()
        return total

    def _apply(self, player: str, rate: float) -> Tensor:
        self.engine.average_gradients(self.state.modules[player].parameters())
        return self.state.optimizers[player].step(rate)

    def _codebook(self, passes: Sequence[_Pass], step: int) -> dict[str, Tensor]:
        """Keeps book of the codes' use and re-seeds those that were unused for too long."""
        indices = torch.cat([done.indices.flatten() for done in passes])
        counts = torch.bincount(indices, minlength=self.tokenizer.codebook_size)
        measured = self.usage.add(self.engine.sum(counts))
        optimizer = self.state.optimizers["tokenizer"]
        # After a skipped update the latents are no numbers either.
        settled = step >= self.config.reseed_until * self.loop.steps
        if self.config.reseed_after is not None and not settled and not bool(optimizer.skipped):
            dead = self.usage.dead(self.config.reseed_after)
            if bool(dead.any()):
                self._reseed(dead, torch.cat([done.latents for done in passes]), step)
                self.usage.reseeded(dead)
        return measured

    def _reseed(self, dead: Tensor, latents: Latents, step: int) -> None:
        generator = torch.Generator().manual_seed((self.seed * 0x9E3779B97F4A7C15 + step) % (1 << 63))
        rows = self.tokenizer.quantizer.reseed(latents, dead, generator)
        codebook = self.tokenizer.get_parameter(CODEBOOK)
        self.engine.broadcast(codebook)
        self.state.optimizers["tokenizer"].forget_rows(CODEBOOK, rows)
        if self.state.average is not None:
            self.state.average.overwrite_rows(CODEBOOK, rows, codebook.detach()[rows])

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """PSNR (dB, 8 bits, over all pixels together), usage and perplexity on held-out images."""
        sums = torch.zeros(2, dtype=torch.float64)
        counts = torch.zeros(self.tokenizer.codebook_size, dtype=torch.int64)
        with averaged(self.tokenizer, self.state.average), self.engine.autocast():
            for batch in batches:
                output = self.tokenizer(batch.images)
                error = to_uint8(batch.images.cpu()).double() - to_uint8(output.images.float().cpu()).double()
                sums += torch.tensor([float(error.square().sum()), error.numel()], dtype=torch.float64)
                indices = output.quantized.indices.flatten().cpu()
                counts += torch.bincount(indices, minlength=len(counts))
        if not sums[1]:
            return {}
        usage, perplexity = codebook_usage(counts)
        return {"psnr": psnr(float(sums[0]), int(sums[1])), "usage": usage, "perplexity": perplexity}

    @torch.no_grad()
    def pictures(self, batch: Batch, on_progress: OnProgress) -> Mapping[str, Images]:
        """Held-out images above their reconstructions."""
        with averaged(self.tokenizer, self.state.average), self.engine.autocast():
            reconstruction = self.tokenizer(batch.images).images
        return {"reconstructions": torch.cat([batch.images, reconstruction.to(batch.images.dtype)])}

    def export(self, folder: RunFolder, step: int) -> None:
        """Writes ``tokenizer.safetensors``, with the averaged weights if there are any."""
        average = self.state.average
        kind: Literal["ema", "raw"] = "ema" if average else "raw"
        tensors = average.tensors if average else None
        save_model(self.tokenizer, folder.weights("tokenizer"), tensors=tensors, weights=kind, step=step)
