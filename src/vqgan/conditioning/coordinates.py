"""Where in the picture each token lies: one token per cell of the grid, so that a window knows its place."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vqgan.conditioning.base import Conditioner, Grid, PerCell
from vqgan.config import Count
from vqgan.errors import ConfigError
from vqgan.types import Condition, ConditionTokens


class CoordinatesConfig(PerCell, frozen=True, tag_field="kind", tag="coordinates"):
    """The position in the whole picture steers the prior.

    Attributes:
        num_values: How many different positions are told apart.
        downsample_factor: Pixels per token side, as the tokenizer has it.
    """

    num_values: Count
    downsample_factor: Count

    @property
    def vocabulary_size(self) -> int:
        """One token for each value."""
        return self.num_values


class Coordinates(Conditioner):
    """A map of coordinates in [0, 1], averaged over each cell and rounded to one of ``num_values`` values.

    The map runs in raster order over the whole picture, ``(row * W + column) / (H * W)`` for each pixel. The
    value 1.0 (which that map never reaches) would round to ``num_values``, one more than there are: it
    becomes the last value.
    """

    needs_value = False
    is_spatial = True
    config: CoordinatesConfig

    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """Tokens of the whole picture's coordinates, or of the map ``{"coordinates": (b 1 H W)}``.

        Give a map where an image is a part of a larger one; one map serves all images, or one each.

        Raises:
            ConfigError: If the map is not a tensor of that shape or leaves [0, 1].
        """
        height, width = (side * self.config.downsample_factor for side in grid)
        pixels = condition.get(self.name) if condition is not None else None
        if pixels is None:
            pixels = torch.arange(height * width).view(1, 1, height, width) / (height * width)
        elif not isinstance(pixels, Tensor):
            raise ConfigError(
                f"`coordinates` is of type `{type(pixels).__name__}`, expected a tensor (b 1 H W)"
            )
        if pixels.ndim != 4 or pixels.shape[0] not in (1, count) or pixels.shape[1:] != (1, height, width):
            raise ConfigError(
                f"`coordinates` has the shape {tuple(pixels.shape)}, "
                f"expected (1, 1, {height}, {width}) or ({count}, 1, {height}, {width})"
            )
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise ConfigError("`coordinates` leaves the range, expected 0 <= value <= 1")
        cells = F.avg_pool2d(pixels, self.config.downsample_factor).flatten(1)
        values = (cells * self.config.num_values).round().long().clamp(max=self.config.num_values - 1)
        return values.expand(count, -1)
