"""Several conditions at once: their tokens stand one after the other."""

from collections.abc import Sequence

from torch import nn

from vqgan.conditioning.base import Conditioner, Grid
from vqgan.conditioning.class_label import ClassLabelConfig
from vqgan.conditioning.coordinates import CoordinatesConfig
from vqgan.conditioning.edges import EdgesConfig
from vqgan.conditioning.low_resolution import LowResolutionConfig
from vqgan.conditioning.palette import PaletteConfig
from vqgan.conditioning.scene_layout import SceneLayoutConfig
from vqgan.conditioning.text import TextConfig
from vqgan.conditioning.tokenized_image import TokenizedImageConfig
from vqgan.conditioning.unconditional import UnconditionalConfig
from vqgan.config import Config
from vqgan.errors import require
from vqgan.types import Condition, ConditionTokens, Images

SingleConfig = (
    UnconditionalConfig
    | ClassLabelConfig
    | CoordinatesConfig
    | EdgesConfig
    | LowResolutionConfig
    | PaletteConfig
    | TokenizedImageConfig
    | SceneLayoutConfig
    | TextConfig
)
"""Conditions that can steer by themselves."""


class SeveralConfig(Config, frozen=True, tag_field="kind", tag="several"):
    """Several conditions steer the prior together.

    Attributes:
        conditioners: Two or more, in the order of their tokens; each value has another name.
    """

    conditioners: tuple[SingleConfig, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [each.name for each in self.conditioners]
        require(
            len(names) >= 2 and "unconditional" not in names,
            f"`conditioners` are {self.name or 'none'}, expected two or more that have a value",
            hint="set `conditioner.kind` to that of a single one",
        )
        doubled = sorted({name for name in names if names.count(name) > 1})
        require(
            not doubled,
            f"two of the `conditioners` are called `{doubled[0] if doubled else ''}`",
            hint="of pictures, `image` is the name",
        )

    @property
    def name(self) -> str:
        """All names, to be shown: each part has its own value."""
        return ", ".join(each.name for each in self.conditioners)

    @property
    def vocabulary_size(self) -> int:
        """Those of all parts, one after the other."""
        return sum(each.vocabulary_size for each in self.conditioners)

    def num_tokens(self, grid: Grid) -> int:
        """Those of all parts."""
        return sum(each.num_tokens(grid) for each in self.conditioners)


class Several(Conditioner):
    """The tokens of several conditions.

    Args:
        config: What they are.
        members: The conditions themselves.
    """

    is_spatial = False  # as a whole; `lengths` says which parts are
    config: SeveralConfig

    def __init__(self, config: SeveralConfig, members: Sequence[Conditioner]) -> None:
        super().__init__(config)
        self.members = nn.ModuleList(members)
        self.vector_width = max(each.vector_width for each in members)

    @property
    def parts(self) -> Sequence[Conditioner]:
        """The single conditions."""
        return [each for each in self.members if isinstance(each, Conditioner)]

    def from_images(self, images: Images) -> Condition:
        """What images give for each part."""
        return {name: value for part in self.parts for name, value in part.from_images(images).items()}

    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """The tokens of each part's value, all values by name: ``{"class": 3, "segmentation": map}``.

        Raises:
            ConfigError: If the value of a part is missing or does not fit.
        """
        return self._joined(condition, count, grid, memory=memory)
