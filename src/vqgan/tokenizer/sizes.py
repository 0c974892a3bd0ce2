"""Explicit ways to reach an image size that fits a token grid."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqgan.errors import ConfigError
from vqgan.types import Images


def crop_to_multiple(images: Images, factor: int) -> Float[Tensor, "b c H2 W2"]:
    """The centre of the images, as large as multiples of ``factor`` allow.

    Raises:
        ConfigError: If the images are smaller than ``factor``.
    """
    height, width = images.shape[2:]
    rows, columns = height // factor * factor, width // factor * factor
    if not rows or not columns:
        raise ConfigError(
            f"images of {height}x{width} pixels cannot be cropped to multiples of {factor}",
            hint="pad them with `pad_to_multiple`",
        )
    top, left = (height - rows) // 2, (width - columns) // 2
    return images[:, :, top : top + rows, left : left + columns]


def pad_to_multiple(images: Images, factor: int) -> tuple[Float[Tensor, "b c H2 W2"], tuple[int, int]]:
    """The images with their last row and column repeated up to multiples of ``factor``.

    Returns:
        The padded images and the size (H, W) from before: ``result[..., :H, :W]`` undoes the padding.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (0, -width % factor, 0, -height % factor), mode="replicate")
    return padded, (height, width)
