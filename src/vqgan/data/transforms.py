"""From an image of any size to a training sample."""

from typing import Literal

import msgspec
import numpy as np
from jaxtyping import Float
from torch import Tensor

from vqgan.config import Config, Count
from vqgan.errors import require
from vqgan.images import Pixels, fit, to_float, with_channels

Resize = int | tuple[int, int] | Literal["cover"] | None
"""What an image is resized to before the crop: its shorter side, a range of it, just enough, or not at all."""


class Framing(Config, frozen=True):
    """Which part of an image becomes a sample, and of which size.

    Attributes:
        image_size: Rows and columns of the result.
        crop: Which part is kept of an image whose proportions differ.
        resize: The length of the shorter side before the crop, or a range from which a length is drawn for each
            sample: of photographs of 4000 pixels, a crop at 512 shows details and not the whole. ``"cover"``
            takes the smallest that holds the crop, none the image's own. Where the crop would not fit, the
            image is enlarged.
        flip: Mirrors every second image, on average.
    """

    image_size: tuple[int, int]
    crop: Literal["random", "center"] = "random"
    resize: Resize = "cover"
    flip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(min(self.image_size) >= 1, f"`image_size` is {self.image_size}, expected at least (1, 1)")
        lengths = self.lengths() or (1, 1)
        require(
            1 <= lengths[0] <= lengths[1],
            f"`resize` is {self.resize}, expected a length of at least 1, or the shortest and the longest",
        )

    def lengths(self) -> tuple[int, int] | None:
        """The shortest and the longest shorter side that ``resize`` names, if it names any."""
        if self.resize is None or self.resize == "cover":
            return None
        return self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)


class TransformConfig(Framing, frozen=True, kw_only=True):
    """How an image becomes a tensor.

    Attributes:
        image_channels: 1 (grey), 3 (RGB) or 4 (RGBA), to which images are converted; others only arrays have.
    """

    image_channels: Count

    def without_chance(self) -> "TransformConfig":
        """The same for images that are looked at, not trained on: the centre at the middle of the lengths."""
        lengths = self.lengths()
        resize = self.resize if lengths is None else sum(lengths) // 2
        return msgspec.structs.replace(self, crop="center", flip=False, resize=resize)

    def smallest_side(self) -> int | None:
        """How long the shorter side of a decoded image must be, half as long again as is used; None: as it is."""
        return None if self.resize is None else 3 * max(*self.image_size, *(self.lengths() or ())) // 2


def transform(
    pixels: Pixels, config: TransformConfig, generator: np.random.Generator
) -> Float[Tensor, "channels rows columns"]:
    """Resizes an image as ``config.resize`` says, crops it and perhaps mirrors it.

    An image of the target's size keeps its exact pixels. Nothing but ``generator`` decides what is random.

    Returns:
        Values in [-1, 1].
    """
    at = (generator.random(), generator.random()) if config.crop == "random" else (0.5, 0.5)
    scale, lengths = 0.0 if config.resize == "cover" else 1.0, config.lengths()
    if lengths is not None:
        low, high = lengths
        length = low if low == high else int(generator.integers(low, high + 1))
        scale = length / min(pixels.shape[:2])
    pixels = with_channels(fit(pixels, config.image_size, at, scale), config.image_channels)
    if config.flip and generator.random() < 0.5:
        pixels = pixels[:, ::-1].copy()
    return to_float(pixels)
