"""What steers the prior. A new kind is one file, one word in the union and one case in the builder."""

from typing import assert_never

from vqgan.conditioning.base import Conditioner
from vqgan.conditioning.class_label import ClassLabel, ClassLabelConfig
from vqgan.conditioning.coordinates import Coordinates, CoordinatesConfig
from vqgan.conditioning.unconditional import Unconditional, UnconditionalConfig

ConditionerConfig = UnconditionalConfig | ClassLabelConfig | CoordinatesConfig


def build_conditioner(config: ConditionerConfig) -> Conditioner:
    """The conditioner that ``config`` describes."""
    match config:
        case UnconditionalConfig():
            return Unconditional(config)
        case ClassLabelConfig():
            return ClassLabel(config)
        case CoordinatesConfig():
            return Coordinates(config)
        case _:
            assert_never(config)


__all__ = [
    "ClassLabel",
    "ClassLabelConfig",
    "Conditioner",
    "ConditionerConfig",
    "Coordinates",
    "CoordinatesConfig",
    "Unconditional",
    "UnconditionalConfig",
    "build_conditioner",
]
