"""Image sizes that fit a token grid, and the explicit ways to reach one."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqgan.errors import ConfigError
from vqgan.types import Images


def grid_size(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """The token grid (h, w) of images of ``size`` (H, W).

    Raises:
        ConfigError: If height or width is not a positive multiple of ``factor``.

    Example:
        >>> grid_size((256, 384), 16)
        (16, 24)
    """
    height, width = size
    if min(size) < 1 or height % factor or width % factor:
        raise ConfigError(
            f"images of {height}x{width} pixels do not fit the tokenizer; "
            f"height and width must be multiples of {factor}",
            hint=next_sizes(size, factor),
        )
    return height // factor, width // factor


def next_sizes(size: tuple[int, int], factor: int) -> str:
    """A hint: the nearest sizes whose sides are multiples of ``factor``.

    Example:
        >>> next_sizes((18, 16), 8), next_sizes((5, 8), 8)
        ('the next sizes are 16x16 and 24x16', 'the next size is 8x8')
    """
    smaller = "x".join(str(max(1, side // factor) * factor) for side in size)
    larger = "x".join(str(max(1, -(-side // factor)) * factor) for side in size)
    return f"the next size is {larger}" if smaller == larger else f"the next sizes are {smaller} and {larger}"


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
