"""The losses of the tokenizer's training, and the generator's side of the adversarial training.

Means run over batch, channels and positions, so that a loss does not depend on batch size or resolution.
"""

from collections.abc import Callable
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqgan.types import Images

Scalar = Float[Tensor, ""]
PatchLogits = Float[Tensor, "b 1 i j"]

PixelLoss = Literal["l1", "l2", "l1+l2"]
LabelLoss = Literal["cross_entropy", "binary"]
AdversarialLoss = Literal["hinge", "vanilla", "relativistic"]

Distance = Callable[[Images, Images], Float[Tensor, " b"]]
"""How different each pair of images looks."""

_ERRORS: dict[PixelLoss, Callable[[Tensor], Tensor]] = {
    "l1": torch.abs,
    "l2": torch.square,
    "l1+l2": lambda difference: difference.abs() + difference.square(),
}

MAX_RATIO = 1e4
"""Upper bound of the ratio of gradient norms in the adaptive weight."""


def pixel_loss(
    images: Images,
    reconstruction: Images,
    *,
    kind: PixelLoss,
    hard_share: float = 0.0,
    hard_kind: PixelLoss = "l2",
) -> Scalar:
    """The mean difference of the pixels, plus that of the worst pixels of each image.

    A small moving figure is a fraction of a percent of a picture: its error vanishes in the mean over all
    pixels, but not in the mean over the worst ones.

    Args:
        images: The targets, in [-1, 1].
        reconstruction: What the tokenizer made of them.
        kind: Absolute difference, its square, or the sum of both.
        hard_share: Share of each image's pixels, those with the largest differences (averaged over the
            channels), whose mean is added; 0 adds nothing.
        hard_kind: Which difference counts for the worst pixels.

    Example:
        >>> images, zeros = torch.tensor([0.0, 0.0, 0.0, 2.0]).view(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        >>> pixel_loss(images, zeros, kind="l1").item()
        0.5
        >>> pixel_loss(images, zeros, kind="l1", hard_share=0.25).item()
        4.5
    """
    difference = reconstruction - images
    total = _ERRORS[kind](difference).mean()
    if hard_share > 0:
        pixels = _ERRORS[hard_kind](difference).mean(dim=1).flatten(1)
        count = max(1, round(hard_share * pixels.shape[1]))
        total = total + pixels.topk(count, dim=1, sorted=False).values.mean()
    return total


def discriminator_loss(real: PatchLogits, fake: PatchLogits, *, kind: AdversarialLoss) -> Scalar:
    """What the discriminator minimizes, from its logits for real images and for reconstructions.

    ``hinge`` stops pushing once a logit is beyond 1 on the right side; ``vanilla`` is the cross-entropy
    (Goodfellow et al. 2014); ``relativistic`` is that of the difference of the logits for an image and for its own
    reconstruction (RpGAN, Jolicoeur-Martineau 2019).
    """
    match kind:
        case "hinge":
            return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        case "vanilla":
            return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
        case "relativistic":
            return F.softplus(fake - real).mean()
        case _:
            assert_never(kind)


def lecam_loss(real: PatchLogits, fake: PatchLogits, real_anchor: Scalar, fake_anchor: Scalar) -> Scalar:
    """Keeps logits from running away from the other side's recent mean (LeCam, eq. 3, Tseng et al. 2021).

    Example:
        >>> logit = torch.ones(1, 1, 1, 1)
        >>> lecam_loss(2 * logit, -logit, torch.tensor(1.0), torch.tensor(-1.0)).item()
        13.0
    """
    return F.relu(real - fake_anchor).square().mean() + F.relu(real_anchor - fake).square().mean()


