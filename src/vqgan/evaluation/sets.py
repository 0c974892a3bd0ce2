"""How alike two sets of images are, by their features: rows of numbers that a network sees in each image."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vqgan.errors import require

Features = Float[Tensor, "n f"]
OtherFeatures = Float[Tensor, "k f"]

NEIGHBOURS = 5
"""Nearest neighbours that make the sphere around an image in :func:`neighbour_numbers`."""

SUBSETS, SUBSET_SIZE = 100, 1000
"""Of the kernel distance, as Binkowski et al. have them."""

_ROWS = 1024
"""Distances from so many images are in memory at the same time."""


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution of features.

    Attributes:
        mean: Of each feature.
        root: ``R`` with ``R^T R`` the covariance.
    """

    mean: Float[Tensor, " f"]
    root: Float[Tensor, "r f"]

    @classmethod
    def of(cls, features: Features) -> "Gaussian":
        """That with the mean and covariance of features; errors as of :func:`frechet_distance`."""
        require(len(features) >= 2, f"a covariance needs at least 2 images, got {len(features)}")
        values = features.cpu().double()
        require(bool(values.isfinite().all()), "the features hold values that are not finite")
        mean = values.mean(dim=0)
        return cls(mean, torch.linalg.qr((values - mean) / math.sqrt(len(values) - 1), mode="r").R)


def frechet_distance(features: Features | Gaussian, others: OtherFeatures | Gaussian) -> float:
    """The Frechet distance of the Gaussians with the mean and covariance of two sets of features.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Dowson and Landau 1982), as FID has it (Heusel et al. 2017). With
    centred features ``A`` and ``B``, ``C1 = A^T A`` and ``C2 = B^T B``, so the trace of the root is the sum of the
    singular values of ``A B^T``: exact in double precision, even of fewer images than features. Few images make
    the distance larger: compare only distances of equal numbers of images.

    Args:
        features: Of at least two images; or what is known of them.
        others: As ``features``.

    Raises:
        ConfigError: If there are fewer, or a feature is not finite.
    """
    one, two = (each if isinstance(each, Gaussian) else Gaussian.of(each) for each in (features, others))
    shared = torch.linalg.svdvals(one.root @ two.root.T).sum()
    spread = one.root.square().sum() + two.root.square().sum() - 2 * shared
    return float((one.mean - two.mean).square().sum() + spread.clamp(min=0))


def kernel_distance(features: Features, others: OtherFeatures) -> tuple[float, float]:
    """The squared maximum mean discrepancy with the kernel ``(x y / f + 1)^3``: KID (Binkowski et al. 2018).

    Unbiased, so it may be below 0. As published it is the mean of 100 subsets of 1,000 images of each set, always the
    same; of fewer images one subset has them all.

    Returns:
        The mean, and its standard error over the subsets (0 of one).
    """
    size = min(SUBSET_SIZE, len(features), len(others))
    require(size >= 2, f"a kernel distance needs at least 2 images of each set, got {size}")
    draws, found = torch.Generator().manual_seed(0), []
    for _ in range(1 if size == max(len(features), len(others)) else SUBSETS):
        parts = [
            each[torch.randperm(len(each), generator=draws)[:size]].cpu().double()
            for each in (features, others)
        ]
        own, their, cross = (_kernel(parts[a], parts[b]) for a, b in ((0, 0), (1, 1), (0, 1)))
        inside = (own.sum() - own.trace() + their.sum() - their.trace()) / (size * (size - 1))
        found.append(inside - 2 * cross.mean())
    values = torch.stack(found)
    return float(values.mean()), float(values.std() / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _kernel(features: Tensor, others: Tensor) -> Tensor:
    return (features @ others.T / features.shape[1] + 1) ** 3


def inception_score(probabilities: Float[Tensor, "n classes"]) -> float:
    """``exp(mean KL(p(class | image) || p(class)))`` of a classifier's probabilities (Salimans et al. 2016).

    Between 1 and the number of classes: high where each image is surely of one class, and the classes are equally
    frequent. Example:
        >>> round(inception_score(torch.eye(4)), 3), round(inception_score(torch.full((3, 4), 0.25)), 3)
        (4.0, 1.0)
    """
    each = probabilities.double()
    whole = each.mean(dim=0)
    return float((torch.xlogy(each, each) - torch.xlogy(each, whole)).sum(dim=1).mean().exp())


def neighbour_numbers(real: Features, drawn: OtherFeatures, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    The sphere of an image reaches to its ``neighbours``-th nearest one of its own set. ``precision`` is the share of
    drawn images in the sphere of a real one, ``recall`` that of real ones in the sphere of a drawn one, ``density`` how
    many real spheres a drawn image lies in, divided by ``neighbours``, and ``coverage`` the share of real images whose
    own sphere holds a drawn one.

    Raises:
        ConfigError: If a set has not more images than ``neighbours``.
    """
    least = min(len(real), len(drawn))
    require(
        least > neighbours,
        f"{least} images are too few for {neighbours} nearest neighbours, expected at least {neighbours + 1}",
    )
    inside = _inside(drawn, real, _radii(real, neighbours))  # drawn x real
    covered = _inside(real, drawn, _radii(drawn, neighbours))
    return {
        "precision": float(inside.any(dim=1).double().mean()),
        "recall": float(covered.any(dim=1).double().mean()),
        "density": float(inside.double().sum(dim=1).mean() / neighbours),
        "coverage": float(inside.any(dim=0).double().mean()),
    }


def _radii(features: Features, neighbours: int) -> Float[Tensor, " n"]:
    """The distance of each from its nearest others, itself not counted."""
    parts = (torch.cdist(part, features).kthvalue(neighbours + 1).values for part in features.split(_ROWS))
    return torch.cat([*parts])


def _inside(
    features: Features, centres: Float[Tensor, "k f"], radii: Float[Tensor, " k"]
) -> Bool[Tensor, "n k"]:
    return torch.cat([torch.cdist(part, centres) <= radii for part in features.split(_ROWS)])
