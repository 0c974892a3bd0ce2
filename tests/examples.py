"""A small valid configuration of every member of the unions; the contract tests build each.

A member that is missing here fails them: add a line with it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vqgan.conditioning import (
    ClassLabelConfig,
    CoordinatesConfig,
    SceneLayoutConfig,
    TokenizedImageConfig,
    UnconditionalConfig,
)
from vqgan.tokenizer import AutoencoderConfig, TokenizerConfig, VectorQuantizerConfig
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig

DEPTH_TOKENIZER = TokenizerConfig(
    autoencoder=AutoencoderConfig(
        image_channels=1,
        base_channels=64,
        channel_multipliers=(1,),
        num_residual_blocks=1,
        latent_channels=4,
        resolution=8,
        attention_resolutions=(),
        patch_size=2,
    ),
    quantizer=VectorQuantizerConfig(codebook_size=8, codebook_dim=4),
)
"""Pictures of one channel, two pixels for each side of a token."""

EXAMPLES: dict[type, Callable[[Path], Any]] = {
    VectorQuantizerConfig: lambda folder: VectorQuantizerConfig(codebook_size=16, codebook_dim=4),
    GumbelQuantizerConfig: lambda folder: GumbelQuantizerConfig(codebook_size=16, codebook_dim=4),
    UnconditionalConfig: lambda folder: UnconditionalConfig(),
    ClassLabelConfig: lambda folder: ClassLabelConfig(num_classes=3, class_names=("cat", "dog", "fox")),
    CoordinatesConfig: lambda folder: CoordinatesConfig(num_values=8, downsample_factor=2),
    TokenizedImageConfig: lambda folder: TokenizedImageConfig(codebook_size=8, tokenizer=DEPTH_TOKENIZER),
    SceneLayoutConfig: lambda folder: SceneLayoutConfig(
        num_classes=3,
        max_objects=2,
        vocabulary_size=16,
        encode_crop=True,
        use_group=True,
        use_additional=False,
    ),
}
"""By class; what a source reads may be written into the folder."""


def example(kind: type, folder: Path) -> Any:
    """The example of one class."""
    return EXAMPLES[kind](folder)
