"""From an image of any size to a training sample."""

from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vqgan.config import Config, require
from vqgan.images import Pixels, fit, to_float, with_channels


class TransformConfig(Config, frozen=True):
    """How an image becomes a tensor.

    Attributes:
        image_size: Rows and columns of the result.
        image_channels: 1 (grey) or 3 (RGB); images of the other kind are converted.
        crop: Which part is kept of an image whose proportions differ.
        flip: Mirrors every second image, on average.
    """

    image_size: tuple[int, int]
    image_channels: int
    crop: Literal["random", "center"]
    flip: bool

    def __post_init__(self) -> None:
        require(min(self.image_size) >= 1, f"`image_size` is {self.image_size}, expected at least (1, 1)")
        require(
            self.image_channels in (1, 3),
            f"`image_channels` is {self.image_channels}, expected 1 (grey) or 3 (RGB)",
        )


def transform(
    pixels: Pixels, config: TransformConfig, generator: np.random.Generator
) -> Float[Tensor, "channels rows columns"]:
    """Resizes an image so that it covers the target, crops it and perhaps mirrors it.

    An image of the target's size keeps its exact pixels. Nothing but ``generator`` decides what is random.

    Returns:
        Values in [-1, 1].
    """
    at = (generator.random(), generator.random()) if config.crop == "random" else (0.5, 0.5)
    pixels = with_channels(fit(pixels, config.image_size, at), config.image_channels)
    if config.flip and generator.random() < 0.5:
        pixels = pixels[:, ::-1].copy()
    return to_float(pixels)
