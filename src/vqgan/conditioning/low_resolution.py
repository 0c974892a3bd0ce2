"""A small copy of the image, which the prior learns to enlarge."""

from typing import Annotated

import torch
from torch.nn import functional as F

from vqgan.conditioning.base import Conditioner, Grid, PerCell
from vqgan.conditioning.pictures import as_pictures
from vqgan.conditioning.tokenized_image import TokenizedImage, TokenizedImageConfig
from vqgan.config import Bounds, Natural
from vqgan.errors import require
from vqgan.tokenizer import Tokenizer
from vqgan.types import Condition, ConditionTokens, Images


class LowResolutionConfig(PerCell, frozen=True, tag_field="kind", tag="low_resolution"):
    """The image itself, ``factor`` times smaller, steers the prior.

    Attributes:
        factor: Rows and columns of the image for each of the small copy.
        codebook_size: Codes of the model's tokenizer, which encodes the copy; 0 means that training takes it from
            there. A conditioner cannot be built without.
    """

    factor: Annotated[int, Bounds("at least 2", lambda value: value >= 2)] = 4
    codebook_size: Natural = 0

    @property
    def vocabulary_size(self) -> int:
        """One token for each code."""
        return self.codebook_size


class LowResolution(Conditioner):
    """The codes of the small copy, enlarged to squares of one colour, by the model's tokenizer.

    Args:
        config: How small.
        shared: The synthesizer's tokenizer, as :class:`TokenizedImage` shares it.

    Raises:
        ConfigError: If there is no tokenizer, or it has another number of codes.
    """

    is_spatial = True
    config: LowResolutionConfig

    def __init__(self, config: LowResolutionConfig, shared: Tokenizer | None) -> None:
        super().__init__(config)
        pictures = TokenizedImageConfig(codebook_size=config.codebook_size, image=self.name)
        self.pictures = TokenizedImage(pictures, shared)

    def from_images(self, images: Images) -> Condition:
        """The images: pictures are made small first."""
        return {self.name: images}

    @torch.no_grad()
    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """The codes of the small copies of pictures, in raster order; one picture serves all images, or one each.

        The value is a tensor (b c H W) with values in [-1, 1] of any size in the proportions of the image: larger
        pictures are averaged over areas, smaller ones are taken for small copies.

        Raises:
            ConfigError: If it is none, has other proportions, or does not fit the tokenizer.
        """
        channels, factor = self.pictures.encoder.image_channels, self.config.factor
        height, width = (side * self.pictures.encoder.downsample_factor for side in grid)
        small = max(1, height // factor), max(1, width // factor)
        value = self.required(
            condition,
            hint=f'give `condition={{"{self.name}": tensor}}` of the shape '
            f"({count}, {channels}, {small[0]}, {small[1]})",
        )
        pictures = as_pictures(value, self.name, channels=channels, labels=channels)
        sides = (pictures.shape[2], pictures.shape[3])
        require(
            sides == small or (sides[0] >= 1 and sides[0] * width == sides[1] * height),
            f"`{self.name}` has pictures of {sides[0]} x {sides[1]} pixels, expected the proportions of the image, "
            f"{height} x {width}",
            hint=f"crop it; a small copy has {small[0]} x {small[1]} pixels",
        )
        # Adaptive pooling averages areas, and repeats pixels where the result is larger.
        enlarged = F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(pictures, small), (height, width))
        return self.pictures.tokens({self.name: enlarged}, count, grid, memory=memory)
