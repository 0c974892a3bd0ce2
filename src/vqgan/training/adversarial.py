"""The generator's side of adversarial training, with every expensive network passed through once.

Written down directly, the generator's loss with its adaptive weight passes back through the perceptual
network and the discriminator twice each: once for the norm at the last weight, once for the training. But both
losses depend on the tokenizer through the reconstruction alone. So their gradients are taken *at the image*,
the norms come from pushing these through only the last convolution, and one backward pass from the image does
the rest. The discriminator's forward pass on the reconstruction serves its own loss as well.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vqgan.training.losses import PatchLogits, Scalar, adaptive_weight, generator_loss
from vqgan.types import Images


@dataclass(frozen=True)
class Adversary:
    """What the reconstructions are judged by, and how much that counts.

    Attributes:
        judge: The discriminator.
        scale: Multiplies the adaptive weight.
        factor: Multiplies the weighted loss but not the recorded weight; 0 records without effect.
    """

    judge: Callable[[Images], PatchLogits]
    scale: float
    factor: float = 1.0


@dataclass(frozen=True)
class GeneratorObjective:
    """The generator's loss, ready for its backward pass.

    Attributes:
        surrogate: Its ``backward()`` adds the gradient of ``total`` to the tokenizer's parameters, and to
            nothing else. Its value means nothing.
        total: The value of the whole loss, without gradient.
        reconstruction: The value of the reconstruction loss, without gradient.
        adversarial: The value of the generator's adversarial loss, without gradient; 0 without adversary.
        weight: The adaptive weight, without gradient; 0 without adversary.
        fake: The discriminator's logits for the reconstruction. Their graph leads to the discriminator's
            parameters and not to the tokenizer, so that the discriminator's loss can use them:
            ``loss.backward(inputs=list(discriminator.parameters()))``. None without adversary.
    """

    surrogate: Scalar
    total: Scalar
    reconstruction: Scalar
    adversarial: Scalar
    weight: Scalar
    fake: PatchLogits | None


def generator_objective(
    images: Images,
    *,
    distance: Callable[[Images], Scalar],
    auxiliary: Scalar,
    last_weight: Tensor,
    adversary: Adversary | None,
) -> GeneratorObjective:
    """The generator's loss: reconstruction + quantizer + adaptively weighted adversary.

    Args:
        images: The reconstruction, with its graph.
        distance: The reconstruction loss of such images: pixels and perceptual.
        auxiliary: The quantizer's loss, with its graph; counted as it is.
        last_weight: Weight of the convolution that gave ``images``.
        adversary: None while it has not joined: then no time is spent on it.
    """
    # At least fp32: under autocast the image may come in half precision, too coarse for its gradients.
    leaf = images.detach().to(torch.promote_types(images.dtype, torch.float32)).requires_grad_()
    reconstruction = distance(leaf)
    (gradient,) = torch.autograd.grad(reconstruction, leaf)
    adversarial = weight = reconstruction.new_zeros(())
    total = reconstruction.detach() + auxiliary.detach()
    fake = None
    if adversary is not None:
        fake = adversary.judge(leaf)
        adversarial = generator_loss(fake)
        (pull,) = torch.autograd.grad(adversarial, leaf, retain_graph=True)
        weight = adaptive_weight(
            _at_last_weight(images, last_weight, gradient),
            _at_last_weight(images, last_weight, pull),
            scale=adversary.scale,
        )
        gradient = gradient + weight * adversary.factor * pull
        total = total + weight * adversary.factor * adversarial.detach()
    return GeneratorObjective(
        surrogate=(images * gradient).sum() + auxiliary,
        total=total,
        reconstruction=reconstruction.detach(),
        adversarial=adversarial.detach(),
        weight=weight,
        fake=fake,
    )


def _at_last_weight(images: Tensor, last_weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient at the last weight that belongs to ``gradient`` at the images: one convolution back."""
    (result,) = torch.autograd.grad(
        images, last_weight, grad_outputs=gradient.to(images.dtype), retain_graph=True
    )
    return result
