"""What a user gives as a picture of the scene: floating-point pictures, or labels."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vqgan.conditioning.base import Grid
from vqgan.errors import ConfigError, require
from vqgan.images import shift_hint


def as_pictures(value: Any, name: str, *, channels: int | None, labels: int) -> Float[Tensor, "b _ H W"]:
    """The value as floating-point pictures; labels become one-hot.

    Args:
        value: Pictures (b c H W), one-hot labels of any type (b c H W), or a map of integer labels (b H W).
        name: What messages call it.
        channels: Of pictures; None allows any number.
        labels: How many there are.

    Raises:
        ConfigError: If it is none of these, holds other labels, or values that are not finite.
    """
    shown = "c" if channels is None else channels
    if not isinstance(value, Tensor) or value.ndim not in (3, 4):
        what = (
            f"the shape {tuple(value.shape)}"
            if isinstance(value, Tensor)
            else f"the type `{type(value).__name__}`"
        )
        raise ConfigError(
            f"`{name}` has {what}, expected a tensor of pictures (b {shown} H W) or of labels (b H W)"
        )
    if value.ndim == 3:
        return _one_hot(value, name, labels, hint=f"give pictures as (b {shown} H W)")
    require(
        channels in (None, value.shape[1]),
        f"`{name}` has {value.shape[1]} channels, expected {channels}",
        hint="a segmentation has a channel for each label, a depth map one",
    )
    if not value.is_floating_point():
        is_one_hot = bool(((value == 0) | (value == 1)).all() and (value.sum(dim=1) == 1).all())
        require(
            is_one_hot,
            f"`{name}` holds {value.dtype} that is not one-hot",
            hint="give pictures as floating-point values in [-1, 1], and labels as a map (b H W)",
        )
        value = value.to(torch.float32)
    require(bool(value.isfinite().all()), f"`{name}` holds values that are not finite")
    return value


def _one_hot(labels: Tensor, name: str, count: int, *, hint: str) -> Tensor:
    """A map of labels (b H W) as (b count H W), 1 in the channel of each pixel's label."""
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ConfigError(f"`{name}` is a map of {labels.dtype}, expected labels as integers", hint=hint)
    low, high = (int(bound) for bound in labels.aminmax()) if labels.numel() else (0, 0)
    require(
        low >= 0 and high < count,
        f"the labels of `{name}` range from {low} to {high}, expected 0 to {count - 1}",
        hint=shift_hint(high, count),
    )
    return F.one_hot(labels.to(torch.int64), count).movedim(-1, 1).to(torch.float32)


def check_cells(pictures: Tensor, name: str, count: int, grid: Grid) -> None:
    """Raises ConfigError unless these are 1 or ``count`` pictures (b _ H W) that fit the grid: with square cells."""
    (number, height, width), (rows, columns) = (pictures.shape[0], *pictures.shape[2:]), grid
    side = height // rows
    require(
        number in (1, count) and side >= 1 and (height, width) == (rows * side, columns * side),
        f"`{name}` has {number} pictures of {height} x {width} pixels, expected 1 or {count} with the same number of "
        f"pixels in each of {rows} x {columns} square cells",
        hint="give it the size of the image",
    )
