"""The networks by whose features sets of images are compared."""

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqgan.cache import cache_folder
from vqgan.checkpoints.codes import tokenizer_digest
from vqgan.checkpoints.format import digest_of
from vqgan.checkpoints.imagenet import IMAGENET, imagenet_labels, load_efficientnet_lite
from vqgan.checkpoints.inception import load_inception
from vqgan.checkpoints.load import load_with_header
from vqgan.checkpoints.pickles import is_pickle
from vqgan.checkpoints.tensors import read_description, read_tensors, write_tensors
from vqgan.classifier import Classifier
from vqgan.errors import CheckpointError, OutputError, require
from vqgan.evaluation.fidelity import Pictures
from vqgan.evaluation.sets import Features
from vqgan.evaluation.texture import latent_features
from vqgan.images import to_float
from vqgan.pretrained import open_pretrained, refusal
from vqgan.tokenizer import Tokenizer
from vqgan.types import Images
from vqgan.version import __version__

logger = logging.getLogger(__name__)

LATENTS = "latents"
"""What those of the tokenizer itself are called."""

_BATCH_SIZE = 64


@dataclass(frozen=True)
class FeatureNetwork:
    """What sets of images are compared by.

    Attributes:
        name: Of the network and its weights: distances by other features are other numbers.
        features: Of a batch of images with values in [-1, 1].
        scores: Of the classes that it knows, before softmax, by its features; None of a network that knows none.
        distance: What the Frechet distance of its features is called: ``fid`` of one network alone.
        device: Where it computes.
        is_kept: Whether the features of real images are worth a place in the cache.
        class_names: Of the classes that it knows; numbers where they have none.
        labels: What a page calls these classes; by default `class_names`.
    """

    name: str
    features: Callable[[Images], Features]
    device: torch.device
    scores: Callable[[Features], Float[Tensor, "b classes"]] | None = None
    distance: str = "frechet"
    is_kept: bool = True
    class_names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @torch.no_grad()
    def of(self, pictures: Pictures) -> Features:
        """The features of pictures, in batches."""
        starts = range(0, len(pictures), _BATCH_SIZE)
        parts = (to_float(pictures[first : first + _BATCH_SIZE]) for first in starts)
        return torch.cat([self.features(part).float().cpu() for part in parts])

    @torch.no_grad()
    def classes(self, features: Features) -> Float[Tensor, "n classes"] | None:
        """The probabilities of the classes, by features, where the network knows any."""
        return None if self.scores is None else self.scores(features.to(self.device)).float().softmax(1).cpu()

    def label(self, probabilities: Float[Tensor, " classes"]) -> str:
        """The most probable class and its probability, in words."""
        best = int(probabilities.argmax())
        names = self.labels or self.class_names or (f"class {best}",) * (best + 1)
        return f"{names[best]}, {100 * float(probabilities[best]):.0f} %"

    def of_real(self, pictures: Pictures) -> Features:
        """As :meth:`of`, but kept in the cache, by the network and the very pixels."""
        if not self.is_kept:
            return self.of(pictures)
        seen = f"{__version__}|{self.name}|{self.device.type}|{pictures.shape}|".encode()
        total = hashlib.sha256(seen)
        total.update(np.ascontiguousarray(pictures).data)
        path = cache_folder() / "features" / f"{total.hexdigest()[:32]}.safetensors"
        known = _read(path)
        if known is not None:
            return known
        found = {"features": self.of(pictures)}
        try:
            write_tensors(path, found, {"digest": digest_of(found)})
        except OutputError as error:
            logger.warning("features are not kept for the next evaluation: %s", error.message)
        return found["features"]


def _read(path: Path) -> Features | None:
    """What was kept there, if anything was and is as it was written."""
    if not path.is_file():
        return None
    found, is_whole = dict[str, Tensor](), False
    with suppress(CheckpointError):
        found = read_tensors(path)
        is_whole = read_description(path)[0].get("digest") == digest_of(found)
    if not is_whole:
        logger.warning("`%s` is damaged: these features are computed again", path)
        return None
    logger.info("features of the real images are read from `%s`", path)
    return found["features"]


