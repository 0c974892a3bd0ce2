"""How faithful pictures are that went through a tokenizer.

PSNR here is taken from the squared error summed over *all* pictures (not averaged picture by picture), of 8-bit values,
with a peak of 255.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vqgan.types import Images

PEAK = 255

WINDOW = 11
"""Pixels of a side of SSIM's window."""

_SMALL = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
"""Constants that keep SSIM's quotients finite."""

_CHUNK = 256
"""Frames, or rows, whose differences are in memory at the same time: of a large image, all would take too much."""


def detail_energy(images: Images) -> Float[Tensor, ""]:
    """The energy of the finest details: the squared second differences along rows and columns, summed.

    Blur takes it away before anything else is seen, and the checkerboards of a discriminator that has won add to it.

    Example:
        >>> ramp = torch.arange(4.0).expand(1, 1, 4, 4)
        >>> [detail_energy(image).item() for image in (ramp, ramp % 2)]
        [0.0, 32.0]
    """
    return torch.stack([torch.diff(images, n=2, dim=dim).square().sum() for dim in (2, 3)]).sum()


def psnr(squared_error: float, count: int) -> float:
    """Peak signal-to-noise ratio in decibels from a sum of squared errors.

    Args:
        squared_error: Sum over all values that were compared.
        count: How many values that were; at least 1.

    Returns:
        Decibels; infinity where nothing differs.

    Example:
        >>> round(psnr(100.0 * 255**2, 10_000), 1)
        20.0
    """
    return math.inf if squared_error == 0 else 10 * math.log10(PEAK**2 * count / squared_error)


def structural_similarity(
    pictures: Float[Tensor, "b c H W"], others: Float[Tensor, "b c H W"]
) -> Float[Tensor, " b"]:
    """SSIM of each pair (Wang et al. 2004): 1 where nothing differs.

    In a Gaussian window of 11 pixels with a standard deviation of 1.5, wherever it lies inside, for each channel; the
    mean over both. The windows are two products of matrices, on CPUs several times as fast as convolutions.

    Args:
        pictures: Values from 0 to 255; no side is shorter than 11 pixels.
        others: Likewise.
    """
    rows, columns = (_windows(side).to(pictures) for side in pictures.shape[2:])
    parts = torch.stack([pictures, others, pictures**2 + others**2, pictures * others])
    first, second, squares, products = rows @ parts @ columns.mT
    product, square = first * second, first**2 + second**2
    luminance = (2 * product + _SMALL[0]) / (square + _SMALL[0])
    structure = (2 * (products - product) + _SMALL[1]) / (squares - square + _SMALL[1])
    return (luminance * structure).mean(dim=(1, 2, 3))


def _windows(side: int) -> Float[Tensor, "places side"]:
    """The weights of the window at each of its places along a side."""
    offsets = torch.arange(side) - torch.arange(side - WINDOW + 1)[:, None] - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets.double() / 1.5) ** 2) * (offsets.abs() <= WINDOW // 2)
    return weights / weights.sum(dim=1, keepdim=True)


def pixels_psnr(pixels: UInt8[np.ndarray, "n ..."], others: UInt8[np.ndarray, "n ..."]) -> float:
    """PSNR of frames, of one frame's rows or of chosen pixels, in decibels; NaN where there are none."""
    if not pixels.size:
        return math.nan
    total = 0
    for start in range(0, len(pixels), _CHUNK):
        difference = pixels[start : start + _CHUNK].astype(np.int32) - others[start : start + _CHUNK]
        total += int((difference * difference).sum())
    return psnr(float(total), pixels.size)
