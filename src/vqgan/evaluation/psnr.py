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


def pixels_psnr(pixels: UInt8[np.ndarray, "n ..."], others: UInt8[np.ndarray, "n ..."]) -> float:
    """PSNR of frames, of one frame's rows or of chosen pixels, in decibels; NaN where there are none."""
    if not pixels.size:
        return math.nan
    total = 0
    for start in range(0, len(pixels), _CHUNK):
        difference = pixels[start : start + _CHUNK].astype(np.int32) - others[start : start + _CHUNK]
        total += int((difference * difference).sum())
    return psnr(float(total), pixels.size)
