"""A second picture of the same scene, as its own codes: depth, segmentation, edges, a blurred copy."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from vqgan.conditioning.base import Conditioner, Grid, PerCell
from vqgan.conditioning.pictures import as_pictures
from vqgan.config import Name, Natural
from vqgan.errors import ConfigError, require
from vqgan.tokenizer import (
    Tokenizer,
    TokenizerConfig,
    encode_within,
)
from vqgan.types import Condition, ConditionTokens, check_indices


class TokenizedImageConfig(PerCell, frozen=True, tag_field="kind", tag="tokenized_image"):
    """A picture, through a tokenizer, steers the prior.

    Attributes:
        codebook_size: Codes of the tokenizer; 0 means that training takes it from the one that is shared.
        image: What the picture is called in a condition: ``depth``, ``segmentation``, ``image``.
        tokenizer: The tokenizer of such pictures; None means that the synthesizer's own is shared: it is
            stored once, and the pictures are of the kind that it was trained on.
    """

    codebook_size: Natural = 0
    image: Name = "image"
    tokenizer: TokenizerConfig | None = None

    @property
    def name(self) -> str:
        """What the picture is called."""
        return self.image

    @property
    def vocabulary_size(self) -> int:
        """One token for each code."""
        return self.codebook_size


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
        super().__init__(config)
        self.tokenizer = None if config.tokenizer is None else Tokenizer(config.tokenizer)
        # In a tuple, so that it is not a submodule: its weights would be stored twice.
        self._shared: tuple[Tokenizer, ...] = () if shared is None else (shared,)
        require(
            self.tokenizer is not None or shared is not None,
            "`conditioner.tokenizer` is missing, and there is no tokenizer to share",
            hint="a condition that shares its tokenizer is built as a part of a synthesizer",
        )
        codes = self.encoder.codebook_size
        require(
            codes == config.codebook_size,
            f"`conditioner.codebook_size` is {config.codebook_size}, expected its tokenizer's {codes}",
        )

    @property
    def encoder(self) -> Tokenizer:
        """The tokenizer of the pictures: its own or the shared one."""
        return self._shared[0] if self.tokenizer is None else self.tokenizer

    @torch.no_grad()
    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """The codes of the picture, in raster order; one picture serves all images, or one each.

        The value is a tensor: pictures (b c H W) with values in [-1, 1], or labels, for a tokenizer with a
        channel for each label: a map of integers (b H W), or one-hot (b c H W) of any type. Integers with one number
        for each cell (b h w) are the codes themselves, if a cell has more than one pixel.

        Raises:
            ConfigError: If the picture does not have as many cells as the image, or does not fit its
                tokenizer.
        """
        height, width = (side * self.encoder.downsample_factor for side in grid)
        channels = self.encoder.image_channels
        value = self.required(
            condition,
            hint=f'give `condition={{"{self.name}": tensor}}` of the shape '
            f"({count}, {channels}, {height}, {width})",
        )
        if _is_codes(value, count, grid) and (height, width) != grid:
            check_indices(value, self.encoder.codebook_size)
            return value.flatten(1).expand(count, -1)
        pictures = as_pictures(value, self.name, channels=channels, labels=channels)
        if pictures.shape[0] not in (1, count) or pictures.shape[2:] != (height, width):
            raise ConfigError(
                f"`{self.name}` has {pictures.shape[0]} pictures of {pictures.shape[2]} x {pictures.shape[3]} "
                f"pixels, expected 1 or {count} of {height} x {width}",
                hint="give it the size of the image",
            )
        encode = (
            self.encoder.encode if memory is None else partial(encode_within, self.encoder, memory=memory)
        )
        return encode(pictures).flatten(1).expand(count, -1)


def _is_codes(value: Any, count: int, grid: Grid) -> bool:
    """Whether this is a grid of integers for all images, or one for each."""
    return (
        isinstance(value, Tensor)
        and value.shape in ((1, *grid), (count, *grid))
        and not (value.is_floating_point() or value.dtype == torch.bool)
    )
