"""Pixels: between files and tensors, between grey and colour, from one size to another."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vqgan.errors import DataError, require

Pixels = UInt8[np.ndarray, "H W c"]
"""A decoded image: 0 to 255, one channel (grey), three (RGB), four (RGBA) or any number from an array."""

MAX_PIXELS = 64_000_000
"""Larger images are refused from their header, before anything is decoded; none is made larger."""

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Numbers of channels that a picture can have, and Pillow's names for them; other numbers come only from arrays."""


def from_array(array: np.ndarray, name: str) -> Pixels:
    """An image from an array: uint8 as it is, uint16 and floats in [0, 1] rounded to 8 bits.

    Args:
        array: Rows and columns, or rows, columns and channels.
        name: What messages call it.

    Raises:
        DataError: If the array has another type or shape, no values, or floats outside [0, 1].

    Example:
        >>> from_array(np.array([[0.0, 1.0]]), "ramp").tolist()
        [[[0], [255]]]
    """
    wanted = "expected an image (H W) or (H W c) of uint8, uint16 or floats in [0, 1]"
    if array.ndim not in (2, 3) or array.size == 0:
        raise DataError(f"{name} has shape {array.shape}, {wanted}")
    pixels = array if array.ndim == 3 else array[:, :, None]
    if array.dtype == np.uint8:
        return pixels
    if array.dtype.newbyteorder("=") == np.uint16:
        return np.rint(pixels / np.float32(257)).astype(np.uint8)
    if array.dtype.kind != "f":
        raise DataError(f"{name} holds values of type {array.dtype}, {wanted}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also where a value is not a number
        raise DataError(
            f"{name} holds values from {low:g} to {high:g}, {wanted}",
            hint="divide by the largest possible value, or save it as uint8 or uint16",
        )
    return np.rint(pixels.astype(np.float32) * 255).astype(np.uint8)


def to_float(pixels: UInt8[np.ndarray, "*b H W c"]) -> Float[Tensor, "*b c H W"]:
    """Pixels 0 to 255, channels last, as floats in [-1, 1], channels first.

    Example:
        >>> to_float(np.array([[[0], [255]]], dtype=np.uint8))
        tensor([[[-1.,  1.]]])
    """
    # In numpy, because it runs once for each image read: torch would wake its threads for a millisecond's work.
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3), dtype=np.float32) / 127.5 - 1)


