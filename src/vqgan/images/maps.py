"""Pictures that are not looked at but say something of each pixel: labels and depth."""

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from vqgan.errors import DataError
from vqgan.images.labels import shift_hint
from vqgan.images.pixels import Pixels, to_float
from vqgan.images.reading import File, opened, read_pixels

Map = Pixels | np.ndarray
"""Labels: int64 (H W). A picture: uint8 (H W c). One of more than 8 bits: float32 (H W 1) in [-1, 1]."""

_ONE_NUMBER = ("1", "L", "P", "I", "F")
"""How the modes of pictures begin that hold one number for each pixel."""


def read_map(path: File, channels: int, labels: int = 0, *, stretch: bool = False, shift: int = 0) -> Map:
    """Reads a map: a picture file, or an array (``.npy``).

    Args:
        path: The file.
        channels: Of a picture: 1, 3 or 4, or those of an array. Of one channel, 16 bits fill their range, and floats
            [0, 1]; other values are stretched from the smallest to the largest.
            A PNG of four channels without an opaque pixel holds the bytes of float32, as the original's depth maps do.
        labels: How many there are, if it is a map of labels: the numbers of a grey picture, the indices of one with a
            palette, an array (H W), or one with a channel for each label (H W c).
        stretch: Of one channel, values are stretched from their own smallest to their own largest, whatever their type:
            depth as ``data.stretch`` trains its tokenizer, and as the original does.
        shift: Added to labels, modulo 256: those of files that count from 0 and have 255 for none.

    Raises:
        DataError: If the file cannot be read, is a picture where labels are expected, or holds a label that does not
            exist.
    """
    with opened(path) as image:
        if labels:
            return _labels(image, labels, shift)
        exact = _exact(image, stretch=stretch) if channels == 1 else None
    if exact is None and stretch:  # in colour
        exact = _exact(read_pixels(path, channels), stretch=True)
    return read_pixels(path, channels) if exact is None else exact


def map_tensor(values: Map) -> Tensor:
    """A map as models take it: labels (H W), pictures (c H W) with values in [-1, 1]."""
    if values.dtype == np.uint8 and values.ndim == 3:
        return to_float(values)
    return torch.from_numpy(np.ascontiguousarray(values if values.ndim == 2 else np.moveaxis(values, -1, 0)))


def _labels(image: Image.Image | np.ndarray, count: int, shift: int) -> Int64[np.ndarray, "H W"]:
    if isinstance(image, Image.Image) and not image.mode.startswith(_ONE_NUMBER):
        raise DataError(f"it is a picture in {image.mode}, expected labels: one number for each pixel")
    found = np.array(image)
    if found.ndim == 3 and found.shape[2] in (1, count):
        found = found[:, :, 0] if found.shape[2] == 1 else found.argmax(axis=2)
    if found.ndim != 2 or found.dtype.kind not in "biu" or not found.size:
        raise DataError(f"it holds {found.dtype} of the shape {found.shape}, expected labels (H W)")
    found = (found.astype(np.int64) + shift) % 256 if shift else found
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= count:
        what = f"it has the label {low if low < 0 else high}, expected 0 to {count - 1}"
        raise DataError(what, hint=shift_hint(high, count))
    return found.astype(np.int64)


def _exact(image: Image.Image | np.ndarray, *, stretch: bool) -> np.ndarray | None:
    """Values of more than 8 bits, or that are to be stretched; None of others."""
    if isinstance(image, Image.Image) and not image.mode.startswith(("I", "F", "RGBA", *"L" * stretch)):
        return None
    values = np.array(image)
    if isinstance(image, Image.Image) and image.mode == "RGBA" and values[:, :, 3].max() < 255:
        values = values.view("<f4")
    values = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "iuf" or not values.size:
        return None
    if values.dtype == np.uint8 and not stretch:
        return None
    found, full = values.astype(np.float64), 1.0 if values.dtype.kind == "f" else 65535.0
    low, high = float(found.min()), float(found.max())
    if not np.isfinite(found).all():
        raise DataError("it holds values that are not finite")
    if not stretch and low >= 0 and high <= full:
        low, high = 0.0, full
    return (2 * (found - low) / max(high - low, 1e-8) - 1).astype(np.float32)[:, :, None]
