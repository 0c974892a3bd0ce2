"""Training of a classifier: it learns the images' classes, and later judges what a prior draws."""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vqgan.checkpoints.run_folder import RunFolder, Stage
from vqgan.classifier import Classifier
from vqgan.config import Config
from vqgan.training.engine import Engine
from vqgan.training.optimizers import OptimizerConfig, TrainingState, learning_rate
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
        self.config = config
        self.loop = loop
        self.engine = engine
        modules: dict[str, torch.nn.Module] = {"classifier": self.classifier}
        self.state = TrainingState(modules, config.optimizer, engine, ema_decay=loop.ema_decay)

    def train_step(self, batches: Sequence[Batch], step: int) -> Mapping[str, Tensor]:
        """One AdamW step; returns the loss in nats, the accuracy, the gradient norm and the learning rate."""
        self.state.zero_grad()
        losses, hits = [], []
        for batch in batches:
            loss, right = self._judged(batch)
            (loss.mean() / len(batches)).backward()
            losses.append(loss.detach().mean())
            hits.append(right.mean())
        rate = learning_rate(self.config.optimizer, step, self.loop.steps)
        norm = self.state.apply("classifier", rate)
        self.state.update_averages(step)
        return {
            "loss": torch.stack(losses).mean(),
            "accuracy": torch.stack(hits).mean(),
            "gradient_norm": norm,
            "learning_rate": torch.tensor(rate),
        }

    def _judged(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of each image, and 1 where its class is the most probable one, else 0."""
        classes = batch.condition["class"]
        with self.engine.autocast():
            logits = self.classifier.logits(batch.images)
        right = (logits.argmax(dim=1) == classes).float()
        return F.cross_entropy(logits.float(), classes, reduction="none"), right

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """The held-out loss in nats, and the share of the images whose class is found, with the averaged weights."""
        with self.state.averaged():
            found = [torch.stack(self._judged(batch), dim=1).cpu() for batch in batches]
        if not found:
            return {}
        loss, accuracy = torch.cat(found).double().mean(dim=0).tolist()
        return {"loss": loss, "accuracy": accuracy}

    @torch.no_grad()
    def pictures(self, batch: Batch, on_progress: OnProgress) -> Mapping[str, Images]:
        """Held-out images, from the one whose class is most certain to the one that is hardest to recognise."""
        with self.state.averaged():
            losses, _ = self._judged(batch)
        return {"classified": batch.images[losses.argsort()]}

    def export(self, folder: RunFolder, step: int) -> None:
        """Writes ``classifier.safetensors``, with the averaged weights if there are any."""
        self.state.export(self.classifier, folder.weights("classifier"), step)
