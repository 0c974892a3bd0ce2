"""The tokenizer's opponent: a discriminator that learns to tell reconstructions from images."""

from typing import Literal

from torch import Tensor

from vqgan.config import Config, require
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.training.adversarial import Adversary
from vqgan.training.engine import Engine
from vqgan.training.losses import AdversarialLoss, PatchLogits, discriminator_loss, warm_up_factor
from vqgan.types import Images


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
        for name in ("base_channels", "num_layers"):
            require(getattr(self, name) >= 1, f"`{name}` is {getattr(self, name)}, expected at least 1")
        for name in ("weight", "learning_rate_share"):
            require(getattr(self, name) > 0, f"`{name}` is {getattr(self, name)}, expected a number above 0")
        require(self.start >= 0, f"`start` is {self.start}, expected at least 0")
        first = self.discriminator_start
        require(
            first is None or 0 <= first <= self.start,
            f"`discriminator_start` is {first}, expected 0 to `start` = {self.start}",
        )


class Opponent:
    """When the discriminator plays, and what it learns from a micro-batch.

    Args:
        network: The discriminator, on the engine's device.
        config: Its part in the training.
        engine: Precision.
    """

    def __init__(self, network: PatchDiscriminator, config: AdversaryConfig, engine: Engine) -> None:
        self.network = network.train()
        self.config = config
        self.engine = engine

    def is_trained(self, step: int) -> bool:
        """Whether the discriminator learns in this step."""
        first = self.config.discriminator_start
        return step >= (self.config.start if first is None else first)

    def adversary(self, step: int) -> Adversary | None:
        """What the tokenizer feels of it in this step; None while that is nothing."""
        if not warm_up_factor(step, self.config.start):
            return None
        return Adversary(judge=self.network, scale=self.config.weight)

    def learn(
        self, images: Images, fake: Images, logits: PatchLogits | None, *, parts: int
    ) -> dict[str, Tensor]:
        """Adds the discriminator's gradients of one micro-batch; nothing reaches the tokenizer.

        Args:
            images: What is real.
            fake: What is not, without gradient.
            logits: Its logits for ``fake`` where they are known already, with their graph.
            parts: Micro-batches of the step.

        Returns:
            The loss and the mean logits of both kinds.
        """
        with self.engine.autocast():
            real = self.network(images)
            logits = self.network(fake) if logits is None else logits
            loss = discriminator_loss(self.config.loss)(real, logits)
        (loss / parts).backward(inputs=list(self.network.parameters()))
        return {
            "discriminator_loss": loss.detach(),
            "logits_real": real.detach().mean(),
            "logits_fake": logits.detach().mean(),
        }
