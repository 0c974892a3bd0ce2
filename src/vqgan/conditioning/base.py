"""What every conditioner promises."""

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

from torch import nn

from vqgan.errors import ConfigError
from vqgan.types import Condition, ConditionTokens, Images

Grid = tuple[int, int]
"""Rows and columns of the token grid."""


@runtime_checkable
class ConditionSizes(Protocol):
    """What the configuration of every conditioner tells."""

    @property
    def vocabulary_size(self) -> int:
        """How many different tokens there are; they are numbered from 0."""

    def num_tokens(self, grid: Grid) -> int:
        """How many tokens the condition of an image with this token grid has (at least 1)."""


class Conditioner(nn.Module, ABC):
    """Turns what the user asks for into the tokens that stand in front of the image's tokens.

    Attributes:
        name: The key under which its value stands in a condition: ``{"class": 3}``.
        is_spatial: Whether there is one token for each cell of the image's grid, in raster order; such tokens
            are cut out together with the grid where a window slides over a large image.
        config: What it is, and how many tokens it has.
    """

    name: str
    is_spatial: bool
    config: ConditionSizes

    @abstractmethod
    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """The condition of ``count`` images as tokens.

        Args:
            condition: Values by name, one for all images or one per image. Other names are ignored: data may
                carry more than this conditioner uses.
            count: Number of images.
            grid: Rows and columns of the images' token grid.
            memory: Bytes beside the weights, for a condition that must be encoded; by default as much as it takes.

        Raises:
            ConfigError: If the value is missing or does not fit; the message names what would.
        """

    def from_images(self, images: Images) -> Condition:
        """The condition that images themselves give, by name, as large as they are; by default nothing.

        In training, it takes the place of values that the data does not have.
        """
        return {}

    def required(self, condition: Condition | None, *, hint: str) -> Any:
        """The value under this conditioner's name; raises ConfigError with ``hint`` if there is none."""
        if condition is None or condition.get(self.name) is None:
            raise ConfigError(f"the condition `{self.name}` is missing", hint=hint)
        return condition[self.name]
