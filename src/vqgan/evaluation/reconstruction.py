"""How faithful pictures are that went through a tokenizer, and how many of its codes are met.

PSNR here is taken from the squared error summed over *all* pictures (not averaged picture by picture), of
8-bit values, with a peak of 255.
"""

import math

import numpy as np
from jaxtyping import Bool, Int, UInt8

PEAK = 255
MOVING_THRESHOLD = 24
"""A pixel belongs to a moving thing when a channel differs by more than this from the room's median frame."""

_CHUNK = 256
"""Frames whose differences are in memory at once."""

Frames = UInt8[np.ndarray, "n H W c"]
"""Pictures as 8-bit values."""

Mask = Bool[np.ndarray, "n H W"]
"""A choice of pixels, the same for all channels."""

Labels = Int[np.ndarray, " n"]
"""A group (a room) for each picture."""


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
    if count < 1:
        raise ValueError(f"PSNR of {count} values, expected at least 1")
    return math.inf if squared_error == 0 else 10 * math.log10(PEAK**2 * count / squared_error)


def squared_error(frames: Frames, others: UInt8[np.ndarray, "n H W c"], mask: Mask | None = None) -> float:
    """Sum of squared differences, exact, over all values or over those of the masked pixels."""
    total = 0
    for start in range(0, len(frames), _CHUNK):
        part = slice(start, start + _CHUNK)
        difference = frames[part].astype(np.int32) - others[part]
        squares = difference * difference
        total += int(squares.sum() if mask is None else squares[mask[part]].sum())
    return float(total)


def reconstruction_psnr(frames: Frames, reconstructions: UInt8[np.ndarray, "n H W c"]) -> float:
    """PSNR of reconstructions against their originals, in decibels.

    Args:
        frames: Originals.
        reconstructions: The same pictures after encoding and decoding, rounded to 8 bits.
    """
    return psnr(squared_error(frames, reconstructions), frames.size)


def moving_mask(
    frames: Frames,
    rooms: Labels,
    medians: dict[int, UInt8[np.ndarray, "H W c"]],
    threshold: int = MOVING_THRESHOLD,
) -> Mask:
    """Which pixels differ from the background: any channel further than ``threshold`` from the room's median.

    Args:
        frames: Pictures.
        rooms: The room of each; one without a median has no moving pixels.
        medians: Median training frame by room (:func:`vqgan.evaluation.baselines.room_medians`).
        threshold: Difference of 8-bit values that still counts as background.
    """
    mask = np.zeros(frames.shape[:3], dtype=bool)
    for room, median in medians.items():
        chosen = np.flatnonzero(rooms == room)
        for start in range(0, len(chosen), _CHUNK):
            part = chosen[start : start + _CHUNK]
            mask[part] = (np.abs(frames[part].astype(np.int16) - median) > threshold).any(axis=3)
    return mask


def moving_psnr(frames: Frames, others: UInt8[np.ndarray, "n H W c"], mask: Mask) -> float:
    """PSNR over the masked pixels alone, all channels, in decibels; NaN where the mask is empty."""
    count = int(mask.sum()) * frames.shape[3]
    return psnr(squared_error(frames, others, mask), count) if count else math.nan


def codebook_usage(indices: Int[np.ndarray, "n h w"], codebook_size: int) -> float:
    """Share of the codebook met at least once, between 0 and 1.

    A share of a large codebook needs many pictures: with few it measures the pictures, not the codebook.

    Example:
        >>> codebook_usage(np.array([[[0, 1], [1, 3]]]), codebook_size=8)
        0.375
    """
    return len(np.unique(indices)) / codebook_size
