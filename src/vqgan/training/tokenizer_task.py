"""Training of the first stage: reconstruct images through the codebook, against a discriminator."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vqgan.checkpoints.run_folder import Stage
from vqgan.config import Config, Count, Positive, Probability, Share, Weight
from vqgan.errors import ConfigError, require
from vqgan.evaluation.labels import LabelAgreement
from vqgan.evaluation.psnr import WINDOW, detail_energy, psnr, structural_similarity
from vqgan.images import in_colours, one_hot, to_uint8
from vqgan.tokenizer import Reconstruction, Tokenizer
from vqgan.tokenizer.autoencoder import Decoder
from vqgan.tokenizer.quantizers.base import NO_RESEEDING, Quantized, codebook_usage
from vqgan.tokenizer.quantizers.vector import VectorQuantizer, spread
from vqgan.training.adversary import Adversary, DiscriminatorConfig
from vqgan.training.codebook import CODEBOOK, USAGE_STEPS, MovingCodes, count_codes
from vqgan.training.engine import Engine
from vqgan.training.losses import Distance, LabelLoss, PixelLoss, Scalar, generator_objective, pixel_loss
from vqgan.training.optimizers import OptimizerConfig, TrainingState, learning_rate, means_of
from vqgan.training.perturbation import PerturbationConfig, perturbation
from vqgan.training.task import LoopConfig
from vqgan.types import Batch, Images, Indices, Latents, OnProgress


class PerceptualConfig(Config, frozen=True):
    """The perceptual part of the reconstruction loss.

    Attributes:
        weight: Its weight beside the pixels.
        weights: A denoiser (file or run) that was trained on such images; ``imagenet-lite``, a small classifier of
            ImageNet (extra `features`); or a file with the weights of LPIPS; empty: those of the cache, else a
            download.
        digest: Tells the network from others; empty means any, and is filled in when training begins.
    """

    weight: Positive = 1.0
    weights: str = ""
    digest: str = ""


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
        trained: ``"decoder"`` leaves encoder and codebook as they are, so that codes keep their meaning.
        codebook_decay: Codes are running means, with this decay in a step, of the latents that choose them (0.99), in
            place of following the gradient; or none. For quantizers of kind ``vector``.
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
    trained: Literal["all", "decoder"] = "all"
    codebook_decay: Probability | None = None
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
        for name in ("reseed_after", "codebook_decay"):
            require(
                self.trained == "all" or getattr(self, name) is None,
                f"`trained` is `decoder`, but `{name}` = {getattr(self, name)} changes the codebook",
                hint=f"set `task.{name}=null`",
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
        perceptual: How different each pair of images looks, if the configuration has a perceptual loss.
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
        perceptual: Distance | None = None,
    ) -> None:
        require(
            config.reseed_after is None or tokenizer.quantizer.can_reseed,
            f"`reseed_after` is {config.reseed_after}, but the codes of this quantizer cannot be re-seeded",
            hint=NO_RESEEDING,
        )
        quantizer, self.moving_codes = tokenizer.quantizer, None
        if config.codebook_decay is not None:
            what = f"`codebook_decay` is {config.codebook_decay}, but this quantizer has no codes that could be means"
            hint = "set `task.codebook_decay=null`"
            if not (isinstance(quantizer, VectorQuantizer) and quantizer.can_reseed):
                raise ConfigError(what, hint=hint)
            self.moving_codes = MovingCodes(quantizer, decay=config.codebook_decay, engine=engine)
        is_frozen = config.trained == "decoder"
        self._frozen = (tokenizer.encoder, tokenizer.to_codebook, quantizer) if is_frozen else ()
        for part in self._frozen:
            part.requires_grad_(False)
        self.tokenizer = tokenizer.train()
        self.num_labels = tokenizer.image_channels if config.is_of_labels else 0
        self.image_channels = 1 if self.num_labels else tokenizer.image_channels
        self.config = config
        self.loop, self.engine, self.seed = loop, engine, seed
        self.perceptual = perceptual
        modules: dict[str, nn.Module] = {"tokenizer": self.tokenizer}
        self.adversary = None
        if config.discriminator is not None:
            self.adversary = Adversary(config.discriminator, tokenizer.image_channels, engine)
            modules["discriminator"] = self.adversary.network
        parts = (self.adversary, self.moving_codes)
        memory = {name: tensor for part in parts if part for name, tensor in part.memory.items()}
        unused = torch.zeros(tokenizer.codebook_size, dtype=torch.int64, device=engine.device)
        self.state = TrainingState(
            modules,
            config.optimizer,
            engine,
            ema_decay=loop.ema_decay,
            counters={"unused": unused, "unseen": torch.full_like(unused, USAGE_STEPS), **memory},
        )

    def train_step(self, batches: Sequence[Batch], step: int) -> Mapping[str, Tensor]:
        """One step of the tokenizer and, once it is due, of the discriminator.

        Returns:
            The terms of the losses, the adaptive weight, codebook usage and perplexity, gradient norms.
        """
        self.state.zero_grad(len(batches))
        rate = learning_rate(self.config.optimizer, step, self.loop.steps)
        if self.adversary is not None and self.adversary.is_alone(step):
            return self._discriminator_step(self.adversary, batches, step, rate)
        if step == 0 and self.tokenizer.config.autoencoder is None:
            self._choose_colours(torch.cat([batch.images for batch in batches]))
        passes = [self._generator_pass(batch, step, len(batches)) for batch in batches]
        terms, indices, latents = zip(*passes, strict=True)
        measured = {"gradient_norm": self.state.apply("tokenizer", rate), "learning_rate": torch.tensor(rate)}
        if self.adversary is not None and self.adversary.config.is_trained(step):
            if self.adversary.config.reconstruction == "updated":
                for batch, each in zip(batches, terms, strict=True):
                    each |= self._judgement(self.adversary, batch.images, len(batches))
            measured |= self._apply_judgement(self.adversary, means_of(terms), step, rate)
        self.state.update_averages(step)
        measured |= self._count_codes(torch.cat(indices), torch.cat(latents), step)
        return means_of(terms) | measured

    def _discriminator_step(
        self, adversary: Adversary, batches: Sequence[Batch], step: int, rate: float
    ) -> Mapping[str, Tensor]:
        """A step of the discriminator alone."""
        judged = means_of([self._judgement(adversary, batch.images, len(batches)) for batch in batches])
        measured = self._apply_judgement(adversary, judged, step, rate)
        self.state.adjust_loss_scale()
        return judged | measured | {"learning_rate": torch.tensor(rate)}

    def _judgement(self, adversary: Adversary, images: Images, parts: int) -> dict[str, Tensor]:
        """The discriminator's gradients of one micro-batch, from a forward pass of the tokenizer of its own."""
        with torch.no_grad(), self.engine.autocast():
            fake = self._reconstruct(images).images
        return adversary.add_gradients(images, fake, None, parts / self.state.loss_scale)

    def _apply_judgement(
        self, adversary: Adversary, judged: Mapping[str, Tensor], step: int, rate: float
    ) -> dict[str, Tensor]:
        norm = self.state.apply("discriminator", rate * adversary.config.learning_rate_share)
        return {"discriminator_gradient_norm": norm, **adversary.settle(step, judged)}

    def _reconstruct(
        self, images: Images, added: Callable[[Quantized], Latents] | None = None
    ) -> Reconstruction:
        for part in self._frozen:
            part.eval()
        return self.tokenizer(images, added)

    def _seen(self, images: Images) -> Float[Tensor, "b _ H W"]:
        """The images as the tokenizer takes them: label maps with a channel for each label."""
        return one_hot(images, self.num_labels) if self.num_labels else images

    @torch.no_grad()
    def _choose_colours(self, images: Images) -> None:
        """The first colours of a tokenizer of pixels, unless it was given some; the gradient then moves them."""
        codebook = self.tokenizer.get_parameter(CODEBOOK)
        if not codebook.any():
            images = self.engine.gather(images, self.loop.accumulate)
            pixels = images.permute(0, 2, 3, 1).flatten(0, 2)
            codebook.copy_(spread(pixels, len(codebook), torch.Generator().manual_seed(self.seed)))
            if self.state.averages:
                self.state.averages[CODEBOOK].copy_(codebook)

    def _generator_pass(
        self, batch: Batch, step: int, parts: int
    ) -> tuple[dict[str, Tensor], Indices, Latents]:
        """The tokenizer's gradients of one micro-batch; the discriminator's too if it sees the same images.

        Returns:
            Scalars to log, the codes, and the latents that they stand for.
        """
        adversary, decoder, images = self.adversary, self.tokenizer.decoder, self._seen(batch.images)
        added, pull = None, dict[str, Any]()
        if (config := self.config.perturbation) is not None:
            vectors = self.tokenizer.quantizer.codebook_vectors()
            added = partial(perturbation, vectors=vectors, sample=batch.sample, config=config, seed=self.seed)
        if adversary is not None and (weight := adversary.weight(step)):
            loss = partial(adversary.generator_loss, images)
            pull = {"discriminator": adversary.network, "adversarial_loss": loss, "scale": weight}
        with self.engine.autocast():
            output = self._reconstruct(images, added)
            surrogate, terms, logits = generator_objective(
                output.images,
                distance=lambda reconstruction: self._distance(images, reconstruction),
                auxiliary=self.config.codebook_weight * output.quantized.loss,
                last_weight=decoder.last_weight if isinstance(decoder, Decoder) else None,
                loss_scale=self.state.loss_scale,
                average=self.engine.average,
                **pull,
            )
        (surrogate / parts).backward()
        terms["quantizer_loss"] = output.quantized.loss.detach()
        if adversary is not None and adversary.learns_from_the_same(step):
            # The logits that the generator's pass gave serve the discriminator too.
            terms |= adversary.add_gradients(
                images, output.images.detach(), logits, parts / self.state.loss_scale
            )
        return terms, output.quantized.indices, output.latents.detach()

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
        unused, skipped = self.state.counters["unused"], self.state.optimizers["tokenizer"].skipped
        found = indices.flatten()
        counts = torch.zeros_like(unused).scatter_add_(0, found, torch.ones_like(found))  # `bincount` waits
        counts = self.engine.sum(counts) * (1 - skipped.long())
        measured = count_codes(self.state.counters, counts)
        if self.moving_codes is not None:
            self.moving_codes.move(latents, indices, counts, skipped)
        ended = step >= self.config.reseed_until * self.loop.steps
        if self.config.reseed_after is None or ended:
            return measured
        # After a skipped update the latents are NaN too.
        dead = (unused >= self.config.reseed_after) & ~skipped.bool()
        if dead.is_cuda or dead.any():  # a card is not waited for
            self._reseed(dead, latents, step)
        return measured

    def _reseed(self, dead: Bool[Tensor, " K"], latents: Latents, step: int) -> None:
        generator = torch.Generator().manual_seed((self.seed * 0x9E3779B97F4A7C15 + step) % (1 << 63))
        latents = self.engine.gather(latents, self.loop.accumulate)
        self.tokenizer.quantizer.reseed(latents, dead, generator)
        self.state.counters["unused"].masked_fill_(dead, 0)
        if self.moving_codes is None:
            self.state.optimizers["tokenizer"].forget_rows(CODEBOOK, dead)
        else:
            self.moving_codes.reset(dead)
        if self.state.averages:
            codes, average = self.tokenizer.get_parameter(CODEBOOK).detach(), self.state.averages[CODEBOOK]
            average.copy_(torch.where(dead[:, None], codes, average))

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """PSNR (dB, 8 bits, over all pixels together), SSIM, detail, usage and perplexity on held-out images.

        ``detail`` is the energy of the finest details of the reconstructions as a share of the images': below 1 where
        they are blurred, above where a discriminator adds patterns. ``perceptual`` is the distance that the perceptual
        network sees, if the loss has one. Of label maps, mIoU and accuracy stand in the place of all these.
        """
        error, values, agreement = 0.0, 0, LabelAgreement(self.num_labels)
        alike, apart = [torch.empty(0)], [torch.empty(0)]
        energy = torch.zeros(2, dtype=torch.float64)
        counts = torch.zeros(self.tokenizer.codebook_size, dtype=torch.int64)
        with self.state.averaged(), self.engine.autocast():
            for batch in batches:
                images = self._seen(batch.images)
                output = self.tokenizer(images)
                if self.num_labels:
                    agreement.add(images.argmax(dim=1), output.images.argmax(dim=1))
                else:
                    pair = images, output.images
                    ours, theirs = (to_uint8(each.float().cpu()).double().movedim(3, 1) for each in pair)
                    error += float((ours - theirs).square().sum())
                    energy += torch.stack([detail_energy(each) for each in (ours, theirs)])
                    if min(images.shape[2:]) >= WINDOW:
                        alike.append(structural_similarity(ours.float(), theirs.float()))
                    if self.perceptual is not None:
                        apart.append(self.perceptual(*pair).float().cpu())
                values += images.numel()
                counts += torch.bincount(output.quantized.indices.flatten().cpu(), minlength=len(counts))
        if not values:
            return {}
        usage, perplexity = codebook_usage(counts)
        numbers = agreement.numbers() if self.num_labels else {"psnr": psnr(error, values)}
        for name, found in (("ssim", torch.cat(alike)), ("perceptual", torch.cat(apart))):
            if len(found):
                numbers[name] = float(found.double().mean())
        if energy[0] > 0:
            numbers["detail"] = float(energy[1] / energy[0])
        return {**numbers, "usage": float(usage), "perplexity": float(perplexity)}

    @torch.no_grad()
    def pictures(self, batch: Batch, on_progress: OnProgress) -> Mapping[str, Images]:
        """Held-out images above their reconstructions; label maps in colours."""
        images = self._seen(batch.images)
        with self.state.averaged(), self.engine.autocast():
            reconstruction = self.tokenizer(images).images
        both = torch.cat([images, reconstruction.to(images.dtype)])
        return {"reconstructions": in_colours(both.argmax(dim=1)) if self.num_labels else both}
