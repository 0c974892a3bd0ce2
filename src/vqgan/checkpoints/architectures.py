"""The architectures of the published models: each can be built, and its key list checked, without its weights.

Sizes are those of the published configurations and of Esser et al. 2021, table 8.
"""

from typing import Any

from vqgan.checkpoints.zoo import TokenizerSizes, find_entry
from vqgan.conditioning import ConditionerConfig
from vqgan.config import convert, to_mapping
from vqgan.prior import PriorConfig
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import AutoencoderConfig, TokenizerConfig
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig, QuantizerConfig, VectorQuantizerConfig

_SIDE = 16
"""Of the window of every published prior, in tokens."""


def tokenizer_config(sizes: TokenizerSizes) -> TokenizerConfig:
    """A first stage for 256x256 pixels, 128 channels at full size and two residual blocks at each level."""
    quantizer: QuantizerConfig
    if sizes.gumbel:
        quantizer = GumbelQuantizerConfig(codebook_size=sizes.codes, codebook_dim=sizes.codebook_dim)
    else:
        quantizer = VectorQuantizerConfig(
            codebook_size=sizes.codes,
            codebook_dim=sizes.codebook_dim,
            normalize=sizes.normalize,
            loss_convention="paper" if sizes.normalize else "original",
        )
    lowest = 256 >> (len(sizes.multipliers) - 1)
    autoencoder = AutoencoderConfig(
        image_channels=sizes.channels,
        base_channels=128,
        channel_multipliers=sizes.multipliers,
        num_residual_blocks=2,
        latent_channels=sizes.latent_channels,
        resolution=256,
        attention_resolutions=(lowest,) if sizes.attention else (),
    )
    return TokenizerConfig(autoencoder=autoencoder, quantizer=quantizer)


def model_config(name: str) -> TokenizerConfig | SynthesizerConfig:
    """What a published model is.

    Raises:
        ConfigError: If no published model of that name is known.
    """
    entry = find_entry(name)
    tokenizer = tokenizer_config(entry.tokenizer)
    if entry.prior is None:
        return tokenizer
    condition = dict(entry.condition)
    if entry.condition_tokenizer is not None:
        condition["tokenizer"] = to_mapping(tokenizer_config(entry.condition_tokenizer))
    conditioner: Any = convert(condition, ConditionerConfig, where=f"the condition of `{name}`")
    tokens = conditioner.num_tokens((_SIDE, _SIDE))
    prior = PriorConfig(
        codebook_size=entry.tokenizer.codes,
        condition_size=conditioner.vocabulary_size,
        # Published contexts have room for all tokens, of which the last is never fed; a single one in front
        # takes its place.
        context_length=_SIDE**2 + (tokens if tokens > 1 else 0),
        depth=entry.prior.depth,
        width=entry.prior.width,
        num_heads=entry.prior.num_heads,
        dropout=entry.prior.dropout,
        vocabulary="shared",
    )
    return SynthesizerConfig(tokenizer=tokenizer, conditioner=conditioner, prior=prior, window=(_SIDE, _SIDE))
