"""What every conditioner promises."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.config import Config
from vqgan.errors import ConfigError, require
from vqgan.types import Condition, ConditionTokens, Images, PartLengths, PerWindow, behind, lengths_on

Grid = tuple[int, int]
"""Rows and columns of the token grid."""


@runtime_checkable
class ConditionSizes(Protocol):
    """What the configuration of every conditioner tells."""

    @property
    def name(self) -> str:
        """The key under which the value stands in a condition: ``{"class": 3}``."""

    @property
    def vocabulary_size(self) -> int:
        """How many different tokens there are; they are numbered from 0."""

    def num_tokens(self, grid: Grid) -> int:
        """How many tokens the condition of an image with this token grid has (at least 1)."""


class PerCell(Config, frozen=True):
    """The configuration of a condition with one token for each cell; its value is called as its kind is."""

    @property
    def name(self) -> str:
        """The name of its value."""
        return str(self.__struct_config__.tag)

    def num_tokens(self, grid: Grid) -> int:
        """One for each cell of the grid."""
        return grid[0] * grid[1]


class Conditioner(nn.Module, ABC):
    """Turns what the user asks for into the tokens that stand in front of the image's tokens.

    Attributes:
        is_spatial: Whether there is one token for each cell of the image's grid, in raster order; such tokens
            are cut out together with the grid where a window slides over a large image.
        follows_window: Whether a window on a large image has tokens of its own, for each place where it may lie.
        needs_value: Whether a condition must name a value; others have their tokens without one.
        vector_width: Of the vectors that tokens below 0 stand for; 0 if there are none.
        config: What it is, and how many tokens it has.
    """

    is_spatial: bool
    follows_window: bool = False
    needs_value: bool = True
    vector_width: int = 0
    config: ConditionSizes

    def __init__(self, config: ConditionSizes) -> None:
        super().__init__()
        self.config = config

    @property
    def name(self) -> str:
        """The key under which its value stands in a condition."""
        return self.config.name

    @property
    def parts(self) -> Sequence["Conditioner"]:
        """The conditions whose tokens follow each other: itself, unless it holds several."""
        return (self,)

    @property
    def lengths(self) -> PartLengths:
        """How many tokens each part has."""
        return tuple(
            None
            if part.is_spatial
            else (PerWindow if part.follows_window else int)(part.config.num_tokens((1, 1)))
            for part in self.parts
        )

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

    def vectors(self, condition: Condition | None) -> Float[Tensor, "rows width"] | None:
        """What the tokens below 0 of this condition stand for, -1 for the last; at most one part has such, a text."""
        found = (part.vectors(condition) for part in self.parts if part is not self)
        return next((each for each in found if each is not None), None)

    def in_windows(
        self, condition: Condition | None, count: int, grid: Grid, window: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """As :meth:`tokens`, where a window of that size slides over the grid: in raster order those of its places."""
        return self.tokens(condition, count, grid, memory=memory)

    def from_images(self, images: Images) -> Condition:
        """The condition that images themselves give, by name, as large as they are; by default nothing.

        In training, it takes the place of values that the data does not have.
        """
        return {}

    def null_tokens(self, count: int, grid: Grid, window: Grid | None = None) -> ConditionTokens:
        """Tokens that say that nothing steers: a number beyond the vocabulary for each part."""
        lengths = torch.tensor(lengths_on(self.lengths, grid, window))
        numbers = self.config.vocabulary_size + torch.arange(len(lengths))
        return numbers.repeat_interleave(lengths).expand(count, -1)

    def asked(
        self,
        condition: Condition | None,
        count: int,
        grid: Grid,
        *,
        memory: int,
        has_null: bool,
        window: Grid | None = None,
    ) -> ConditionTokens:
        """As :meth:`tokens`, for what a user asks for: other names are refused.

        Args:
            condition: As there.
            count: As there.
            grid: As there.
            memory: As there.
            has_null: Whether null tokens stand for a value that is missing.
            window: Of what size it is, if one slides over the grid.

        Raises:
            ConfigError: As there; or if there is a value of another name.
        """
        names = [part.name for part in self.parts]
        require(
            condition is None or isinstance(condition, Mapping),
            f"`condition` is {condition!r}, expected a mapping by name",
            hint=f'write `condition={{"{names[0]}": ...}}`',
        )
        unknown = sorted(set(condition or {}) - set(names))
        require(
            not unknown,
            f"this model does not know the condition `{unknown[0] if unknown else ''}`",
            hint="it is steered by: " + ", ".join(f"`{name}`" for name in names),
        )
        return self._joined(condition, count, grid, memory=memory, has_null=has_null, window=window)

    def _joined(
        self,
        condition: Condition | None,
        count: int,
        grid: Grid,
        *,
        memory: int | None,
        has_null: bool = False,
        window: Grid | None = None,
    ) -> ConditionTokens:
        """The tokens of all parts; each counts on from the vocabulary of those before it."""
        lengths = lengths_on(self.lengths, grid, window)
        nulls, first = self.null_tokens(count, grid, window).split(lengths, dim=1), 0
        found = []
        for part, null in zip(self.parts, nulls, strict=True):
            if has_null and part.needs_value and (condition or {}).get(part.name) is None:
                found.append(null)
            else:
                tokens = part.in_windows(condition, count, grid, window or grid, memory=memory)
                found.append(behind(tokens, first))
            first += part.config.vocabulary_size
        device = next((each.device for each in found if each.device.type != "cpu"), found[0].device)
        return torch.cat([each.to(device, non_blocking=device.type == "cuda") for each in found], dim=1)

    def required(self, condition: Condition | None, *, hint: str) -> Any:
        """The value under this conditioner's name; raises ConfigError with ``hint`` if there is none."""
        if condition is None or condition.get(self.name) is None:
            raise ConfigError(f"the condition `{self.name}` is missing", hint=hint)
        return condition[self.name]
