"""Weights of the original (CompVis/taming-transformers) under our names, all of them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vqgan.checkpoints.key_maps import PRIOR_KEYS, TOKENIZER_KEYS, rename
from vqgan.conditioning import TokenizedImageConfig
from vqgan.errors import CheckpointError
from vqgan.prior.token_order import token_positions
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import TokenizerConfig


def model_state(
    state: Mapping[str, Tensor], config: TokenizerConfig | SynthesizerConfig, *, where: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a checkpoint of the original under our names, and those of its training networks.

    Raises:
        CheckpointError: If a key is not known, or a permutation is not the one of the configuration.
    """
    if isinstance(config, TokenizerConfig):
        training = {key: tensor for key, tensor in state.items() if key.startswith("loss.")}
        own = {key: tensor for key, tensor in state.items() if key not in training}
        return rename(own, TOKENIZER_KEYS, where=where), training
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    first, training = model_state(parts.pop("first_stage_model", {}), config.tokenizer, where=where)
    result = {f"tokenizer.{name}": tensor for name, tensor in first.items()}
    if isinstance(config.conditioner, TokenizedImageConfig):
        shared = config.conditioner.tokenizer is None
        described = config.conditioner.tokenizer or config.tokenizer
        own, _ = model_state(parts.pop("cond_stage_model", {}), described, where=where)
        if shared:
            _check_copy(own, first, where)
        else:
            result |= {f"conditioner.tokenizer.{name}": tensor for name, tensor in own.items()}
    result |= {
        f"prior.{name}": tensor
        for name, tensor in rename(parts.pop("transformer", {}), PRIOR_KEYS, where=where).items()
    }
    _check_order(parts.pop("permuter", {}), config, where)
    if parts:
        raise CheckpointError(
            f"{where} holds parts that are not known: {', '.join(f'`{part}`' for part in parts)}",
            hint="check that the configuration beside the checkpoint belongs to it",
        )
    return result, training


def _check_copy(copy: Mapping[str, Tensor], first: Mapping[str, Tensor], where: str) -> None:
    """Raises CheckpointError if the second copy of a first stage that is used twice is another one."""
    for name, tensor in copy.items():
        other = first.get(name)
        is_same = other is not None and tensor.shape == other.shape
        if (
            not is_same
            or other is None
            or not (tensor.data_ptr() == other.data_ptr() or torch.equal(tensor, other))
        ):
            raise CheckpointError(
                f"{where} holds a condition's first stage that differs from the image's at `{name}`, "
                "but the configuration says that they are one",
                hint="check that the configuration beside the checkpoint belongs to it",
            )


def _check_order(buffers: Mapping[str, Tensor], config: SynthesizerConfig, where: str) -> None:
    """Raises CheckpointError if the stored permutation is another than the one that the configuration names."""
    stored = buffers.get("forward_shuffle_idx")
    if stored is None:
        return
    rows, columns = config.window
    # Sizes first: the order of a window that only a file claims may not fit into memory.
    if stored.shape != (rows * columns,) or not torch.equal(
        stored, token_positions(config.token_order, config.window)
    ):
        raise CheckpointError(f"{where} holds another order of tokens than `{config.token_order}`")
