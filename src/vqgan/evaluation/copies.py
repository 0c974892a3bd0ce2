"""Whether a generated picture copies: itself, or the pictures of its training."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vqgan.errors import require
from vqgan.evaluation.texture import Patches, Picture

_POSITIONS = 1 << 18
"""Pixels of a band, and of all bands that are transformed at the same time."""

_FLAT = 1e-12
"""What rounding leaves of the variance of a picture without details is less."""

_EXACT = 256
"""Number of products of 8-bit values whose sum is exact in float32."""


class Repetition(NamedTuple):
    """A correlation of at most 1, and the rows and columns from a place to where it returns."""

    value: float
    shift: tuple[int, int]


def largest_repetition(picture: Picture, radius: int) -> Repetition:
    """The largest peak of the autocorrelation of a picture's details: 1 where all of them return after a shift.

    ``sum x(p) x(p + s) / sqrt(sum x(p)^2 sum x(p + s)^2)`` for the shift ``s``. ``x`` is what a pixel differs from the
    mean of the square around it that reaches ``radius`` pixels to each side, and that over the whole picture: a
    slope or a slow change of light, which is like itself everywhere, does not count. The sums are over all channels and
    all ``p`` for which ``p + s`` is in the picture too, so borders neither wrap around nor weaken it. A peak is no
    smaller than its eight neighbours.

    Args:
        picture: Values in [-1, 1]. It needs 200 bytes of memory per pixel: make large pictures smaller before.
        radius: Also the longest shift that does not count, in pixels: neighbours are always alike.

    Returns:
        The peak among the shifts of at most half the sides; of the two directions the one downwards, or to the
        right. 0 and no shift where there is none.

    Raises:
        ConfigError: If ``radius`` is below 1, or too large for the picture.
    """
    values = _details(picture.cpu().double(), radius)
    (height, width), (rows, columns) = values.shape[1:], (side // 2 for side in values.shape[1:])
    is_flat = values.square().mean() < _FLAT
    # Zeros behind the picture keep shifts of up to half its sides, and a neighbour more, from wrapping around.
    size = height + rows + 2, width + columns + 2
    products = sum(torch.fft.rfft2(channel, s=size).abs().square() for channel in values)
    energy = torch.fft.rfft2(values.square().sum(dim=0), s=size)
    inside = torch.fft.rfft2(torch.ones(height, width, dtype=torch.float64), s=size)
    least = 1e-10 * values.square().sum()

    def shifts(spectrum: Tensor) -> Tensor:
        """The correlations, for shifts from (-1, -columns - 1) to (rows + 1, columns + 1)."""
        whole = torch.fft.irfft2(spectrum, s=size).roll((1, columns + 1), dims=(0, 1))
        return whole[: rows + 3, : 2 * columns + 3]

    energies = shifts(energy.conj() * inside) * shifts(energy * inside.conj())
    correlation = shifts(products) / energies.clamp(min=0).sqrt().clamp(min=least)
    peaks = correlation[1:-1, 1:-1]
    is_peak = peaks == F.max_pool2d(correlation[None], 3, stride=1)[0]
    down, right = torch.arange(rows + 1), torch.arange(-columns, columns + 1)
    is_peak &= torch.hypot(down[:, None].double(), right.double()) > radius
    is_peak[0, : columns + 1] = False  # as those to the right
    if is_flat or not is_peak.any():
        return Repetition(0.0, (0, 0))
    row, column = divmod(int(peaks.where(is_peak, -torch.inf).argmax()), len(right))
    return Repetition(float(peaks[row, column]), (row, column - columns))


def _details(picture: Picture, radius: int) -> Float[Tensor, "c h w"]:
    """Without the means of the squares around, and without the pixels that have no whole square around them."""
    side = 2 * radius + 1
    require(
        radius >= 1 and side + 2 <= min(picture.shape[1:]),
        f"`radius` is {radius}, expected at least 1, and that {side + 2} pixels fit into the picture's sides",
    )
    means = F.avg_pool2d(F.avg_pool2d(picture[None], (side, 1), stride=1), (1, side), stride=1)[0]
    details = picture[:, radius:-radius, radius:-radius] - means
    return details - details.mean(dim=(1, 2), keepdim=True)


class Nearest(NamedTuple):
    """For each patch the most similar part of the training pictures.

    Attributes:
        distance: Root mean square difference over pixels and channels, of 0 to 255; 0 where the patch is a copy.
        picture: Number of the training picture.
        place: Its row and column where the part begins.
    """

    distance: Float[Tensor, " b"]
    picture: Int[Tensor, " b"]
    place: Int[Tensor, "b 2"]


def nearest_patch(patches: Patches, pictures: Iterable[Tensor]) -> Nearest:
    """Looks for each patch at every position of every training picture (c H W), without turning or scaling.

    ``|q - x|^2 = |q|^2 - 2 <q, x> + |x|^2``, with the products of a patch and all positions by Fourier transforms of
    bands of rows. Takes about a second per megapixel and 32 patches on one core, and memory for one picture
    and some bands. The distance at the nearest position is then computed directly, so that of a copy is exactly 0.

    Raises:
        ConfigError: If there is no picture, or one is smaller than the patches or has other channels.
    """
    count, channels, size = patches.shape[:3]
    distance = torch.full((count,), torch.inf, dtype=torch.float64)
    found, place = (torch.zeros(count, width, dtype=torch.int64) for width in (1, 2))
    patches = patches.cpu().float()
    for number, picture in enumerate(pictures):
        require(
            picture.shape[0] == channels and min(picture.shape[1:]) >= size,
            f"a training picture has the shape {tuple(picture.shape)} (c, H, W), "
            f"expected {channels} channels and at least {size}x{size} pixels",
        )
        rows = max(2 * size, _POSITIONS // picture.shape[2])
        for top in range(0, picture.shape[1] - size + 1, rows - size + 1):
            nearer, where = _nearest_in_band(patches, picture[:, top : top + rows].cpu().float())
            better = nearer < distance
            distance = torch.where(better, nearer, distance)
            found[better] = number
            place[better] = where[better] + torch.tensor([top, 0])
    require(
        bool(distance.isfinite().all()), "there is nothing to compare with: no training picture was given"
    )
    return Nearest((distance * 127.5).float(), found[:, 0], place)


def _nearest_in_band(patches: Patches, band: Picture) -> tuple[Float[Tensor, " b"], Int[Tensor, "b 2"]]:
    """The distances, in values of [-1, 1], and the places within the band."""
    size, shape = patches.shape[-1], (band.shape[1], band.shape[2])
    spectrum = torch.fft.rfft2(band)
    sums = F.pad(band.double().square().sum(dim=0).cumsum(0).cumsum(1), (1, 0, 1, 0))
    energies = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    height, width = energies.shape
    places = []
    for part in patches.split(max(1, _POSITIONS // band[0].numel())):
        products = torch.fft.irfft2((spectrum * torch.fft.rfft2(part, s=shape).conj()).sum(dim=1), s=shape)
        nearest = (energies - 2 * products[:, :height, :width]).flatten(1).argmin(dim=1)
        places.append(torch.stack([nearest // width, nearest % width], dim=1))
    place = torch.cat(places)
    parts = torch.stack([band[:, y : y + size, x : x + size] for y, x in place.tolist()])
    return (parts - patches).double().square().mean(dim=(1, 2, 3)).sqrt(), place


def nearest_pictures(
    known: UInt8[np.ndarray, "k H W c"], pictures: UInt8[np.ndarray, "n H W c"]
) -> Int[np.ndarray, " n"]:
    """Position of the known picture with the least squared distance to each one; the first among equals."""
    values, queries = (each.reshape(len(each), -1) for each in (known, pictures))
    products = torch.zeros(len(queries), len(values), dtype=torch.float64)
    for start in range(0, values.shape[1], _EXACT):
        left, right = (
            torch.from_numpy(each[:, start : start + _EXACT]).float() for each in (queries, values)
        )
        products += left @ right.T
    lengths = np.einsum("kv,kv->k", values, values, dtype=np.int64)
    return (lengths - 2 * products.numpy()).argmin(axis=1)
