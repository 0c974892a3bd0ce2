"""The discriminator's side of the tokenizer's training: its loss, what steadies it, and when it counts."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vqgan.config import Config, Count, Natural, Positive, Weight
from vqgan.errors import require
from vqgan.nn.discriminator import DiscriminatorNorm, PatchDiscriminator
from vqgan.training.engine import Engine
from vqgan.training.losses import AdversarialLoss, PatchLogits, Scalar, discriminator_loss, lecam_loss
from vqgan.types import Images

ANCHOR_DECAY = 0.99
"""Of the running means of the logits, which LeCam regularisation holds on to."""

WINDOW, RIGHT = 50, 0.75
"""Alone, the discriminator holds its own once this share of its logits over so many steps is on the right side."""

RECOVERY_STEPS = 1000
"""The most steps that it is trained alone where a file to start from has none; at most a quarter of the run."""


class DiscriminatorConfig(Config, frozen=True):
    """The discriminator and its part in the loss.

    Attributes:
        loss: ``"hinge"``, ``"vanilla"``, or ``"relativistic"``: each patch against that of its own image.
        weight: Multiplies the adaptive weight.
        start: Step from which the tokenizer is trained against the discriminator.
        discriminator_start: Step from which the discriminator is trained; by default ``start``.
        ramp_steps: Steps over which its weight then rises to the whole.
        recover_steps: From ``start`` only the discriminator is trained, until 75 % of its logits over 50 steps are on
            the right side, or for so many steps; both count from there. None: 0, but where training starts from a file
            without a discriminator 1,000 (at most a quarter of the run) from step 0, with as many ``ramp_steps``.
        base_channels: Width of its first convolution.
        num_layers: Its halvings of the resolution.
        norm: ``"batch"``, ``"spectral"`` (each convolution divided by its largest singular value), or ``"none"``.
        learning_rate_share: Its learning rate as a share of the tokenizer's.
        reconstruction: ``"same"``: the discriminator sees the reconstruction of the tokenizer's forward pass.
            ``"updated"``: it sees that of the updated tokenizer, one more forward pass, as published models were
            trained.
        r1: Weight of the penalty on its slope at images; it costs a pass through the gradient.
        r2: Weight of that at reconstructions.
        lecam: Weight of LeCam regularisation, see :func:`~vqgan.training.losses.lecam_loss`.
    """

    loss: AdversarialLoss = "hinge"
    weight: Positive = 0.8
    start: Natural = 0
    discriminator_start: int | None = None
    ramp_steps: Natural = 0
    recover_steps: Natural | None = None
    base_channels: Count = 64
    num_layers: Count = 3
    norm: DiscriminatorNorm = "batch"
    learning_rate_share: Positive = 1.0
    reconstruction: Literal["same", "updated"] = "same"
    r1: Weight = 0.0
    r2: Weight = 0.0
    lecam: Weight = 0.0

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


class Adversary:
    """A discriminator in training.

    Args:
        config: Its sizes, and how it is trained.
        image_channels: Those of the images that it judges.
        engine: Device, precision and processes.

    Attributes:
        network: The discriminator, with weights from PyTorch's own generator.
        memory: What it remembers from step to step, a part of the run's state.
    """

    def __init__(self, config: DiscriminatorConfig, image_channels: int, engine: Engine) -> None:
        sizes = {name: getattr(config, name) for name in ("base_channels", "num_layers", "norm")}
        self.network = PatchDiscriminator(image_channels=image_channels, **sizes).to(engine.device)
        self.config, self.engine = config, engine
        self.memory: dict[str, Tensor] = {}
        if config.lecam:
            self.memory["anchors"] = torch.zeros(2, device=engine.device)
        if config.recover_steps:
            self.memory |= {"right": torch.zeros(WINDOW), "counts_from": torch.tensor(-1)}

    def is_alone(self, step: int) -> bool:
        """Whether only the discriminator is trained in this step."""
        return step >= self.config.start and self._counts_from < 0

    def learns_from_the_same(self, step: int) -> bool:
        """Whether the discriminator learns in this step from the reconstructions that the tokenizer learns from."""
        return self.config.reconstruction == "same" and self.config.is_trained(step)

    def weight(self, step: int) -> float:
        """What the adaptive weight is multiplied by in this step; 0 while the tokenizer has no adversary."""
        since = step - self._counts_from
        if self._counts_from < 0 or since < 0:
            return 0.0
        return self.config.weight * min(1.0, (since + 1) / max(1, self.config.ramp_steps))

    @property
    def _counts_from(self) -> int:
        return int(self.memory["counts_from"]) if "counts_from" in self.memory else self.config.start

    def generator_loss(self, images: Images, fake: PatchLogits) -> Scalar:
        """What the tokenizer minimizes, from the logits for its reconstructions of the images."""
        if self.config.loss != "relativistic":
            return -fake.mean()
        with torch.no_grad(), self.engine.autocast():
            real = self.network(images)
        return F.softplus(real - fake).mean()

    def add_gradients(
        self, images: Images, fake: Images, logits: PatchLogits | None, parts: Scalar | float
    ) -> dict[str, Tensor]:
        """Adds the discriminator's gradients of one of ``parts`` micro-batches; none reach the tokenizer.

        Args:
            images: What is real.
            fake: Their reconstructions.
            logits: Those for ``fake``, with their graph, where they are known already.
            parts: Micro-batches of the step, by the loss scale.

        Returns:
            Scalars to log; of the logits also how many are on the right side: of 0, or of that for the same patch
            where only differences count (``relativistic``).
        """
        config = self.config
        with self.engine.autocast():
            real, steepness = self._judged(images, config.r1)
            if logits is None or config.r2:
                logits, other = self._judged(fake, config.r2)
                steepness = steepness + other
            loss = discriminator_loss(real, logits, kind=config.loss) + steepness
            if config.lecam:
                loss = loss + config.lecam * lecam_loss(real, logits, *self.memory["anchors"])
        (loss / parts).backward(inputs=list(self.network.parameters()))
        real, logits = real.detach(), logits.detach()
        bounds = (logits, real) if config.loss == "relativistic" else (0, 0)
        return {
            "discriminator_loss": loss.detach(),
            "logits_real": real.mean(),
            "logits_fake": logits.mean(),
            "right_real": (real > bounds[0]).float().mean(),
            "right_fake": (logits < bounds[1]).float().mean(),
        }

    def _judged(self, images: Images, penalty: float) -> tuple[PatchLogits, Scalar]:
        """Logits, and half their squared slope for each patch, weighted (R1, R2: Mescheder et al. 2018).

        Where the slope is penalized, all is in at least fp32: half precision is too coarse for it.
        """
        if not penalty:
            return self.network(images), torch.zeros((), device=images.device)
        with torch.autocast(images.device.type, enabled=False):
            leaf = images.detach().to(torch.promote_types(images.dtype, torch.float32)).requires_grad_()
            # Not by a call: code that was compiled cannot be differentiated twice.
            logits = PatchDiscriminator.forward(self.network, leaf)
            (slope,) = torch.autograd.grad(logits.sum(), leaf, create_graph=True)
            return logits, 0.5 * penalty * slope.square().sum() / logits.numel()

    @torch.no_grad()
    def settle(self, step: int, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Takes note of the logits of a step, the means over its micro-batches; returns scalars to log."""
        self.network.refresh()
        if not self.memory:
            return {}
        names = ("logits_real", "logits_fake", "right_real", "right_fake")
        means = self.engine.average(torch.stack([terms[name].float() for name in names]))
        if "anchors" in self.memory:
            anchors = self.memory["anchors"]
            anchors.lerp_(torch.where(means[:2].isfinite(), means[:2].to(anchors), anchors), 1 - ANCHOR_DECAY)
        if not self.is_alone(step):
            return {}
        self.memory["right"][step % WINDOW] = means[2:].mean().cpu()
        right, steps = self.memory["right"].mean(), step + 1 - self.config.start
        if right >= RIGHT or steps >= (self.config.recover_steps or 0):
            self.memory["counts_from"].fill_(step + 1)
        return {"right_recently": right}
