"""A class for each image, given by its number or its name: one token."""

import operator
from typing import Any

import torch
from torch import Tensor

from vqgan.conditioning.base import Conditioner, Grid
from vqgan.config import Config, Name, Natural
from vqgan.errors import ConfigError, closest, require
from vqgan.types import Condition, ConditionTokens

_SHOWN = 12
"""Names that a message lists."""


class ClassLabelConfig(Config, frozen=True, tag_field="kind", tag="class_label"):
    """One of a number of classes steers the prior.

    Attributes:
        num_classes: Number of classes, numbered from 0; 0 means as many as there are names.
        class_names: Their names in that order; empty means that they are taken from the data when training
            starts. A conditioner without either cannot be built.
        label: What it is called in a condition.
    """

    num_classes: Natural = 0
    class_names: tuple[str, ...] = ()
    label: Name = "class"

    def __post_init__(self) -> None:
        super().__post_init__()
        count, names = self.num_classes, len(self.class_names)
        require(
            0 in (count, names) or count == names,
            f"`class_names` has {names} names, expected `num_classes` = {count}",
        )
        doubled = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
        require(not doubled, f"class name `{doubled[0] if doubled else ''}` stands twice in `class_names`")

    @property
    def name(self) -> str:
        """The name of its value."""
        return self.label

    @property
    def vocabulary_size(self) -> int:
        """One token for each class."""
        return self.num_classes or len(self.class_names)

    def num_tokens(self, grid: Grid) -> int:
        """One, for every grid."""
        return 1


class ClassLabel(Conditioner):
    """The class's number as the one condition token."""

    is_spatial = False
    config: ClassLabelConfig

    def __init__(self, config: ClassLabelConfig) -> None:
        super().__init__(config)
        require(
            config.vocabulary_size >= 1,
            "there are no classes: `num_classes` is 0 and `class_names` is empty",
            hint="give one of them; training fills them from the data",
        )

    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """Classes from ``{"class": value}``: a number or a name, one for all images or one per image.

        Raises:
            ConfigError: If a class is unknown, or the number of values is neither 1 nor ``count``.
        """
        value = self.required(
            condition,
            hint=f'give `condition={{"{self.name}": 0}}`: {self.known}, one for all or one per image',
        )
        values = value.tolist() if hasattr(value, "tolist") else value
        values = list(values) if isinstance(values, list | tuple) else [values]
        if len(values) not in (1, count):
            raise ConfigError(
                f"`{self.name}` has {len(values)} values for {count} images, expected one for all or one per image"
            )
        device = value.device if isinstance(value, Tensor) else None
        numbers = torch.tensor([self._number(item) for item in values], device=device)
        return numbers[:, None].expand(count, 1)

    def _number(self, item: Any) -> int:
        names = self.config.class_names
        if isinstance(item, str):
            if item in names:
                return names.index(item)
            hint = closest(item, names) if names else f"give {self.known}"
            raise ConfigError(f"unknown {self.name} `{item}`", hint=hint)
        try:
            number = operator.index(item)
        except TypeError:
            raise ConfigError(
                f"{self.name} `{item}` is neither an integer nor a name", hint=f"give {self.known}"
            ) from None
        if not 0 <= number < self.config.vocabulary_size:
            raise ConfigError(f"{self.name} {number} does not exist", hint=f"give {self.known}")
        return number

    @property
    def known(self) -> str:
        """What a class may be, for messages."""
        numbers = f"a number from 0 to {self.config.vocabulary_size - 1}"
        names = [f"`{name}`" for name in self.config.class_names]
        shown = ", ".join([*names[:_SHOWN], *["..."] * (len(names) > _SHOWN)])
        return f"{numbers}, or a name ({shown})" if names else numbers
