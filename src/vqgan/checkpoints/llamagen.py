"""Tokenizers of LlamaGen (``VQ-16``, ``VQ-8``): no file describes their sizes, the tensors' shapes do."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from vqgan.checkpoints.format import build_model, check_keys, shapes_of
from vqgan.checkpoints.inference import first_stage
from vqgan.checkpoints.key_maps import LLAMAGEN_KEYS, rename
from vqgan.checkpoints.taming import model_config
from vqgan.config import to_mapping
from vqgan.tokenizer import TokenizerConfig, VectorQuantizerConfig


def is_llamagen(names: Iterable[str]) -> bool:
    """Whether the names of the tensors are those of a LlamaGen tokenizer, whatever stands before them all."""
    return any(name.endswith("encoder.conv_blocks.0.res.0.conv1.weight") for name in names)


def llamagen_config(state: Mapping[str, Tensor], *, where: str = "the checkpoint") -> TokenizerConfig:
    """The configuration of a LlamaGen tokenizer, from the shapes of its tensors.

    Codes are compared at length 1: that is so in all published tokenizers, and cannot be seen in the tensors.

    Args:
        state: Its tensors by their published names.
        where: What the tensors come from, for messages.

    Raises:
        CheckpointError: If a tensor that tells a size is missing or has a shape that cannot be.
    """
    words = {".conv_blocks.": ".down.", ".res.": ".block.", ".mid.1.": ".mid.attn_1."}
    shapes = shapes_of(state)
    for theirs, original in words.items():
        shapes = {key.replace(theirs, original): shape for key, shape in shapes.items()}
    config = model_config(first_stage(shapes, where=where), {}, where=where)
    assert isinstance(config, TokenizerConfig)
    codes, width = config.quantizer.codebook_size, config.quantizer.codebook_dim
    quantizer = VectorQuantizerConfig(codebook_size=codes, codebook_dim=width, normalize=True)
    return TokenizerConfig(autoencoder=config.autoencoder, quantizer=quantizer)


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
    config = llamagen_config(state, where=where)
    found = rename(state, LLAMAGEN_KEYS, num_levels=len(config.autoencoder.channel_multipliers))
    wanted = build_model("tokenizer", to_mapping(config), where=where).state_dict()
    check_keys(shapes_of(wanted), shapes_of(found), where=where, what="tokenizer")
    return config, found