def adaptive_weight(
    reconstruction_gradient: Tensor, adversarial_gradient: Tensor, *, scale: float, delta: float = 1e-4
) -> Scalar:
    """The weight that makes the adversarial loss pull as hard as the other (eq. 7, Esser et al. 2021).

    Args:
        reconstruction_gradient: Gradient of the reconstruction loss at the decoder's last weight.
        adversarial_gradient: Gradient of the generator's adversarial loss there.
        scale: Multiplies the ratio of the norms.
        delta: Added to the denominator.

    Returns:
        The weight, without gradient.

    Example:
        >>> adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([1.0]), scale=0.5, delta=0.0).item()
        2.5
    """
    ratio = reconstruction_gradient.norm() / (adversarial_gradient.norm() + delta)
    return ratio.clamp(0.0, MAX_RATIO).detach() * scale


def generator_objective(
    images: Images,
    *,
    distance: Callable[[Images], Scalar],
    auxiliary: Scalar,
    last_weight: Tensor | None,
    discriminator: Callable[[Images], PatchLogits] | None = None,
    adversarial_loss: Callable[[PatchLogits], Scalar] = lambda fake: -fake.mean(),
    scale: float = 1.0,
    loss_scale: Scalar | float = 1.0,
    average: Callable[[Tensor], Tensor] = lambda gradient: gradient,
) -> tuple[Scalar, dict[str, Scalar], PatchLogits | None]:
    """The generator's loss: reconstruction + quantizer + adaptively weighted adversarial loss.

    Every expensive network is passed through once. Written down directly, this loss passes back through the perceptual
    network and the discriminator twice each: once for the norm at the last weight, once for the training. But both
    losses depend on the tokenizer only through the reconstruction. So their gradients are taken *at the image*, the
    norms come from pushing these through only the last convolution, and one backward pass from the image does the rest.

    Args:
        images: The reconstruction, with its graph.
        distance: The reconstruction loss of such images: pixels and perceptual.
        auxiliary: The quantizer's loss, with its graph; added unweighted.
        last_weight: Weight of the convolution that gave ``images``; only a discriminator needs it.
        discriminator: None while the tokenizer is not trained against it: then no time is spent on it.
        adversarial_loss: Of its logits.
        scale: Multiplies the adaptive weight.
        loss_scale: Multiplies all gradients, so that half precision holds them; no value depends on it.
        average: Gives the mean over all processes of a gradient at the last weight.

    Returns:
        A surrogate loss: its ``backward()`` adds the gradient of the whole loss to the tokenizer's parameters, times
        ``loss_scale``, and to nothing else; its value means nothing. The values to log, without gradient: ``loss``,
        ``reconstruction_loss``, ``adversarial_loss`` and ``adaptive_weight`` (both 0 without discriminator). And the
        discriminator's logits, if there is one: their graph leads to its parameters and not to the tokenizer, so that
        its loss can use them.
    """
    # At least fp32: under autocast the image may come in half precision, too coarse for its gradients.
    leaf = images.detach().to(torch.promote_types(images.dtype, torch.float32)).requires_grad_()
    reconstruction = distance(leaf)
    (gradient,) = torch.autograd.grad(reconstruction * loss_scale, leaf)
    adversarial = weight = reconstruction.new_zeros(())
    total, fake = reconstruction.detach() + auxiliary.detach(), None
    if discriminator is not None:
        assert last_weight is not None, "the two losses are balanced there"
        fake = discriminator(leaf)
        adversarial = adversarial_loss(fake)
        (pull,) = torch.autograd.grad(adversarial * loss_scale, leaf, retain_graph=True)
        both = (average(_at_last_weight(images, last_weight, each)) / loss_scale for each in (gradient, pull))
        weight = adaptive_weight(*both, scale=scale)
        gradient = gradient + weight * pull
        total = total + weight * adversarial.detach()
    values = {
        "loss": total,
        "reconstruction_loss": reconstruction.detach(),
        "adversarial_loss": adversarial.detach(),
        "adaptive_weight": weight,
    }
    return (images * gradient).sum() + auxiliary * loss_scale, values, fake


def _at_last_weight(images: Tensor, last_weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient at the last weight that belongs to ``gradient`` at the images: one convolution back."""
    (result,) = torch.autograd.grad(
        images, last_weight, grad_outputs=gradient.to(images.dtype), retain_graph=True
    )
    return result
