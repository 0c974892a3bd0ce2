"""Whether pictures show what was asked for: one number for each picture, so that a mean has an interval."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vqgan.evaluation.labels import LabelAgreement
from vqgan.evaluation.numbers import PerPicture
from vqgan.layout import Box
from vqgan.types import Images

MIN_OVERLAP = 0.25
"""Intersection over union from which a box counts as found."""


def edge_agreement(asked: Bool[Tensor, "n H W"], found: Bool[Tensor, "n H W"]) -> PerPicture:
    """F1 of the edges of each picture, 1 where both have none; one at most one pixel from one of the other is right.

    Example:
        >>> line = (torch.arange(64) % 8 == 3).view(1, 8, 8)
        >>> edge_agreement(line, line.roll(1, dims=2)).tolist(), edge_agreement(line, ~line & False).tolist()
        ([1.0], [0.0])
    """

    def right(edges: Tensor, others: Tensor) -> Tensor:
        near = F.max_pool2d(others[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
        return (edges & near).sum(dim=(1, 2)) / edges.sum(dim=(1, 2)).clamp(min=1)

    precision, recall = right(found, asked), right(asked, found)
    are_empty = ~(asked | found).flatten(1).any(dim=1)
    score = 2 * precision * recall / (precision + recall).clamp(min=1e-9)
    return score.where(~are_empty, 1.0).double().cpu().numpy()


def label_agreement(asked: Int[Tensor, "n m"], found: Int[Tensor, "n m"], labels: int) -> PerPicture:
    """The mean intersection over union of the labels of each picture."""
    numbers = []
    for truth, own in zip(asked, found, strict=True):
        agreement = LabelAgreement(labels)
        agreement.add(truth[None, None], own[None, None])
        numbers.append(agreement.numbers()["miou"])
    return np.array(numbers)


def depth_difference(asked: Float[Tensor, "n 1 H W"], found: Float[Tensor, "n 1 H W"]) -> PerPicture:
    """The mean absolute difference of each picture's depths, each of which fills the range from 0 to 1 by itself.

    Example:
        >>> ramp = torch.linspace(0, 1, 5).view(1, 1, 1, 5)
        >>> depth_difference(ramp, 7 * ramp - 1).item(), depth_difference(ramp, -ramp).item()
        (0.0, 0.6)
    """
    first, second = (_stretched(each.double()) for each in (asked, found))
    return (first - second).abs().mean(dim=(1, 2, 3)).cpu().numpy()


def _stretched(maps: Float[Tensor, "n 1 H W"]) -> Float[Tensor, "n 1 H W"]:
    low, high = (bound(dim=(1, 2, 3), keepdim=True) for bound in (maps.amin, maps.amax))
    return (maps - low) / (high - low).clamp(min=1e-9)


def picture_psnr(asked: Images, found: Images, where: Bool[Tensor, "n H W"] | None = None) -> PerPicture:
    """The PSNR of each picture in dB, of all pixels or of those ``where``; values are in [-1, 1]."""
    weight = torch.ones(asked.shape[0], *asked.shape[2:]) if where is None else where.float()
    error = ((asked - found).double() / 2).square().mean(dim=1) * weight
    return (-10 * (error.sum(dim=(1, 2)) / weight.sum(dim=(1, 2))).clamp(min=1e-10).log10()).cpu().numpy()


def boxes_found(asked: Sequence[Sequence[Box]], found: Sequence[Sequence[Box]]) -> PerPicture:
    """The share of each picture's asked boxes at which a box was found; 1 where none was asked for.

    Example:
        >>> one, far = (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)
        >>> boxes_found([[one, far]], [[one]]).tolist()
        [0.5]
    """
    shares = []
    for wanted, own in zip(asked, found, strict=True):
        hits = [max((overlap(box, other) for other in own), default=0.0) >= MIN_OVERLAP for box in wanted]
        shares.append(float(np.mean(hits)) if hits else 1.0)
    return np.array(shares)


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes."""
    across, down = (
        min(first[axis] + first[axis + 2], second[axis] + second[axis + 2]) - max(first[axis], second[axis])
        for axis in (0, 1)
    )
    both = max(0.0, across) * max(0.0, down)
    return both / max(first[2] * first[3] + second[2] * second[3] - both, 1e-12)
