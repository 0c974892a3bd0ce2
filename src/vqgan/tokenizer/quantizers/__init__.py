"""The quantizers, and the choice between them by configuration."""

from typing import assert_never

from vqgan.tokenizer.quantizers.base import Quantizer
from vqgan.tokenizer.quantizers.gumbel import GumbelQuantizer, GumbelQuantizerConfig
from vqgan.tokenizer.quantizers.remap import RemapConfig
from vqgan.tokenizer.quantizers.sim import SimQuantizer, SimQuantizerConfig
from vqgan.tokenizer.quantizers.vector import VectorQuantizer, VectorQuantizerConfig

QuantizerConfig = VectorQuantizerConfig | SimQuantizerConfig | GumbelQuantizerConfig
"""The configuration of any quantizer."""


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """The quantizer that ``config`` describes, freshly initialised."""
    match config:
        case VectorQuantizerConfig():
            return VectorQuantizer(config)
        case SimQuantizerConfig():
            return SimQuantizer(config)
        case GumbelQuantizerConfig():
            return GumbelQuantizer(config)
        case _:
            assert_never(config)
