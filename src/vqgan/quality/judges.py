"""By what pictures are judged: features, what these are compared with, LPIPS, and what reads conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vqgan.checkpoints.format import digest_of
from vqgan.checkpoints.perceptual import known_perceptual
from vqgan.errors import require
from vqgan.evaluation.features import FeatureNetwork, open_features
from vqgan.evaluation.numbers import Conventions, Number
from vqgan.evaluation.sets import Features, Gaussian, OtherFeatures, frechet_distance
from vqgan.evaluation.statistics import Statistics, read_statistics
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.quality.readers import Reader, open_readers
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer

_RARE = 2
"""Images for each feature below which the Frechet distance is too large by more than noise."""


@dataclass(frozen=True)
class Judges:
    """What judges pictures.

    Attributes:
        network: Whose features are compared.
        reference: To which the Frechet distance is taken, instead of the measured images.
        lpips: With its weights, if these are known.
        named: What reads conditions, by name, where it was named.
        readers: All that read conditions, by name.
        notes: Which conditions nothing reads.
    """

    network: FeatureNetwork
    reference: Statistics | None
    lpips: PerceptualNetwork | None
    named: Mapping[str, str]
    readers: Mapping[str, Reader]
    notes: Sequence[str]

    def conventions(self) -> Conventions:
        """What the numbers depend on here."""
        found: dict[str, Any] = {"features": self.network.name}
        if self.reference is not None:
            found["reference"] = f"statistics {self.reference.digest[:12]}"
        if self.lpips is not None:
            found["lpips"] = f"VGG16 {digest_of(self.lpips.state_dict())[:12]}"
        if self.named:
            found["judges"] = dict(self.named)
        return found

    def distances(self, sets: dict[str, Features], real: OtherFeatures) -> dict[str, Number]:
        """The Frechet distance of each set, by its name behind that of the distance."""
        known = real if self.reference is None else self.reference.gaussian
        return {f"{self.network.distance}{name}": distance(each, known) for name, each in sets.items()}


def distance(features: Features, others: OtherFeatures | Gaussian, note: str = "") -> Number:
    """The Frechet distance, which says where there are too few images for it."""
    count = min(len(each) for each in (features, others) if isinstance(each, Tensor))
    if count < _RARE * features.shape[1]:
        what = f"too large: {count} images for {features.shape[1]} features; compare equal numbers only"
        note = f"{note}; {what}" if note else what
    return Number(frechet_distance(features, others), count, note=note)


def open_judges(
    features: str,
    reference: str | Path | None,
    lpips: str | Path | None,
    judge: Mapping[str, str],
    *,
    model: Synthesizer | Tokenizer,
    size: tuple[int, int],
) -> Judges:
    """What judges images of a size; arguments and errors as of :func:`vqgan.quality.evaluate`."""
    tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
    network = open_features(features, tokenizer)
    readers, notes = open_readers(model, network, judge, size)
    known = None if reference is None else read_statistics(Path(reference))
    if known is not None:
        black = np.zeros((1, *size, tokenizer.image_channels), np.uint8)
        count, wanted = network.of(black).shape[1], len(known.gaussian.mean)
        what = f"`{reference}` has statistics of {wanted} features, `{features}` gives {count}"
        require(count == wanted, what, hint="give the network of the file; FID's has 2048: `--features FILE`")
    perceptual = known_perceptual(str(lpips or ""))
    lpips_network = perceptual and perceptual.to(tokenizer.weight.device)
    return Judges(network, known, lpips_network, judge, readers, notes)
