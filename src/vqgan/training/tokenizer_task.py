"""Training of the first stage: reconstruct images through the codebook, in a contest with a discriminator."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from vqgan.checkpoints.format import save_model
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import Config, require
from vqgan.errors import ConfigError
from vqgan.evaluation.reconstruction import psnr
from vqgan.images import to_uint8
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.lpips import LPIPS
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.quantizers.base import codebook_usage
from vqgan.training.adversarial import Adversary, GeneratorObjective, generator_objective
from vqgan.training.ema import WeightAverage, averaged
from vqgan.training.engine import Engine
from vqgan.training.losses import (
    AdversarialLoss,
    PatchLogits,
    PixelLoss,
    Scalar,
    discriminator_loss,
    pixel_loss,
    warm_up_factor,
)
from vqgan.training.optimizers import NamedOptimizer, OptimizerConfig, learning_rate
from vqgan.training.settings import LoopConfig
from vqgan.training.state import TrainingState
from vqgan.types import Batch, Images, Latents

CODEBOOK = "quantizer.codebook.weight"
"""The parameter whose rows are re-seeded."""

USAGE_STEPS = 100
"""The logged usage is the share of codes met within so many steps."""


class PerceptualConfig(Config, frozen=True):
    """LPIPS as part of the reconstruction loss.

    Attributes:
        weight: Its weight beside the pixels.
        weights: File with the network's weights; empty: the cache, else a download.
    """

    weight: float = 1.0
    weights: str = ""


class AdversaryConfig(Config, frozen=True):
    """The discriminator and its part in the loss.

    Attributes:
        loss: ``"hinge"`` or ``"vanilla"``.
        weight: Multiplies the adaptive weight.
        start: Step from which the tokenizer feels the discriminator.
        discriminator_start: Step from which the discriminator is trained; by default ``start``.
        base_channels: Width of its first convolution.
        num_layers: Its halvings of the resolution.
        learning_rate_share: Its learning rate as a share of the tokenizer's.
        reconstruction: ``"same"``: both players see the reconstruction of the one forward pass. ``"updated"``: the
            discriminator sees that of the updated tokenizer, one more forward pass, as published models were trained.
    """

    loss: AdversarialLoss = "hinge"
    weight: float = 0.8
    start: int = 0
    discriminator_start: int | None = None
    base_channels: int = 64
    num_layers: int = 3
    learning_rate_share: float = 1.0
    reconstruction: Literal["same", "updated"] = "same"

    def __post_init__(self) -> None:
        require(self.start >= 0, f"start is {self.start}, expected 0 or more")
        first = self.discriminator_start
        require(
            first is None or 0 <= first <= self.start,
            f"discriminator_start is {first}, expected 0 to start = {self.start}",
        )


class TokenizerTaskConfig(Config, frozen=True):
    """How a tokenizer is trained. Without ``adversary`` and ``perceptual`` it is a VQ-VAE.

    Attributes:
        optimizer: Adam of the tokenizer, and of the discriminator.
        pixels: ``"l1"``, ``"l2"`` or ``"l1+l2"``.
        hard_share: Share of each image's pixels, the worst ones, whose mean error counts once more; 0 is off.
        codebook_weight: Weight of the quantizer's own loss.
        perceptual: LPIPS, or none.
        adversary: The discriminator, or none.
        reseed_after: Steps after which an unused code is replaced by a latent of the batch, or never.
    """

    optimizer: OptimizerConfig
    pixels: PixelLoss = "l1"
    hard_share: float = 0.0
    codebook_weight: float = 1.0
    perceptual: PerceptualConfig | None = None
    adversary: AdversaryConfig | None = None
    reseed_after: int | None = None

    def __post_init__(self) -> None:
        require(0 <= self.hard_share < 1, f"hard_share is {self.hard_share}, expected 0 <= hard_share < 1")
        after = self.reseed_after
        require(after is None or after >= 1, f"reseed_after is {after}, expected 1 or more, or nothing")


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
        self.tokenizer = tokenizer.train()
        self.config = config
        self.loop = loop
        self.engine = engine
        self.seed = seed
        self.discriminator, self.perceptual = judges
        if (self.discriminator is None) != (config.adversary is None):
            raise ValueError("a discriminator is needed exactly when the configuration has an adversary")
        modules: dict[str, torch.nn.Module] = {"tokenizer": self.tokenizer}
        if self.discriminator is not None:
            modules["discriminator"] = self.discriminator.train()
        self.state = TrainingState(
            modules=modules,
            optimizers={
                n: NamedOptimizer(m.named_parameters(), config.optimizer) for n, m in modules.items()
            },
            average=WeightAverage(tokenizer, loop.ema_decay) if loop.ema_decay else None,
            counters={
                "unused": torch.zeros(tokenizer.codebook_size, dtype=torch.int64, device=engine.device)
            },
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
        logs: list[dict[str, Tensor]] = []
        counts = torch.zeros_like(self.state.counters["unused"])
        for batch in batches:
            terms, indices, latents = self._generator(batch.images, step, len(batches))
            logs.append(terms)
            counts += torch.bincount(indices.flatten(), minlength=len(counts))
        rate = learning_rate(self.config.optimizer, step, self.loop.steps)
        measured = {"gradient_norm": self._apply("tokenizer", rate), "learning_rate": torch.tensor(rate)}
        if self._discriminator_trains(step):
            self._discriminator_step(batches, logs, rate, measured)
        if self.state.average is not None:
            self.state.average.update(self.tokenizer, step)
        measured |= self._codebook(counts, latents, step)
        return {key: torch.stack([log[key] for log in logs]).mean() for key in logs[0]} | measured

    def _generator(self, images: Images, step: int, parts: int) -> tuple[dict[str, Tensor], Tensor, Latents]:
        """The tokenizer's gradients of one micro-batch; the discriminator's too if it sees the same images."""
        with self.engine.autocast():
            output = self.tokenizer(images)
            objective = generator_objective(
                output.images,
                distance=lambda reconstruction: self._distance(images, reconstruction),
                auxiliary=self.config.codebook_weight * output.quantized.loss,
                last_weight=self.tokenizer.decoder.last_weight,
                adversary=self._adversary(step),
            )
        (objective.surrogate / parts).backward()
        terms = {
            "loss": objective.total,
            "reconstruction_loss": objective.reconstruction,
            "quantizer_loss": output.quantized.loss.detach(),
            "adversarial_loss": objective.adversarial,
            "adaptive_weight": objective.weight,
        }
        if self.config.adversary is not None and self.config.adversary.reconstruction == "same":
            terms |= self._judge(images, output.images.detach(), objective, step, parts)
        return terms, output.quantized.indices, output.latents.detach()

    def _distance(self, images: Images, reconstruction: Images) -> Scalar:
        config = self.config
        total = pixel_loss(images, reconstruction, kind=config.pixels, hard_share=config.hard_share)
        if self.perceptual is not None and config.perceptual is not None:
            total = total + config.perceptual.weight * self.perceptual(images, reconstruction).mean()
        return total

    def _adversary(self, step: int) -> Adversary | None:
        config = self.config.adversary
        if config is None or self.discriminator is None or not warm_up_factor(step, config.start):
            return None
        return Adversary(judge=self.discriminator, scale=config.weight)

    def _discriminator_trains(self, step: int) -> bool:
        config = self.config.adversary
        if config is None:
            return False
        first = config.start if config.discriminator_start is None else config.discriminator_start
        return step >= first

    def _judge(
        self, images: Images, fake: Images, objective: GeneratorObjective | None, step: int, parts: int
    ) -> dict[str, Tensor]:
        """The discriminator's gradients of one micro-batch; nothing reaches the tokenizer."""
        config = self.config.adversary
        if config is None or self.discriminator is None or not self._discriminator_trains(step):
            return {}
        with self.engine.autocast():
            if objective is not None and objective.fake is not None:
                # The graph of the generator's judgement also leads to the discriminator's weights.
                logits: PatchLogits = objective.fake
                real = self.discriminator(images)
            else:
                real = self.discriminator(images)
                logits = self.discriminator(fake)
            loss = discriminator_loss(config.loss)(real, logits)
        (loss / parts).backward(inputs=list(self.discriminator.parameters()))
        return {
            "discriminator_loss": loss.detach(),
            "logits_real": real.detach().mean(),
            "logits_fake": logits.detach().mean(),
        }

    def _discriminator_step(
        self,
        batches: Sequence[Batch],
        logs: list[dict[str, Tensor]],
        rate: float,
        measured: dict[str, Tensor],
    ) -> None:
        config = self.config.adversary
        if config is None:
            raise ConfigError("there is no discriminator to train")
        if config.reconstruction == "updated":
            for log, batch in zip(logs, batches, strict=True):
                with torch.no_grad(), self.engine.autocast():
                    fake = self.tokenizer(batch.images).images
                log |= self._judge(batch.images, fake, None, config.start, len(batches))
        measured["discriminator_gradient_norm"] = self._apply(
            "discriminator", rate * config.learning_rate_share
        )

    def _apply(self, player: str, rate: float) -> Tensor:
        self.engine.average_gradients(self.state.modules[player].parameters())
        return self.state.optimizers[player].step(rate)

    def _codebook(self, counts: Tensor, latents: Latents, step: int) -> dict[str, Tensor]:
        """Keeps book of the codes' use and re-seeds those that were unused for too long."""
        counts = self.engine.sum(counts)
        unused = self.state.counters["unused"]
        unused.add_(1).masked_fill_(counts > 0, 0)
        _, perplexity = codebook_usage(counts)
        usage = (unused < USAGE_STEPS).float().mean()
        if self.config.reseed_after is not None:
            dead = unused >= self.config.reseed_after
            if bool(dead.any()):
                self._reseed(dead, latents, step)
                unused.masked_fill_(dead, 0)
        return {"usage": usage, "perplexity": torch.tensor(perplexity)}

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
        usage, perplexity = codebook_usage(counts)
        return {"psnr": psnr(float(sums[0]), int(sums[1])), "usage": usage, "perplexity": perplexity}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> Mapping[str, Images]:
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
