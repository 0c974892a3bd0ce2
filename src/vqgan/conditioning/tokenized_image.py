"""A second picture of the same scene, as its own codes: depth, segmentation, edges, a blurred copy."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vqgan.conditioning.base import Conditioner, Grid
from vqgan.config import Config, Count
from vqgan.errors import ConfigError, require
from vqgan.tokenizer import (
    Tokenizer,
    TokenizerConfig,
    encode_within,
)
from vqgan.types import Condition, ConditionTokens, Images


class TokenizedImageConfig(Config, frozen=True, tag_field="kind", tag="tokenized_image"):
    """A picture, through a tokenizer, steers the prior.

    Attributes:
        codebook_size: Codes of the tokenizer.
        image: What the picture is called in a condition: ``depth``, ``segmentation``, ``image``.
        tokenizer: The tokenizer of such pictures; None means that the synthesizer's own is shared: it is
            stored once, and the pictures are of the kind that it was trained on.
    """

    codebook_size: Count
    image: str = "image"
    tokenizer: TokenizerConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.image.isidentifier(),
            f"`image` is `{self.image}`, expected a name of letters, digits and underscores",
        )

    @property
    def vocabulary_size(self) -> int:
        """One token for each code."""
        return self.codebook_size

    def num_tokens(self, grid: Grid) -> int:
        """One for each cell of the grid."""
        return grid[0] * grid[1]


class TokenizedImage(Conditioner):
    """The codes of a picture, one for each cell of the image's grid.

    Args:
        config: What the picture is, and its tokenizer.
        shared: The synthesizer's tokenizer, used where ``config`` has none. It stays the synthesizer's: its
            weights are not this module's, and moving the synthesizer moves it.

    Raises:
        ConfigError: If there is no tokenizer, or it has another number of codes.
    """

    is_spatial = True
    config: TokenizedImageConfig

    def __init__(self, config: TokenizedImageConfig, shared: Tokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.name = config.image
        self.tokenizer = None if config.tokenizer is None else Tokenizer(config.tokenizer)
        # In a tuple, so that it is not a submodule: its weights would be stored twice.
        self._shared: tuple[Tokenizer, ...] = () if shared is None else (shared,)
        require(
            self.tokenizer is not None or shared is not None,
            "`conditioner.tokenizer` is missing, and there is no tokenizer to share",
            hint="a condition that shares its tokenizer is built as a part of a synthesizer",
        )
        codes = self._encoder.codebook_size
        require(
            codes == config.codebook_size,
            f"`conditioner.codebook_size` is {config.codebook_size}, expected its tokenizer's {codes}",
        )

    @property
    def _encoder(self) -> Tokenizer:
        """The tokenizer of the pictures: its own or the shared one."""
        return self._shared[0] if self.tokenizer is None else self.tokenizer

    @torch.no_grad()
    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """The codes of the picture, in raster order; one picture serves all images, or one each.

        The value is a tensor: pictures (b c H W) with values in [-1, 1], or labels, for a tokenizer with a
        channel for each label: a map of integers (b H W), or one-hot (b c H W) of any type.

        Raises:
            ConfigError: If the picture does not have as many cells as the image, or does not fit its
                tokenizer.
        """
        height, width = (side * self._encoder.downsample_factor for side in grid)
        channels = self._encoder.image_channels
        value = self.required(
            condition,
            hint=f'give `condition={{"{self.name}": tensor}}` of the shape '
            f"({count}, {channels}, {height}, {width})",
        )
        pictures = self._pictures(value)
        if pictures.shape[0] not in (1, count) or pictures.shape[2:] != (height, width):
            raise ConfigError(
                f"`{self.name}` has {pictures.shape[0]} pictures of {pictures.shape[2]} x {pictures.shape[3]} "
                f"pixels, expected 1 or {count} of {height} x {width}",
                hint="give it the size of the image",
            )
        encode = (
            self._encoder.encode if memory is None else partial(encode_within, self._encoder, memory=memory)
        )
        return encode(pictures).flatten(1).expand(count, -1)

    def _pictures(self, value: Any) -> Images:
        """The value as floating-point pictures; labels become one-hot."""
        channels = self._encoder.image_channels
        if not isinstance(value, Tensor) or value.ndim not in (3, 4):
            what = (
                f"the shape {tuple(value.shape)}"
                if isinstance(value, Tensor)
                else f"the type `{type(value).__name__}`"
            )
            raise ConfigError(
                f"`{self.name}` has {what}, expected a tensor of pictures (b {channels} H W) "
                "or of labels (b H W)"
            )
        if value.ndim == 3:
            value = self._one_hot(value)
        require(
            value.shape[1] == channels,
            f"`{self.name}` has {value.shape[1]} channels, expected {channels}",
            hint="a segmentation has a channel for each label, a depth map one",
        )
        if not value.is_floating_point():
            is_one_hot = bool(((value == 0) | (value == 1)).all() and (value.sum(dim=1) == 1).all())
            require(
                is_one_hot,
                f"`{self.name}` holds {value.dtype} that is not one-hot",
                hint="give pictures as floating-point values in [-1, 1], and labels as a map (b H W)",
            )
            value = value.to(torch.float32)
        require(bool(value.isfinite().all()), f"`{self.name}` holds values that are not finite")
        return value

    def _one_hot(self, labels: Tensor) -> Tensor:
        """A map of labels (b H W) as (b c H W), 1 in the channel of each pixel's label."""
        channels = self._encoder.image_channels
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ConfigError(
                f"`{self.name}` is a map of {labels.dtype}, expected labels as integers",
                hint=f"give pictures as (b {channels} H W)",
            )
        low, high = (int(bound) for bound in labels.aminmax()) if labels.numel() else (0, 0)
        require(
            low >= 0 and high < channels,
            f"the labels of `{self.name}` range from {low} to {high}, expected 0 to {channels - 1}",
        )
        return F.one_hot(labels.to(torch.int64), channels).movedim(-1, 1).to(torch.float32)
