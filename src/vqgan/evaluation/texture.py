"""Statistics of textures and skies: generated pictures beside real ones that were held out.

Pictures and patches are floats in [-1, 1], channels first. A distance is 0 between equal sets; between two halves of
the real pictures it tells which differences mean nothing. What shows copying is in ``evaluation/copies.py``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.errors import require
from vqgan.evaluation.sets import frechet_distance
from vqgan.images.pixels import to_uint8
from vqgan.tokenizer import Tokenizer
from vqgan.types import Images

Picture = Float[Tensor, "c H W"]

Patches = Float[Tensor, "b c S S"]

Features = Callable[[Images], Float[Tensor, "b f"]]
"""What describes patches, one row of numbers for each."""

ROUNDING = (2 / 255) ** 2 / 12
"""Variance of the error of rounding to 8 bits, in values of [-1, 1]."""

_AT_ONCE = 32
"""Patches in double precision, or in a network, at the same time."""


def cut_patches(picture: Picture, size: int) -> Patches:
    """As many square patches as fit without overlap, row by row, evenly spaced from border to border.

    Raises:
        ConfigError: If the picture is smaller than a patch.
    """
    return cut_rings(picture, size, 1)[0]


def cut_rings(picture: Picture, size: int, count: int) -> list[Patches]:
    """The patches of :func:`cut_patches` by their distance from the picture's border.

    Args:
        picture: Values in [-1, 1].
        size: Pixels of a patch's side.
        count: Number of rings. The first holds the patches at the border, each further one those inside it, the last
            also all that lie deeper.

    Raises:
        ConfigError: If the picture has fewer rings.
    """
    rows, columns = (side // size for side in picture.shape[1:])
    most = (min(rows, columns) + 1) // 2
    require(
        1 <= count <= most,
        f"{count} rings of patches of {size} pixels do not fit a picture of {picture.shape[1]}x{picture.shape[2]}",
        hint=f"there are {most}; take smaller patches, or fewer rings",
    )
    tops, lefts = (_starts(side, size) for side in picture.shape[1:])
    rings: list[list[Tensor]] = [[] for _ in range(count)]
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            depth = min(row, rows - 1 - row, column, columns - 1 - column, count - 1)
            rings[depth].append(picture[:, top : top + size, left : left + size])
    return [torch.stack(ring) for ring in rings]


def _starts(side: int, size: int) -> list[int]:
    count = side // size
    return [(side - size) * number // max(1, count - 1) for number in range(count)]


def power_spectrum(patches: Patches) -> Float[Tensor, " r"]:
    """The mean power of patches by frequency, in decibels, from 1 to ``S // 2`` waves per patch.

    ``10 log10(mean |F(w (x - m))|^2 / sum(w^2) + R)``: ``F`` is the Fourier transform, ``w`` a Hann window, ``m`` each
    patch's mean colour; the mean is over patches, channels and all directions of a frequency (rounded). White noise
    has its variance at every frequency. ``R`` is the power of rounding to 8 bits, below which nothing can be seen.
    Radial means of spectra show what upsampling gets wrong (Durall et al. 2020, "Watch your Up-Convolution").
    """
    size = patches.shape[-1]
    hann = torch.hann_window(size, dtype=torch.float64)
    window = hann[:, None] * hann
    power = torch.zeros(size, size, dtype=torch.float64)
    for part in patches.cpu().split(_AT_ONCE):
        centred = part.double() - part.double().mean(dim=(2, 3), keepdim=True)
        power += torch.fft.fft2(centred * window).abs().square().sum(dim=(0, 1))
    power /= patches.shape[0] * patches.shape[1] * window.square().sum()
    waves = torch.fft.fftfreq(size, 1 / size)
    radius = torch.hypot(waves[:, None], waves).round().long().flatten()
    rings = torch.bincount(radius, power.flatten()) / torch.bincount(radius)
    return 10 * torch.log10(rings[1 : size // 2 + 1] + ROUNDING)


def power_spectrum_distance(patches: Patches, others: Float[Tensor, "n k P P"]) -> float:
    """Root mean square difference of two sets' power spectra over the frequencies, in decibels.

    Raises:
        ConfigError: If the sets differ in the size or the channels of their patches.
    """
    _check_alike(patches.shape[1:], others.shape[1:])
    return float((power_spectrum(patches) - power_spectrum(others)).square().mean().sqrt())


def colour_distance(images: Images, others: Float[Tensor, "n k h w"]) -> float:
    """How far colours must be moved to make two sets' histograms equal, of 0 to 255, the mean of the channels.

    The Wasserstein distance of each channel's values, rounded to 8 bits: ``sum_v |P(x <= v) - Q(x <= v)|``. The sets
    may differ in number and size of their images.

    Raises:
        ConfigError: If they differ in channels.
    """
    _check_alike(images.shape[1:2], others.shape[1:2])
    difference = _histograms(images).cumsum(dim=1) - _histograms(others).cumsum(dim=1)
    return float(difference.abs().sum(dim=1).mean())


def _check_alike(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    require(
        shape == other, f"the sets have the shapes {tuple(shape)} and {tuple(other)}, expected equal ones"
    )


def _histograms(images: Images) -> Float[Tensor, "c levels"]:
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for image in images:
        for rows in image.split(_AT_ONCE, dim=1):
            levels = to_uint8(rows).cpu()
            counts += torch.stack(
                [torch.bincount(each.flatten(), minlength=256) for each in levels.unbind(-1)]
            )
    return counts / counts.sum(dim=1, keepdim=True)


def patch_frechet(patches: Images, others: Float[Tensor, "n c h w"], features: Features) -> float:
    """The Frechet distance of two sets' features (:func:`~vqgan.evaluation.sets.frechet_distance`).

    Args:
        patches: Of any sizes that ``features`` takes; at least two.
        others: As many as there are; at least two.
        features: For instance :func:`latent_features`.

    Raises:
        ConfigError: If there are fewer patches, or a feature is not finite.
    """
    first, second = (
        torch.cat([features(part) for part in each.split(_AT_ONCE)]) for each in (patches, others)
    )
    return frechet_distance(first, second)


def latent_features(tokenizer: Tokenizer) -> Features:
    """Features of patches: mean and standard deviation of each channel of the tokenizer's latents.

    The sides of the patches must be multiples of its ``downsample_factor``.
    """

    @torch.no_grad()
    def features(images: Images) -> Float[Tensor, "b f"]:
        latents = tokenizer.latents(images).float()
        return torch.cat([latents.mean(dim=(2, 3)), latents.std(dim=(2, 3), correction=0)], dim=1)

    return features


class Ratio(NamedTuple):
    """A ratio and its standard error."""

    value: float
    error: float


def seam_ratio(
    picture: Picture, period: int, offset: tuple[int, int] = (0, 0), *, step: int = 1
) -> tuple[Ratio, Ratio]:
    """How much more a picture changes across the lines of a grid than elsewhere: 1 where no seams are.

    The ratio of mean squared differences of neighbouring pixels: those on both sides of a line, and those between the
    lines. Each line is compared with what lies within half a period of it, and the error is that of a ratio of
    sums (Cochran 1977, Sampling Techniques, chapter 6), so that it holds where the contrast is not the same everywhere.

    Args:
        picture: Values in [-1, 1].
        period: Pixels from line to line, at least 2.
        offset: The row and the column of the first pixels behind a line.
        step: Compare each line with those every so many pixels alone: with a tokenizer's factor, borders of cells with
            borders of cells, because a decoder leaves traces of all cells. Divides the period.

    Returns:
        The ratios across the lines between rows and between columns; not a number where the rest does not change.

    Raises:
        ConfigError: If the picture does not hold two lines in each direction, each with a period around it.
    """
    rows = sum(channel.diff(dim=0).square().mean(dim=1) for channel in picture)
    columns = sum(channel.diff(dim=1).square().mean(dim=0) for channel in picture)
    pairs = zip((rows, columns), offset, strict=True)
    first, second = (_seams(energies, period, own, step) for energies, own in pairs)
    return first, second


def _seams(every: Tensor, pixels: int, offset: int, step: int) -> Ratio:
    """The ratio for energies (n), the first of which is that between pixels 0 and 1, on a grid of so many pixels."""
    require(
        step >= 1 and pixels % step == 0 and pixels >= 2 * step,
        f"`period` is {pixels}, expected "
        + (f"a multiple of `step` = {step}, " * (step > 1))
        + f"at least {2 * step}",
    )
    start, period = (offset - 1) % step, pixels // step
    energies, middle = every[start::step], period // 2
    first = ((offset - 1 - start) // step - middle) % period
    count = (len(energies) - first) // period
    require(count >= 2, f"{len(every) + 1} pixels do not hold two lines of a grid of {pixels} pixels")
    around = energies[first : first + count * period].double().reshape(count, period)
    seams = around[:, middle]
    between = (around.sum(dim=1) - seams) / (period - 1)
    value = seams.sum() / between.sum()
    residuals = (seams - value * between).square().sum()
    return Ratio(float(value), float((residuals / (count * (count - 1))).sqrt() / between.mean()))
