"""What steers the prior. A new kind is one file, one word in a union and one case in the builder."""

from collections.abc import Sequence
from typing import assert_never

from vqgan.conditioning.base import Conditioner
from vqgan.conditioning.class_label import ClassLabel, ClassLabelConfig
from vqgan.conditioning.coordinates import Coordinates, CoordinatesConfig
from vqgan.conditioning.edges import Edges, EdgesConfig
from vqgan.conditioning.encoded_text import EncodedText
from vqgan.conditioning.low_resolution import LowResolution, LowResolutionConfig
from vqgan.conditioning.palette import Palette, PaletteConfig
from vqgan.conditioning.scene_layout import SceneLayout, SceneLayoutConfig
from vqgan.conditioning.several import Several, SeveralConfig, SingleConfig
from vqgan.conditioning.text import Text, TextConfig
from vqgan.conditioning.tokenized_image import TokenizedImage, TokenizedImageConfig
from vqgan.conditioning.unconditional import Unconditional, UnconditionalConfig
from vqgan.layout import Layout, SceneObject
from vqgan.tokenizer import Tokenizer

ConditionerConfig = SingleConfig | SeveralConfig


def parts_of(config: ConditionerConfig) -> tuple[SingleConfig, ...]:
    """The single conditions of which one consists."""
    return config.conditioners if isinstance(config, SeveralConfig) else (config,)


def joined(parts: Sequence[SingleConfig]) -> ConditionerConfig:
    """The condition that consists of these single ones."""
    return parts[0] if len(parts) == 1 else SeveralConfig(conditioners=tuple(parts))


def build_conditioner(config: ConditionerConfig, tokenizer: Tokenizer | None = None) -> Conditioner:
    """The conditioner that ``config`` describes.

    Args:
        config: What to build; the weights of a tokenizer of its own are freshly initialised.
        tokenizer: The synthesizer's, for conditions that share it.

    Raises:
        ConfigError: If the parts do not fit, or a tokenizer to share is needed and not given.
    """
    match config:
        case UnconditionalConfig():
            return Unconditional(config)
        case ClassLabelConfig():
            return ClassLabel(config)
        case CoordinatesConfig():
            return Coordinates(config)
        case EdgesConfig():
            return Edges(config)
        case LowResolutionConfig():
            return LowResolution(config, tokenizer)
        case PaletteConfig():
            return Palette(config)
        case TokenizedImageConfig():
            return TokenizedImage(config, tokenizer)
        case SceneLayoutConfig():
            return SceneLayout(config)
        case TextConfig():
            return EncodedText(config) if config.encoder else Text(config)
        case SeveralConfig():
            return Several(config, [build_conditioner(each, tokenizer) for each in config.conditioners])
        case _:
            assert_never(config)
