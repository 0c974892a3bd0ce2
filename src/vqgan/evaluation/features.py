"""The networks by whose features sets of images are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.checkpoints.codes import tokenizer_digest
from vqgan.checkpoints.imagenet import IMAGENET, load_efficientnet_lite
from vqgan.checkpoints.load import load_with_header
from vqgan.classifier import Classifier
from vqgan.errors import CheckpointError
from vqgan.evaluation.fidelity import Pictures
from vqgan.evaluation.sets import Features
from vqgan.evaluation.texture import latent_features
from vqgan.images import to_float
from vqgan.tokenizer import Tokenizer
from vqgan.types import Images

_BATCH_SIZE = 64


@dataclass(frozen=True)
class FeatureNetwork:
    """What sets of images are compared by.

    Attributes:
        name: Of the network and its weights: distances by other features are other numbers.
        features: Of a batch of images with values in [-1, 1].
        probabilities: Of the classes that it knows; None of a network that knows none.
    """

    name: str
    features: Callable[[Images], Features]
    probabilities: Callable[[Images], Float[Tensor, "b classes"]] | None = None

    @torch.no_grad()
    def of(self, pictures: Pictures) -> Features:
        """The features of pictures, in batches."""
        return _in_batches(self.features, pictures)

    @torch.no_grad()
    def classes(self, pictures: Pictures) -> Float[Tensor, "n classes"] | None:
        """The probabilities of the classes, in batches, where the network knows any."""
        return None if self.probabilities is None else _in_batches(self.probabilities, pictures)


def _in_batches(function: Callable[[Images], Tensor], pictures: Pictures) -> Tensor:
    starts = range(0, len(pictures), _BATCH_SIZE)
    return torch.cat(
        [function(to_float(pictures[each : each + _BATCH_SIZE])).float().cpu() for each in starts]
    )


def open_features(given: str, tokenizer: Tokenizer) -> FeatureNetwork:
    """The network of a name.

    Args:
        given: ``latents``, those of the tokenizer itself; ``imagenet-lite``, of a small network that knows ImageNet
            (extra `features`); or the run or file of a classifier.
        tokenizer: Gives latents, and the device.

    Raises:
        ConfigError: If the package of a network is not installed.
        CheckpointError: If the file cannot be read, or holds no classifier.
    """
    if given == "latents":
        return FeatureNetwork(f"latents of {tokenizer_digest(tokenizer)[:12]}", latent_features(tokenizer))
    if given == IMAGENET:
        network = load_efficientnet_lite().to(tokenizer.weight.device)
        return FeatureNetwork(f"{IMAGENET} (EfficientNet-Lite0)", network.features, network)
    model, header = load_with_header(Path(given), device=str(tokenizer.weight.device))
    if not isinstance(model, Classifier):
        what = f"`{given}` holds a {header.kind}, expected a classifier"
        raise CheckpointError(
            what, hint="train one: `vqgan train classifier`, or compare by `latents` or `imagenet-lite`"
        )
    return FeatureNetwork(f"classifier {header.digest[:12]}", model.features, model)
