"""Rejection sampling: of many images, those that a judge likes best (as in Razavi et al. 2019, "VQ-VAE-2")."""

import math
import time
from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan.errors import require, require_share
from vqgan.types import Images, check_images

Judge = Callable[[Images], Float[Tensor, " b"]]
"""Gives each image a score; higher is better."""


@torch.no_grad()
def keep_best(
    images: Images, judge: Judge, share: float, *, batch_size: int = 64
) -> tuple[Float[Tensor, "k c H W"], Float[Tensor, " k"]]:
    """The images with the best scores.

    Args:
        images: What was drawn.
        judge: Any function of images (b c H W) that gives each a score (b), higher is better; of a classifier,
            ``lambda images: classifier(images)[:, 3]`` or ``classifier.scores``.
        share: The share that is kept, ``0 < share <= 1``, rounded up to whole images.
        batch_size: How many images the judge sees at once.

    Returns:
        The best images and their scores, best first; of equal ones the earlier comes first.

    Raises:
        ConfigError: If the share or the batch size is out of range, or the judge does not give each image a number.
    """
    check_images(images)
    require_share("share", share, hint="0.25 keeps the best quarter")
    require(batch_size >= 1, f"`batch_size` is {batch_size}, expected at least 1")
    whole = scores_by([judge] * len(images), images, batch_size=batch_size)
    best = best_of(whole, share)
    return images[best.to(images.device)], whole[best]


@torch.no_grad()
def scores_by(judges: Sequence[Judge], images: Images, *, batch_size: int = 64) -> Float[Tensor, " b"]:
    """The score of each image by its own judge, on the CPU; errors as of :func:`keep_best`."""
    scores, start = list[Tensor](), 0
    for _, same in groupby(judges, key=id):
        judge, *others = same
        for part in images[start : (start := start + 1 + len(others))].split(batch_size):
            found = judge(part)
            require(
                isinstance(found, Tensor) and found.shape == (len(part),) and not bool(found.isnan().any()),
                f"the judge gave {getattr(found, 'shape', found)} for {len(part)} images, expected a number for each",
                hint="of a classifier's probabilities (b, classes) choose one class: `classifier(images)[:, 3]`",
            )
            scores.append(found.cpu())
    return torch.cat(scores)


def now(images: Tensor) -> float:
    """The time in seconds, as soon as a GPU has done what it was told to do for these images."""
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter()


def best_of(scores: Float[Tensor, " b"], share: float) -> Int[Tensor, " k"]:
    """Positions of the best scores, best first. Arguments and order as of :func:`keep_best`.

    Example:
        >>> best_of(torch.tensor([0.1, 0.9, 0.5, 0.9]), 0.6).tolist()
        [1, 3, 2]
    """
    # 0.07 * 100 is a little more than 7.
    return scores.argsort(descending=True, stable=True)[: math.ceil(round(share * len(scores), 9))]
