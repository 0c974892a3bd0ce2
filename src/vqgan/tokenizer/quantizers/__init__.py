"""The quantizers, and the choice between them by configuration."""

from typing import assert_never

from vqgan.tokenizer.quantizers.base import Quantizer
from vqgan.tokenizer.quantizers.vector import VectorQuantizer, VectorQuantizerConfig

QuantizerConfig = VectorQuantizerConfig
"""The configuration of any quantizer."""

__all__ = ["Quantizer", "QuantizerConfig", "VectorQuantizer", "VectorQuantizerConfig", "build_quantizer"]


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """The quantizer that ``config`` describes, freshly initialised."""
    match config:
        case VectorQuantizerConfig():
            return VectorQuantizer(config)
        case _:
            assert_never(config)