def open_features(given: str, tokenizer: Tokenizer) -> FeatureNetwork:
    """The network of a name.

    Args:
        given: ``latents``, those of the tokenizer itself; ``imagenet-lite``, of a small network that knows ImageNet
            (extra `features`); the run or file of a classifier; the file with the weights of FID's Inception; or the
            folder of a network of transformers that pools what it sees, such as DINOv2 or CLIP (extra `clip`).
        tokenizer: Gives latents, and the device.

    Raises:
        ConfigError: If the package of a network is not installed.
        CheckpointError: If the file cannot be read, or holds no such network.
    """
    device, path = tokenizer.weight.device, Path(given)
    if given == LATENTS:
        name = f"latents of {tokenizer_digest(tokenizer)[:12]}"
        return FeatureNetwork(name, latent_features(tokenizer), device, is_kept=False)
    if given == IMAGENET:
        network = load_efficientnet_lite().to(device)
        name = f"{IMAGENET} (EfficientNet-Lite0)"
        numbers = tuple(map(str, range(network.classifier.out_features)))
        called = imagenet_labels()
        return FeatureNetwork(
            name, network.features, device, network.classifier, class_names=numbers, labels=called
        )
    if is_pickle(path):
        inception, digest, published = load_inception(path)
        inception.to(device)
        name = f"Inception {digest[:12]}, images resized as by pytorch-fid"
        distance = "fid" if published else "frechet"
        return FeatureNetwork(name, inception.features, device, inception.scores, distance)
    if (path / "config.json").is_file():
        return _open_pretrained(given, device)
    model, header = load_with_header(path, device=str(device))
    if not isinstance(model, Classifier):
        what = f"`{given}` holds a {header.kind}, expected a classifier"
        raise CheckpointError(
            what, hint="train one: `vqgan train classifier`, or compare by `latents` or `imagenet-lite`"
        )
    name, known = f"classifier {header.digest[:12]}", model.config.class_names
    return FeatureNetwork(name, model.features, device, model.output, class_names=known)


def _open_pretrained(folder: str, device: torch.device) -> FeatureNetwork:
    """A network that pools what it sees, with its own mean, deviation and size, to which whole images are squeezed."""

    def kinds_for(library: Any, config: Any) -> list[str]:
        base = library.MODEL_MAPPING.get(type(config), None)
        return [f"{base.__name__}{end}" for end in ("", "WithProjection")] if isinstance(base, type) else []

    model, processor, _ = open_pretrained(folder, "features", "clip", kinds_for)
    see = getattr(model.to(device), "get_image_features", model)

    def features(images: Images) -> Features:
        channels = images.shape[1]
        require(channels in (1, 3), f"the images have {channels} channels, expected 1 or 3")
        images = images.to(device).expand(-1, 3, -1, -1)
        images = F.interpolate(images, size, mode=mode, antialias=True).clamp(-1, 1)
        found = see(pixel_values=((images + 1) / 2 - mean) / deviation)
        pooled = found.get("image_embeds", found.get("pooler_output"))
        if pooled is None:
            raise ValueError(f"a {type(model).__name__} does not pool what it sees")
        return pooled.flatten(1)

    try:
        values = processor.image_mean, processor.image_std
        mean, deviation = (torch.tensor(each, device=device)[:, None, None] for each in values)
        given = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
        size = tuple(given.get(side, given.get("shortest_edge")) for side in ("height", "width"))
        mode = "bilinear" if processor.resample == 2 else "bicubic"  # Pillow's number
        features(torch.zeros(1, 3, *size))
    except (ValueError, TypeError, RuntimeError, AttributeError) as error:
        hint = "give a network that pools what it sees in pictures, such as DINOv2 or CLIP"
        raise refusal(folder, "for features", error, hint) from error
    digest = digest_of({**model.state_dict(), "mean": mean, "deviation": deviation})
    name = f"{type(model).__name__} {digest[:12]}, images resized to {size[0]}x{size[1]}, {mode}"
    return FeatureNetwork(name, features, device)
