"""Tokenizers of LlamaGen (``VQ-16``, ``VQ-8``): no file describes their sizes, the tensors' shapes do."""

import itertools
from collections.abc import Mapping

from torch import Tensor

from vqgan.checkpoints.format import build_model, check_keys, shapes_of
from vqgan.checkpoints.key_maps import LLAMAGEN_KEYS, rename
from vqgan.config import to_mapping
from vqgan.errors import CheckpointError, ConfigError
from vqgan.tokenizer import AutoencoderConfig, TokenizerConfig, VectorQuantizerConfig

_RESOLUTION = 256
"""Side of the images that the published tokenizers were trained on."""


def is_llamagen(state: Mapping[str, Tensor]) -> bool:
    """Whether the names of the tensors are those of a LlamaGen tokenizer."""
    return "encoder.conv_blocks.0.res.0.conv1.weight" in state and "quantize.embedding.weight" in state


def llamagen_config(state: Mapping[str, Tensor]) -> TokenizerConfig:
    """The configuration of a LlamaGen tokenizer, from the shapes of its tensors.

    Attention stands at the lowest level, and codes are compared at length 1: that is so in both published
    tokenizers, and the second cannot be seen in the tensors.

    Args:
        state: Its tensors by their published names.

    Raises:
        CheckpointError: If a tensor that tells a size is missing or has a shape that cannot be.
    """
    try:
        entry, code = state["encoder.conv_in.weight"].shape, state["quantize.embedding.weight"].shape
        widths = [
            state[f"encoder.conv_blocks.{level}.res.0.conv1.weight"].shape[0]
            for level in _count(state, "encoder.conv_blocks.{}.res.0.conv1.weight")
        ]
        blocks = len(_count(state, "encoder.conv_blocks.0.res.{}.conv1.weight"))
        uneven = [width for width in widths if width % entry[0]]
        if uneven:
            raise ConfigError(f"a level is {uneven[0]} channels wide, expected a multiple of {entry[0]}")
        lowest = max(1, _RESOLUTION >> (len(widths) - 1))
        return TokenizerConfig(
            autoencoder=AutoencoderConfig(
                image_channels=entry[1],
                base_channels=entry[0],
                channel_multipliers=tuple(width // entry[0] for width in widths),
                num_residual_blocks=blocks,
                latent_channels=state["encoder.conv_out.weight"].shape[0],
                resolution=lowest << max(0, len(widths) - 1),
                attention_resolutions=(lowest,),
            ),
            quantizer=VectorQuantizerConfig(codebook_size=code[0], codebook_dim=code[1], normalize=True),
        )
    except (KeyError, IndexError, ZeroDivisionError) as error:
        reason = f"no tensor {error}" if isinstance(error, KeyError) else "a tensor has an impossible shape"
        raise CheckpointError(
            f"these are not the weights of a LlamaGen tokenizer: {reason}",
            hint="give the file of a tokenizer, such as `vq_ds16_c2i.pt`",
        ) from None
    except ConfigError as error:
        raise CheckpointError(
            f"this LlamaGen tokenizer cannot be built: {error.message}", hint=error.hint
        ) from None


def read_llamagen(
    state: Mapping[str, Tensor], *, where: str = "the checkpoint"
) -> tuple[TokenizerConfig, dict[str, Tensor]]:
    """The configuration of a LlamaGen tokenizer, and exactly the tensors of its model by our names.

    Args:
        state: Its tensors by their published names, as they stand under ``ema`` or ``model`` in the pickle.
        where: What the tensors come from, for messages.

    Raises:
        CheckpointError: If the tensors do not tell a configuration, or do not fit the one that they tell.
    """
    config = llamagen_config(state)
    found = rename(state, LLAMAGEN_KEYS, num_levels=len(config.autoencoder.channel_multipliers))
    wanted = build_model("tokenizer", to_mapping(config), where=where).state_dict()
    check_keys(shapes_of(wanted), shapes_of(found), where=where, what="tokenizer")
    return config, found


def _count(state: Mapping[str, Tensor], name: str) -> list[int]:
    """The numbers 0, 1, ... for which there is a tensor of that name."""
    return list(itertools.takewhile(lambda number: name.format(number) in state, itertools.count()))
