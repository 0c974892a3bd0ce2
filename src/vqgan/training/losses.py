"""The losses of the tokenizer's training, as free functions.

Means run over batch, channels and positions, so that a loss does not depend on batch size or resolution.
"""

from collections.abc import Callable
from typing import Literal, assert_never

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqgan.types import Images

Scalar = Float[Tensor, ""]
PatchLogits = Float[Tensor, "b 1 i j"]

PixelLoss = Literal["l1", "l2", "l1+l2"]
AdversarialLoss = Literal["hinge", "vanilla"]


def pixel_loss(
    images: Images,
    reconstruction: Images,
    *,
    kind: PixelLoss,
    hard_share: float = 0.0,
    hard_kind: PixelLoss = "l2",
) -> Scalar:
    """The mean difference of the pixels, and on top that of the worst pixels of each image.

    A small moving figure is a fraction of a percent of a picture: its error vanishes in the mean over all
    pixels, but not in the mean over the worst ones.

    Args:
        images: What should come out, in [-1, 1].
        reconstruction: What came out.
        kind: Absolute difference, its square, or the sum of both.
        hard_share: Share of each image's pixels, those with the largest differences (averaged over the
            channels), whose mean is added once more; 0 adds nothing.
        hard_kind: Which difference counts for the worst pixels.

    Example:
        >>> import torch
        >>> images, zeros = torch.tensor([0.0, 0.0, 0.0, 2.0]).view(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        >>> pixel_loss(images, zeros, kind="l1").item()
        0.5
        >>> pixel_loss(images, zeros, kind="l1", hard_share=0.25).item()
        4.5
    """
    difference = reconstruction - images
    total = _error(difference, kind).mean()
    if hard_share > 0:
        pixels = _error(difference, hard_kind).mean(dim=1).flatten(1)
        count = max(1, round(hard_share * pixels.shape[1]))
        total = total + pixels.topk(count, dim=1, sorted=False).values.mean()
    return total


def _error(difference: Tensor, kind: PixelLoss) -> Tensor:
    match kind:
        case "l1":
            return difference.abs()
        case "l2":
            return difference.square()
        case "l1+l2":
            return difference.abs() + difference.square()
        case _:
            assert_never(kind)


def generator_loss(fake: PatchLogits) -> Scalar:
    """What the tokenizer wants: high logits for its reconstructions."""
    return -fake.mean()


def hinge_loss(real: PatchLogits, fake: PatchLogits) -> Scalar:
    """The discriminator's loss that stops pushing once a logit is beyond 1 on the right side."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def vanilla_loss(real: PatchLogits, fake: PatchLogits) -> Scalar:
    """The discriminator's cross-entropy (Goodfellow et al. 2014)."""
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def discriminator_loss(kind: AdversarialLoss) -> Callable[[PatchLogits, PatchLogits], Scalar]:
    """The function that gives the discriminator's loss from its logits for real and generated images."""
    match kind:
        case "hinge":
            return hinge_loss
        case "vanilla":
            return vanilla_loss
        case _:
            assert_never(kind)


def adaptive_weight(
    reconstruction_gradient: Tensor,
    adversarial_gradient: Tensor,
    *,
    scale: float,
    delta: float = 1e-4,
    largest: float = 1e4,
) -> Scalar:
    """The weight that makes the adversarial loss pull as hard as the other (eq. 7, Esser et al. 2021).

    Args:
        reconstruction_gradient: Gradient of the reconstruction loss at the decoder's last weight.
        adversarial_gradient: Gradient of the generator's adversarial loss there.
        scale: Multiplies the ratio of the norms.
        delta: Added to the denominator.
        largest: Upper bound of the ratio.

    Returns:
        The weight, without gradient.

    Example:
        >>> import torch
        >>> adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([1.0]), scale=0.5, delta=0.0).item()
        2.5
    """
    ratio = reconstruction_gradient.norm() / (adversarial_gradient.norm() + delta)
    return ratio.clamp(0.0, largest).detach() * scale


def warm_up_factor(step: int, start: int) -> float:
    """0 before ``step`` reaches ``start``, 1 from then on: the adversary joins late.

    Example:
        >>> [warm_up_factor(step, 2) for step in range(4)]
        [0.0, 0.0, 1.0, 1.0]
    """
    return 0.0 if step < start else 1.0
