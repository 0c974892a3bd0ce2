"""Label maps: grey pictures whose values are the numbers of labels; and other maps, stretched to be grey pictures."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from vqgan.errors import DataError
from vqgan.images.pixels import to_float, to_uint8
from vqgan.images.writing import Info, save_picture
from vqgan.types import Images

MAX_LABELS = 256
"""More do not fit into the 8 bits of a picture."""

_COCO_STUFF = 183
"""Labels of COCO-Stuff with 0 for nothing."""

_BITS = np.arange(8)


def map_pixels(values: np.ndarray, labels: int = 0) -> UInt8[np.ndarray, "H W 1"]:
    """A map as the pixels of a grey picture.

    Args:
        values: One number for each pixel, (H W) or (H W 1).
        labels: How many labels there are, if these are such; they are kept as they are. Other values v are
            stretched from their own range, whatever it is: ``2 (v - min) / max(max - min, 1e-8) - 1`` in [-1, 1],
            rounded to 8 bits.

    Raises:
        DataError: If it is not such a map, a label does not exist, or a value is not finite.

    Example:
        >>> map_pixels(np.array([[2.0, 3.0, 6.0]])).ravel().tolist()
        [0, 64, 255]
        >>> map_pixels(np.array([[2, 3, 6]]), labels=7).ravel().tolist()
        [2, 3, 6]
    """
    flat = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if flat.ndim != 2 or not flat.size or flat.dtype.kind not in "biuf":
        what = "a label" if labels else "a number"
        raise DataError(
            f"it holds {values.dtype} of the shape {values.shape}, expected {what} for each pixel"
        )
    low, high = float(flat.min()), float(flat.max())
    if labels:
        if flat.dtype.kind == "f":
            raise DataError(f"it holds {flat.dtype}, expected labels: whole numbers")
        if low < 0 or high >= labels:
            wrong = int(low if low < 0 else high)
            raise DataError(f"it has the label {wrong}, expected 0 to {labels - 1}")
        return flat.astype(np.uint8)[:, :, None]
    if not np.isfinite(low) or not np.isfinite(high):
        raise DataError("it holds values that are not finite")
    scaled = (flat.astype(np.float64) - low) * (255 / max(high - low, 1e-8))
    return np.rint(scaled).astype(np.uint8)[:, :, None]


def shift_hint(label: int, count: int) -> str:
    """What a map needs that holds this label, which does not exist, if it looks like one that COCO-Stuff publishes."""
    what = "COCO-Stuff's own maps count from 0, with 255 for nothing, and need 1 added to each 8-bit value"
    return f"{what}: `vqgan extract` and `--data coco:` do so" if (label, count) == (255, _COCO_STUFF) else ""


def one_hot(maps: Float[Tensor, "b 1 H W"], labels: int) -> Float[Tensor, "b K H W"]:
    """Label maps that were read as grey pictures (b 1 H W), with a channel for each label: 1 at its pixels, else 0."""
    count, _, height, width = maps.shape
    numbers = to_uint8(maps).movedim(-1, 1).long()
    return maps.new_zeros(count, labels, height, width).scatter_(1, numbers, 1.0)


def label_colours() -> UInt8[np.ndarray, "256 3"]:
    """A colour for each of 256 labels, the first black: those of PASCAL VOC, in which label bits become high bits.

    Example:
        >>> label_colours()[:4].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    bits = (
        np.arange(256)[:, None] >> _BITS & 1
    )  # the bits 3i + c of a label are the bits 7 - i of its colour c
    channels = [sum(bits[:, 3 * i + c] << (7 - i) for i in range(3) if 3 * i + c < 8) for c in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def in_colours(labels: Int[Tensor, "b H W"]) -> Images:
    """Label maps as pictures: each label in its colour."""
    return to_float(label_colours()[labels.cpu().numpy()])


def save_labels(labels: Int[Tensor, "H W"], path: str | Path, info: Info | None = None) -> Path:
    """Writes a label map as a PNG with the palette of :func:`label_colours`: its indices are the labels.

    Raises:
        OutputError: If the file cannot be written.
    """
    picture = Image.fromarray(labels.cpu().numpy().astype(np.uint8), "P")
    picture.putpalette(label_colours().tobytes())
    return save_picture(picture, path, info)
