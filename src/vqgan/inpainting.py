"""In-painting on pixels: what is kept stays as it is, and what a hole held has no influence on what is drawn there."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vqgan.errors import require, require_share
from vqgan.synthesizer import Synthesizer
from vqgan.types import Condition, Images, Known, is_whole

MARGIN = 1
"""Tokens around a hole that are drawn with it where nothing is pasted: the codes that change most with the hole. Where
pixels are pasted, they meet what was drawn without them at twice the step (``benchmarks/inpainting.py``)."""

Kept = Bool[Tensor, "b H W"]
"""True where the pixels of images are to stay."""


@torch.no_grad()
def inpaint(
    model: Synthesizer,
    images: Images,
    kept: Kept,
    condition: Condition | None = None,
    *,
    margin: int | None = None,
    paste: bool = True,
    **settings: Any,
) -> Images:
    """Keeps pixels and draws the others.

    An encoder looks further than a token's square: tokens near a hole describe a little of what was in it. Therefore
    the hole is first filled from around (:func:`fill_holes`), and tokens near it can be drawn too.

    Args:
        model: What draws.
        images: Values in [-1, 1].
        kept: True where pixels are kept; any shape, any number of holes.
        condition: As in :meth:`Synthesizer.sample`.
        margin: Tokens around those with a pixel of the hole that are drawn too; by default none, and 1 without
            ``paste``.
        paste: Kept pixels are those of ``images``, exactly; within a token's length of them, the step to what was
            drawn fades out inside the hole. False gives what the decoder makes of all tokens.
        settings: Those of :meth:`Synthesizer.complete`: ``seed``, ``refine``, ``temperature`` and so on.

    Raises:
        ConfigError: If the mask is not one of these images' pixels, or as :meth:`Synthesizer.complete`.
    """
    model.tokenizer.check(images)
    wanted = (len(images), *images.shape[2:])
    require(
        kept.dtype == torch.bool and kept.shape == wanted,
        f"`kept` holds {kept.dtype} of the shape {tuple(kept.shape)}, expected torch.bool {wanted}",
        hint="it is a mask (b, H, W) on pixels: True where a pixel is kept",
    )
    if margin is None:
        margin = 0 if paste or model.config.tokenizer.autoencoder is None else MARGIN
    require(
        is_whole(margin) and margin >= 0,
        f"`margin` is {margin!r}, expected a whole number of at least 0",
        hint="it counts tokens around the hole that are drawn with it",
    )
    factor, kept = model.tokenizer.downsample_factor, kept.to(images.device)
    known = known_tokens(kept, factor, margin)
    drawn = model.complete(fill_holes(images, kept), known, condition, **settings)
    return _pasted(images.to(drawn.device), drawn, kept.to(drawn.device), factor) if paste else drawn


def known_tokens(kept: Kept, factor: int, margin: int) -> Known:
    """The tokens (b h w) whose squares of ``factor`` pixels, and those of ``margin`` tokens around, are kept entirely.

    Example:
        >>> kept = torch.ones(1, 2, 8, dtype=torch.bool)
        >>> kept[:, :, 5:] = False
        >>> [known_tokens(kept, 2, margin).tolist() for margin in (0, 1)]
        [[[[True, True, False, False]]], [[[True, False, False, False]]]]
    """
    hole = F.max_pool2d((~kept)[:, None].float(), factor)
    return F.max_pool2d(hole, 2 * margin + 1, stride=1, padding=margin)[:, 0] == 0


def fill_holes(images: Images, kept: Kept) -> Images:
    """The images with a smooth continuation of what is kept in place of the rest; all grey where nothing is kept.

    Each pixel of a hole takes the mean of the kept ones in the smallest square around it that has some, the squares
    blended linearly (pull and push: Gortler et al. 1996, "The Lumigraph").

    Example:
        >>> image, kept = torch.tensor([[[[0.5, 9.0, 0.5]]]]), torch.tensor([[[True, False, True]]])
        >>> fill_holes(image, kept)
        tensor([[[[0.5000, 0.5000, 0.5000]]]])
    """
    weight = kept[:, None]
    values = torch.where(weight, images, 0).float()
    return torch.where(weight, images, _pulled(values, weight.float()).to(images.dtype))


def _pulled(values: Float[Tensor, "b c H W"], weight: Float[Tensor, "b 1 H W"]) -> Float[Tensor, "b c H W"]:
    """Means from sums and their weights; where the weight is zero, those of the level of half the size."""
    means = values / weight.clamp(min=torch.finfo(torch.float32).tiny)
    if bool((weight > 0).all()) or max(weight.shape[2:]) == 1:
        return means
    coarse = _pulled(*(F.avg_pool2d(each, 2, ceil_mode=True) for each in (values, weight)))
    finer = F.interpolate(coarse, size=means.shape[2:], mode="bilinear")
    return torch.where(weight > 0, means, finer)


def _pasted(images: Images, drawn: Images, kept: Kept, factor: int) -> Images:
    """Kept pixels in what was drawn; the difference at their border fades out over ``factor`` pixels of the hole."""
    near = total = kept[:, None].float()
    for _ in range(factor):
        near = F.max_pool2d(near, 3, stride=1, padding=1)
        total = total + near
    step = fill_holes(images - drawn.clamp(-1, 1), kept)
    return torch.where(kept[:, None], images, drawn + total / (factor + 1) * step)


@torch.no_grad()
def least_likely(
    model: Synthesizer,
    images: Images,
    share: float,
    condition: Condition | None = None,
    *,
    memory: int | None = None,
) -> Kept:
    """Masks out the squares of the least probable tokens of images: what :func:`inpaint` may draw again.

    Args:
        model: Whose prior judges.
        images: Values in [-1, 1].
        share: Of the tokens, ``0 < share <= 1``; rounded up to whole ones.
        condition: As in :meth:`Synthesizer.sample`.
        memory: As in :meth:`Synthesizer.log_probability`.

    Raises:
        ConfigError: If the share is out of range, or as :meth:`Synthesizer.log_probability`.
    """
    require_share("share", share, hint="0.05 draws the least probable twentieth again")
    scores = model.log_probability(images, condition, memory=memory)
    factor = model.tokenizer.downsample_factor
    worst = scores.topk(math.ceil(share * scores.shape[1]), largest=False).indices
    known = torch.ones_like(scores, dtype=torch.bool).scatter(1, worst, False)
    grid = known.unflatten(1, model.tokenizer.grid_size((images.shape[2], images.shape[3])))
    return grid.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
