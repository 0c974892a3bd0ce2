"""Pictures with words above them, in rows: the figure of a report."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from vqgan.images import Pixels
from vqgan.images.pixels import to_picture

_GAP, _LETTERS, _LEAST = 4, 12, 96
"""Pixels between pictures; height of letters; the least width of a picture: smaller ones are enlarged."""


ORANGE, BLUE, RED = (255, 150, 0), (60, 150, 255), (255, 0, 80)
"""What is marked in a picture."""


def enlarged(pixels: Pixels) -> UInt8[np.ndarray, "R C c"]:
    """A picture by the whole factor by which a figure enlarges it; what is then drawn into it is as fine as letters."""
    factor = -(-_LEAST // pixels.shape[1])
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def figure(rows: Sequence[Mapping[str, Pixels]]) -> UInt8[np.ndarray, "R C 3"]:
    """Rows of pictures of one size on white, each below its label.

    Small pictures are enlarged by a whole factor, so that labels fit and single pixels stay visible.

    Args:
        rows: For each row the pictures by their labels; rows may have different lengths.
    """
    first = next(iter(rows[0].values()))
    factor = -(-_LEAST // first.shape[1])
    height, width = (factor * side for side in first.shape[:2])
    font = ImageFont.load_default(_LETTERS)
    across, down = width + _GAP, height + _LETTERS + 2 * _GAP
    size = max(map(len, rows)) * across + _GAP, len(rows) * down + _GAP
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for number, row in enumerate(rows):
        for place, (label, pixels) in enumerate(row.items()):
            left, top = _GAP + place * across, _GAP + number * down
            draw.text((left, top), label, fill="black", font=font)
            picture = to_picture(pixels).convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(picture, (left, top + _LETTERS + _GAP))
    return np.asarray(canvas)
