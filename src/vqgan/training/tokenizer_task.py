"""Training of the first stage: reconstruct images through the codebook, against a discriminator."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vqgan.checkpoints.run_folder import RunFolder, Stage
from vqgan.config import Config, Count, Natural, Positive, Probability, Share, Weight
from vqgan.errors import require
from vqgan.evaluation.labels import LabelAgreement
from vqgan.evaluation.psnr import psnr
from vqgan.images import in_colours, one_hot, to_uint8
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.autoencoder import Decoder
from vqgan.tokenizer.quantizers.base import NO_RESEEDING, codebook_usage
from vqgan.tokenizer.quantizers.vector import spread
from vqgan.training.engine import Engine
from vqgan.training.losses import (
    AdversarialLoss,
    LabelLoss,
    PatchLogits,
    PixelLoss,
    Scalar,
    discriminator_loss,
    generator_objective,
    pixel_loss,
)
from vqgan.training.optimizers import OptimizerConfig, TrainingState, learning_rate
from vqgan.training.perturbation import PerturbationConfig, perturbation
from vqgan.training.task import LoopConfig
from vqgan.types import Batch, Images, Indices, Latents, OnProgress

CODEBOOK = "quantizer.codebook.weight"
"""The parameter whose rows are re-seeded."""

USAGE_STEPS = 100
"""The logged usage is the share of codes that occurred within this number of steps."""


class PerceptualConfig(Config, frozen=True):
    """The perceptual part of the reconstruction loss.

    Attributes:
        weight: Its weight beside the pixels.
        weights: File with the network's weights; empty: the cache, else a download.
    """

    weight: Positive = 1.0
    weights: str = ""


class DiscriminatorConfig(Config, frozen=True):
    """The discriminator and its part in the loss.

    Attributes:
        loss: ``"hinge"`` or ``"vanilla"``.
        weight: Multiplies the adaptive weight.
        start: Step from which the tokenizer is trained against the discriminator.
        discriminator_start: Step from which the discriminator is trained; by default ``start``.
        base_channels: Width of its first convolution.
        num_layers: Its halvings of the resolution.
        learning_rate_share: Its learning rate as a share of the tokenizer's.
        reconstruction: ``"same"``: the discriminator sees the reconstruction of the tokenizer's forward pass.
            ``"updated"``: it sees that of the updated tokenizer, one more forward pass, as published models were
            trained.
    """

    loss: AdversarialLoss = "hinge"
    weight: Positive = 0.8
    start: Natural = 0
    discriminator_start: int | None = None
    base_channels: Count = 64
    num_layers: Count = 3
    learning_rate_share: Positive = 1.0
    reconstruction: Literal["same", "updated"] = "same"

    def __post_init__(self) -> None:
        super().__post_init__()
        first = self.discriminator_start
        require(
            first is None or 0 <= first <= self.start,
            f"`discriminator_start` is {first}, expected 0 to `start` = {self.start}",
        )

    def is_trained(self, step: int) -> bool:
        """Whether the discriminator learns in this step."""
        return step >= (self.start if self.discriminator_start is None else self.discriminator_start)


class TokenizerTaskConfig(Config, frozen=True):
    """How a tokenizer is trained. Without ``discriminator`` and ``perceptual`` it is a VQ-VAE.

    Attributes:
        optimizer: Adam of the tokenizer, and of the discriminator.
        pixels: ``"l1"``, ``"l2"`` or ``"l1+l2"``; of label maps ``"cross_entropy"`` of the softmax over the labels of
            each pixel, or ``"binary"``: of each label's sigmoid, as published tokenizers of label maps were trained.
        hard_share: Share of each image's pixels, the worst ones, whose mean error is added; 0 is off.
        hard_pixels: Which error counts for them, as in ``pixels``.
        codebook_weight: Weight of the quantizer's own loss.
        perceptual: The perceptual loss, or none.
        discriminator: The discriminator, or none.
        perturbation: Codes that are replaced by near ones before they are decoded, or none.
        reseed_after: Steps after which an unused code is replaced by a latent of the batch, or never.
        reseed_until: Share of the run after which no code is replaced any more, so that the last ones settle.
        label_names: A file that names the labels, see :func:`~vqgan.data.label_names.read_label_names`; empty: they
            have the names of ``tokenizer.label_names``, or are called by their numbers.
    """

    optimizer: OptimizerConfig
    pixels: Literal[PixelLoss, LabelLoss] = "l1"
    hard_share: Probability = 0.0
    hard_pixels: PixelLoss = "l2"
    codebook_weight: Weight = 1.0
    perceptual: PerceptualConfig | None = None
    discriminator: DiscriminatorConfig | None = None
    perturbation: PerturbationConfig | None = None
    reseed_after: Count | None = None
    reseed_until: Share = 0.8
    label_names: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, off in (("discriminator", None), ("perceptual", None), ("hard_share", 0.0)):
            require(
                not self.is_of_labels or getattr(self, name) == off,
                f"`pixels` is `{self.pixels}`, a loss of label maps, but there is a `{name}`, which compares pictures",
                hint=f"set `task.{name}={'null' if off is None else 0}`",
            )
        require(
            self.is_of_labels or not self.label_names,
            f"`label_names` is `{self.label_names}`, but `pixels` is `{self.pixels}`, which is no loss of label maps",
            hint="set `task.pixels=cross_entropy`",
        )

    @property
    def is_of_labels(self) -> bool:
        """Whether the images are label maps."""
        return self.pixels in get_args(LabelLoss)


class TokenizerTask:
    """One step of tokenizer and discriminator, held-out metrics and pictures of a tokenizer's training.

    Args:
        tokenizer: The model, on the engine's device.
        config: How it is trained.
        loop: Length of the run and decay of the averaged weights.
        engine: Device, precision, processes.
        seed: Of the run; re-seeding draws from it and the step.
        discriminator: The network, if the configuration has one.
        perceptual: The network, if the configuration has one.
    """

    stage: Stage = "tokenizer"

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: TokenizerTaskConfig,
        *,
        loop: LoopConfig,
        engine: Engine,
        seed: int,
        discriminator: PatchDiscriminator | None = None,
        perceptual: PerceptualNetwork | None = None,
    ) -> None:
        require(
            config.reseed_after is None or tokenizer.quantizer.can_reseed,
            f"`reseed_after` is {config.reseed_after}, but the codes of this quantizer cannot be re-seeded",
            hint=NO_RESEEDING,
        )
        if (discriminator is None) != (config.discriminator is None):
            raise ValueError("a discriminator is needed exactly when the configuration has one")
        self.tokenizer = tokenizer.train()
        self.num_labels = tokenizer.image_channels if config.is_of_labels else 0
        self.image_channels = 1 if self.num_labels else tokenizer.image_channels
        self.config = config
        self.loop = loop
        self.engine = engine
        self.seed = seed
        self.perceptual = perceptual
        modules: dict[str, torch.nn.Module] = {"tokenizer": self.tokenizer}
        if discriminator is not None:
            modules["discriminator"] = discriminator.train()
        unused = torch.zeros(tokenizer.codebook_size, dtype=torch.int64, device=engine.device)
        self.state = TrainingState(
            modules,
            config.optimizer,
            engine,
            ema_decay=loop.ema_decay,
            counters={"unused": unused, "unseen": torch.full_like(unused, USAGE_STEPS)},
        )

    def train_step(self, batches: Sequence[Batch], step: int) -> Mapping[str, Tensor]:
        """One step of the tokenizer and, once it is due, of the discriminator.

        Returns:
            The terms of the losses, the adaptive weight, codebook usage and perplexity, gradient norms.
        """
        self.state.zero_grad()
        if step == 0 and self.tokenizer.config.autoencoder is None:
            self._choose_colours(torch.cat([batch.images for batch in batches]))
        passes = [self._generator_pass(batch, step, len(batches)) for batch in batches]
        rate = learning_rate(self.config.optimizer, step, self.loop.steps)
        measured = {"gradient_norm": self.state.apply("tokenizer", rate), "learning_rate": torch.tensor(rate)}
        discriminator = self.config.discriminator
        if discriminator is not None and discriminator.is_trained(step):
            if discriminator.reconstruction == "updated":
                for batch, (terms, _, _) in zip(batches, passes, strict=True):
                    with torch.no_grad(), self.engine.autocast():
                        fake = self.tokenizer(batch.images).images
                    terms |= self._discriminator_pass(discriminator, batch.images, fake, None, len(batches))
            measured["discriminator_gradient_norm"] = self.state.apply(
                "discriminator", rate * discriminator.learning_rate_share
            )
        self.state.update_averages(step)
        all_terms, indices, latents = zip(*passes, strict=True)
        measured |= self._count_codes(torch.cat(indices), torch.cat(latents), step)
        return {
            name: torch.stack([terms[name] for terms in all_terms]).mean() for name in all_terms[0]
        } | measured

    def _seen(self, images: Images) -> Float[Tensor, "b _ H W"]:
        """The images as the tokenizer takes them: label maps with a channel for each label."""
        return one_hot(images, self.num_labels) if self.num_labels else images

    @torch.no_grad()
    def _choose_colours(self, images: Images) -> None:
        """The first colours of a tokenizer of pixels, unless it was given some; the gradient then moves them."""
        codebook = self.tokenizer.get_parameter(CODEBOOK)
        if not codebook.any():
            pixels = images.permute(0, 2, 3, 1).flatten(0, 2)
            codebook.copy_(spread(pixels, len(codebook), torch.Generator().manual_seed(self.seed)))
            self.engine.broadcast(codebook)
            if self.state.averages:
                self.state.averages[CODEBOOK].copy_(codebook)

    def _generator_pass(
        self, batch: Batch, step: int, parts: int
    ) -> tuple[dict[str, Tensor], Indices, Latents]:
        """The tokenizer's gradients of one micro-batch; the discriminator's too if it sees the same images.

        Returns:
            Scalars to log, the codes, and the latents that they stand for.
        """
        config, decoder, images = self.config.discriminator, self.tokenizer.decoder, self._seen(batch.images)
        added = None
        if self.config.perturbation is not None:
            vectors = self.tokenizer.quantizer.codebook_vectors()
            added = partial(
                perturbation,
                vectors=vectors,
                sample=batch.sample,
                config=self.config.perturbation,
                seed=self.seed,
            )
        with self.engine.autocast():
            output = self.tokenizer(images, added)
            surrogate, terms, logits = generator_objective(
                output.images,
                distance=lambda reconstruction: self._distance(images, reconstruction),
                auxiliary=self.config.codebook_weight * output.quantized.loss,
                last_weight=decoder.last_weight if isinstance(decoder, Decoder) else None,
                discriminator=self.state.modules["discriminator"]
                if config and step >= config.start
                else None,
                scale=config.weight if config else 0.0,
            )
        (surrogate / parts).backward()
        terms["quantizer_loss"] = output.quantized.loss.detach()
        if config is not None and config.reconstruction == "same" and config.is_trained(step):
            # The logits that the generator's pass gave serve the discriminator too.
            terms |= self._discriminator_pass(config, images, output.images.detach(), logits, parts)
        return terms, output.quantized.indices, output.latents.detach()

    def _discriminator_pass(
        self,
        config: DiscriminatorConfig,
        images: Images,
        fake: Images,
        logits: PatchLogits | None,
        parts: int,
    ) -> dict[str, Tensor]:
        """Adds the discriminator's gradients of one micro-batch; none reach the tokenizer.

        ``logits`` are those for ``fake``, with their graph, where they are known already.
        """
        network = self.state.modules["discriminator"]
        with self.engine.autocast():
            real = network(images)
            logits = network(fake) if logits is None else logits
            loss = discriminator_loss(real, logits, kind=config.loss)
        (loss / parts).backward(inputs=list(network.parameters()))
        return {
            "discriminator_loss": loss.detach(),
            "logits_real": real.detach().mean(),
            "logits_fake": logits.detach().mean(),
        }

    def _distance(self, images: Images, reconstruction: Images) -> Scalar:
        config = self.config
        if config.pixels == "cross_entropy":
            return F.cross_entropy(reconstruction, images)
        if config.pixels == "binary":
            return F.binary_cross_entropy_with_logits(reconstruction, images)
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

    def _count_codes(self, indices: Indices, latents: Latents, step: int) -> dict[str, Tensor]:
        """Counts which codes occur, and re-seeds those that were unused for too long."""
        counts = self.engine.sum(torch.bincount(indices.flatten(), minlength=self.tokenizer.codebook_size))
        measured = count_codes(self.state.counters, counts)
        unused = self.state.counters["unused"]
        ended = step >= self.config.reseed_until * self.loop.steps
        if self.config.reseed_after is None or ended or bool(self.state.optimizers["tokenizer"].skipped):
            return measured  # after a skipped update the latents are NaN too
        dead = unused >= self.config.reseed_after
        if bool(dead.any()):
            self._reseed(dead, latents, step)
            unused.masked_fill_(dead, 0)
        return measured

    def _reseed(self, dead: Tensor, latents: Latents, step: int) -> None:
        generator = torch.Generator().manual_seed((self.seed * 0x9E3779B97F4A7C15 + step) % (1 << 63))
        rows = self.tokenizer.quantizer.reseed(latents, dead, generator)
        codebook = self.tokenizer.get_parameter(CODEBOOK)
        self.engine.broadcast(codebook)
        self.state.optimizers["tokenizer"].forget_rows(CODEBOOK, rows)
        if self.state.averages:
            self.state.averages[CODEBOOK][rows] = codebook.detach()[rows]

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """PSNR (dB, 8 bits, over all pixels together), usage and perplexity on held-out images.

        Of label maps mIoU and accuracy stand in the place of PSNR.
        """
        error, values, agreement = 0.0, 0, LabelAgreement(self.num_labels)
        counts = torch.zeros(self.tokenizer.codebook_size, dtype=torch.int64)
        with self.state.averaged(), self.engine.autocast():
            for batch in batches:
                images = self._seen(batch.images)
                output = self.tokenizer(images)
                if self.num_labels:
                    agreement.add(images.argmax(dim=1), output.images.argmax(dim=1))
                else:
                    ours, theirs = (to_uint8(each.float().cpu()).double() for each in (images, output.images))
                    error += float((ours - theirs).square().sum())
                values += images.numel()
                counts += torch.bincount(output.quantized.indices.flatten().cpu(), minlength=len(counts))
        if not values:
            return {}
        usage, perplexity = codebook_usage(counts)
        numbers = agreement.numbers() if self.num_labels else {"psnr": psnr(error, values)}
        return {**numbers, "usage": float(usage), "perplexity": float(perplexity)}

    @torch.no_grad()
    def pictures(self, batch: Batch, on_progress: OnProgress) -> Mapping[str, Images]:
        """Held-out images above their reconstructions; label maps in colours."""
        images = self._seen(batch.images)
        with self.state.averaged(), self.engine.autocast():
            reconstruction = self.tokenizer(images).images
        both = torch.cat([images, reconstruction.to(images.dtype)])
        return {"reconstructions": in_colours(both.argmax(dim=1)) if self.num_labels else both}

    def export(self, folder: RunFolder, step: int) -> None:
        """Writes ``tokenizer.safetensors``, with the averaged weights if there are any."""
        self.state.export(self.tokenizer, folder.weights("tokenizer"), step)


def count_codes(counters: Mapping[str, Tensor], counts: Int[Tensor, " K"]) -> dict[str, Tensor]:
    """Adds a step to the counters of the codes.

    Args:
        counters: ``unseen``: steps since each code occurred; ``unused``: steps since it occurred or was
            re-seeded. They are changed in place.
        counts: How often each code occurred in the step.

    Returns:
        ``usage``: the share of codes that occurred within the last steps; ``perplexity``: that of this step.
    """
    for counter in counters.values():
        counter.add_(1).masked_fill_(counts > 0, 0)
    recent = (counters["unseen"] < USAGE_STEPS).long()
    return {"usage": codebook_usage(recent)[0], "perplexity": codebook_usage(counts)[1]}
