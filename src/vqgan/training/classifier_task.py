"""Training of a classifier: it learns the images' classes, and later judges what a prior draws."""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqgan.checkpoints.run_folder import Stage
from vqgan.classifier import Classifier
from vqgan.config import Config
from vqgan.training.engine import Engine, put
from vqgan.training.optimizers import OptimizerConfig, TrainingState
from vqgan.training.task import LoopConfig
from vqgan.types import Batch, Images, OnProgress


class ClassifierTaskConfig(Config, frozen=True):
    """How a classifier is trained: by cross-entropy.

    Attributes:
        optimizer: AdamW; only the weights of linear layers and convolutions decay.
    """

    optimizer: OptimizerConfig


class ClassifierTask:
    """One step, the held-out accuracy and the pictures of a classifier's training.

    Args:
        classifier: The model, on the engine's device.
        config: How it is trained.
        loop: Length of the run and decay of the averaged weights.
        engine: Device, precision, processes.
    """

    stage: Stage = "classifier"
    num_labels = 0

    def __init__(
        self, classifier: Classifier, config: ClassifierTaskConfig, *, loop: LoopConfig, engine: Engine
    ) -> None:
        self.classifier = classifier.train()
        self.image_channels = classifier.image_channels
        self.loop = loop
        self.engine = engine
        self.state = TrainingState(
            {"classifier": self.classifier}, config.optimizer, engine, ema_decay=loop.ema_decay
        )

    def train_step(self, batches: Sequence[Batch], step: int) -> Mapping[str, Tensor]:
        """One AdamW step; returns the loss in nats, the accuracy, the gradient norm and the learning rate."""
        means = (self._judged(batch).mean(dim=0) for batch in batches)
        scalars = ({"loss": loss, "accuracy": accuracy} for loss, accuracy in means)
        return self.state.descend(scalars, len(batches), step, self.loop.steps)

    def _judged(self, batch: Batch) -> Float[Tensor, "b 2"]:
        """The loss of each image, and 1 where its class is the most probable one, else 0."""
        classes = put(batch.condition["class"], self.engine.device)
        with self.engine.autocast():
            logits = self.classifier.logits(batch.images).float()
        losses = F.cross_entropy(logits, classes, reduction="none")
        return torch.stack([losses, (logits.argmax(dim=1) == classes).float()], dim=1)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """The held-out loss in nats, and the share of the images whose class is found, with the averaged weights."""
        with self.state.averaged():
            found = [self._judged(batch).cpu() for batch in batches]
        means = torch.cat(found).double().mean(dim=0).tolist() if found else []
        return dict(zip(("loss", "accuracy"), means, strict=False))

    @torch.no_grad()
    def pictures(self, batch: Batch, on_progress: OnProgress) -> Mapping[str, Images]:
        """Held-out images, from the one whose class is most certain to the one that is hardest to recognise."""
        with self.state.averaged():
            return {"classified": batch.images[self._judged(batch)[:, 0].argsort()]}