def to_uint8(images: Float[Tensor, "*b c H W"]) -> UInt8[Tensor, "*b H W c"]:
    """Floats in [-1, 1], channels first, as rounded and clamped pixels, channels last; inverts `to_float`.

    Example:
        >>> to_uint8(torch.tensor([[[-1.5, 0.0, 1.0]]])).flatten()
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    values = (images.detach().to(torch.float32) + 1) * 127.5
    return values.round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).contiguous()


def with_channels(pixels: Pixels, channels: int, name: str = "it") -> UInt8[np.ndarray, "H W channels"]:
    """The image in grey (luma, ITU-R 601), RGB (transparency over white) or RGBA; unchanged where it already is.

    Raises:
        DataError: If it has another number of channels, or another is wanted.
    """
    count = pixels.shape[2]
    if count == channels:
        return pixels
    if count not in MODES or channels not in MODES:
        raise DataError(f"{name} has {count} channels, expected {channels}")
    picture = to_picture(pixels)
    return to_array(in_mode(opaque(picture) if count == 4 else picture, MODES[channels]))


def fit(
    pixels: Pixels, size: tuple[int, int], at: tuple[float, float] = (0.5, 0.5), scale: float = 0.0
) -> UInt8[np.ndarray, "rows columns c"]:
    """A part of an image that has the proportions of ``size``, resized to it with antialiasing.

    Only the part that is kept is resized, so an image of extreme proportions costs no more. When the image
    needs no resizing, the pixels are cut out exactly.

    Args:
        pixels: The image.
        size: Rows and columns of the result.
        at: Where the part lies along each axis: 0 is the top or left, 0.5 the centre, 1 the bottom or right.
        scale: Size of the resized image in sizes of ``pixels``: the larger, the smaller the part. At least what
            covers ``size``, so that by default the part is as large as it can be.

    Raises:
        ConfigError: If ``size`` has more than ``MAX_PIXELS``.
    """
    height, width, count = pixels.shape
    if count not in MODES:
        return np.concatenate([fit(pixels[:, :, i : i + 1], size, at, scale) for i in range(count)], axis=2)
    box = _part((height, width), size, at, scale)
    if box is None:
        return _whole_pixels(pixels, size, at)
    return to_array(to_picture(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))


def fit_map(
    values: np.ndarray, size: tuple[int, int], at: tuple[float, float] = (0.5, 0.5), scale: float = 0.0
) -> np.ndarray:
    """As :func:`fit`, of a map: pictures (uint8) as there, floats (H W 1) unrounded, labels (H W) by the nearest.

    Example:
        >>> fit_map(np.array([[0, 7], [7, 7]]), (4, 4)).tolist()[0]
        [0, 0, 7, 7]
    """
    if values.dtype == np.uint8 and values.ndim == 3:
        return fit(values, size, at, scale)
    box = _part((values.shape[0], values.shape[1]), size, at, scale)
    if box is None:
        return _whole_pixels(values, size, at)
    if values.dtype.kind == "f":
        picture = Image.fromarray(values[:, :, 0]).resize(
            (size[1], size[0]), Image.Resampling.BICUBIC, box=box
        )
        return np.array(picture)[:, :, None]
    left, top, right, bottom = box
    rows, columns = (
        np.floor(start + (np.arange(count) + 0.5) * ((end - start) / count))
        .astype(np.int64)
        .clip(0, side - 1)
        for start, end, count, side in (
            (top, bottom, size[0], len(values)),
            (left, right, size[1], values.shape[1]),
        )
    )
    return values[rows[:, None], columns]


def check_size(size: tuple[int, int]) -> None:
    """Raises ConfigError if an image of so many rows and columns is larger than any that is read."""
    what = f"an image of {size[0]}x{size[1]} pixels is asked for, expected at most {MAX_PIXELS // 10**6} megapixels"
    require(math.prod(size) <= MAX_PIXELS, what, hint="give a smaller size")


def _part(
    shape: tuple[int, int], size: tuple[int, int], at: tuple[float, float], scale: float
) -> tuple[float, float, float, float] | None:
    """The edges (left, top, right, bottom) of the part that is resized; None where it only is cut out."""
    height, width = shape
    check_size(size)
    scale = max(scale, size[0] / height, size[1] / width)
    if scale == 1:
        return None
    rows, columns = min(height, size[0] / scale), min(width, size[1] / scale)
    top_edge, left_edge = (height - rows) * at[0], (width - columns) * at[1]
    right, bottom = min(width, left_edge + columns), min(height, top_edge + rows)
    return left_edge, top_edge, float(right), float(bottom)


def _whole_pixels(values: np.ndarray, size: tuple[int, int], at: tuple[float, float]) -> np.ndarray:
    height, width = values.shape[:2]
    top, left = math.ceil((height - size[0]) * at[0] - 0.5), math.ceil((width - size[1]) * at[1] - 0.5)
    return values[top : top + size[0], left : left + size[1]]


def smaller(pixels: Pixels, longest: int) -> UInt8[np.ndarray, "rows columns c"]:
    """The image with its longer side at most ``longest``."""
    scale = longest / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return fit(pixels, (height, width)) if scale < 1 else pixels


def in_mode(picture: Image.Image, mode: str) -> Image.Image:
    """The picture in another of Pillow's modes; no copy is made where it already is."""
    return picture if picture.mode == mode else picture.convert(mode)


def opaque(picture: Image.Image) -> Image.Image:
    """The picture in RGB, over white where it is transparent."""
    canvas = Image.new("RGB", picture.size, "white")
    coloured = in_mode(picture, "RGBA")
    canvas.paste(coloured, mask=coloured)
    return canvas


def to_picture(pixels: Pixels) -> Image.Image:
    """The image as Pillow holds it, in a mode of ``MODES``: the first of two channels, the first three of many."""
    count = pixels.shape[2]
    return Image.fromarray(pixels[:, :, 0] if count < 3 else pixels if count in MODES else pixels[:, :, :3])


def to_array(picture: Image.Image) -> Pixels:
    """Inverts :func:`to_picture`, where it kept all channels."""
    width, height = picture.size
    pixels = np.empty((height, width, len(picture.getbands())), np.uint8)
    for top, strip in strips(picture):
        pixels[top : top + len(strip)] = strip.reshape(len(strip), width, -1)
    return pixels


def strips(picture: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """The values of a picture in groups of rows, each with the number of its first row.

    Copied whole, Pillow would hold the values of a large picture three times.
    """
    width, height = picture.size
    rows = max(1, (1 << 20) // width)
    for top in range(0, height, rows):
        whole = height <= rows
        yield top, np.asarray(picture if whole else picture.crop((0, top, width, min(height, top + rows))))
