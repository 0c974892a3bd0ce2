"""One table row for a large generated picture: all measures of textures, beside what real pictures give."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.evaluation.copies import largest_repetition, nearest_patch
from vqgan.evaluation.texture import (
    Features,
    Patches,
    Picture,
    colour_distance,
    cut_patches,
    cut_rings,
    patch_frechet,
    power_spectrum_distance,
    seam_ratio,
)

LARGEST_REPETITION_SIDE = 1024
"""Repetition is looked for in this much of a picture's upper left corner, for the sake of memory."""

NEAREST_PATCHES = 32
"""Patches that are looked for in the training pictures: a second per megapixel and picture."""


def texture_numbers(
    picture: Picture,
    real: Sequence[Tensor],
    training: Sequence[Tensor],
    features: Features,
    *,
    period: int | None = None,
    step: int = 1,
    size: int = 64,
    rings: int = 3,
) -> Mapping[str, float]:
    """How far a picture is from real ones that no training has seen, and whether it copies.

    All Frechet distances are of equal numbers of patches, so they can be compared with each other and with those of
    another picture; the same call with a real picture says which differences mean nothing.

    Args:
        picture: Values in [-1, 1].
        real: Held-out pictures (c h w), each at least a patch large.
        training: What the model was trained on.
        features: For the Frechet distances, see :func:`~vqgan.evaluation.texture.latent_features`.
        period: Pixels between possible seams, for instance a window's; None omits them.
        step: What they are compared with, see :func:`~vqgan.evaluation.texture.seam_ratio`.
        size: Pixels of a patch's side.
        rings: Distances from the picture's border, in patches; see :func:`~vqgan.evaluation.texture.cut_rings`.

    Returns:
        ``frechet`` and ``frechet_ring_0`` (the border) to the innermost ring; ``spectrum_db``; ``colour`` (0 to
        255); ``seam_rows``, ``seam_columns`` with ``..._error``; ``repetition`` and its shift; ``nearest`` (median
        root mean square difference to the nearest training patch, 0 to 255) and ``nearest_least``.

    Raises:
        ConfigError: If a picture is too small for patches or rings.
    """
    real_patches = torch.cat([cut_patches(part, size) for part in real])
    patches, by_ring = cut_patches(picture, size), cut_rings(picture, size, rings)
    count = min(len(real_patches), len(patches), *map(len, by_ring))
    chosen = _spread(real_patches, count)
    numbers = {"frechet": patch_frechet(_spread(patches, count), chosen, features)}
    for number, ring in enumerate(by_ring):
        numbers[f"frechet_ring_{number}"] = patch_frechet(_spread(ring, count), chosen, features)
    numbers["spectrum_db"] = power_spectrum_distance(patches, real_patches)
    numbers["colour"] = colour_distance(picture[None], real_patches)
    if period is not None:
        for name, ratio in zip(
            ("seam_rows", "seam_columns"), seam_ratio(picture, period, step=step), strict=True
        ):
            numbers |= {name: ratio.value, f"{name}_error": ratio.error}
    corner = picture[:, :LARGEST_REPETITION_SIDE, :LARGEST_REPETITION_SIDE]
    repetition = largest_repetition(corner, min(size // 2, (min(corner.shape[1:]) - 3) // 2))
    numbers |= {"repetition": repetition.value}
    numbers |= dict(zip(("repetition_rows", "repetition_columns"), map(float, repetition.shift), strict=True))
    nearest = nearest_patch(_spread(patches, NEAREST_PATCHES), training).distance
    return {**numbers, "nearest": float(nearest.median()), "nearest_least": float(nearest.min())}


def _spread(patches: Patches, count: int) -> Float[Tensor, "n c S S"]:
    """At most ``count`` of the patches, evenly spaced."""
    places = torch.linspace(0, len(patches) - 1, min(count, len(patches))).round().long()
    return patches[places]
