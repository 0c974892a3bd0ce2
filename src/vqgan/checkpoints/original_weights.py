"""Finds the model's weights in checkpoints of the original (CompVis/taming-transformers) and renames them."""

import logging
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vqgan.checkpoints.format import model_names
from vqgan.checkpoints.key_maps import PRIOR, TOKENIZER
from vqgan.checkpoints.tensors import below
from vqgan.conditioning import TokenizedImageConfig
from vqgan.errors import CheckpointError
from vqgan.prior.token_order import token_positions
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import TokenizerConfig

logger = logging.getLogger(__name__)

_FIRST_STAGE, _AVERAGE = "first_stage_model.", "model_ema."
_OF_ANOTHER = "check that the configuration beside the checkpoint belongs to it"


def find_part(
    tensors: Mapping[str, Tensor], *, first_stage: bool = False, where: str
) -> tuple[dict[str, Tensor], bool]:
    """The second stage with all its parts in a checkpoint, or else its tokenizer; the log names what is omitted.

    Args:
        tensors: All tensors of the file.
        first_stage: Whether only the tokenizer is wanted.
        where: What they come from, for messages.

    Returns:
        The tensors by their published names, without the prefixes of wrappers, and whether they are the
        running averages instead of the last weights.

    Raises:
        CheckpointError: If there are several models.
    """
    found = [] if first_stage else _prefixes(tensors, "transformer.tok_emb.weight")
    if not found:
        found = _prefixes(tensors, "encoder.conv_in.weight")
        for word in (
            _FIRST_STAGE,
            "ema",
        ):  # prefer the image's to a condition's, averages to the last weights
            found = [prefix for prefix in found if word in prefix] or found
    if len(found) > 1:
        raise CheckpointError(
            f"{where} holds several models, below {_shown(found)}: which one to use is ambiguous",
            hint="keep one of them in the file",
        )
    prefix = found[0] if found else ""
    flat = f"{prefix}{_AVERAGE}"
    inside = below(prefix, tensors)
    own = {key: tensor for key, tensor in inside.items() if not key.startswith(_AVERAGE)}
    others = sorted({key.split(".")[0] for key in tensors if not key.startswith(prefix)})
    if others:
        logger.info("taken from %s: `%s*`; omitted: %s", where, prefix, _shown(others))
    running = sorted({key.rpartition(".")[2] for key in own if key.endswith((".cluster_size", ".embed_avg"))})
    if running:
        what = "omitted from %s: the running averages of its codes, %s; in further training, gradients change codes"
        logger.info(what, where, _shown(running))
    # Some averages have names without dots.
    pairs = {key: inside.get(_AVERAGE + key.replace(".", "")) for key in own}
    averages = {key: tensor for key, tensor in pairs.items() if tensor is not None}
    if averages and all(key in averages for key in own if key.startswith(("encoder.", "decoder."))):
        logger.info("the weights of %s are the averaged ones, `%s*`, not the last ones", where, flat)
        return own | averages, True
    if len(own) < len(inside):
        logger.info("the weights of %s are the last ones; `%s*` does not average them all", where, flat)
    return own, "ema" in prefix


def _prefixes(tensors: Iterable[str], anchor: str) -> list[str]:
    """The prefixes of a name that every model of a kind has, one for each model."""
    ends = (key.removesuffix(anchor) for key in tensors if key.endswith(anchor))
    return sorted(prefix for prefix in ends if not prefix or prefix.endswith("."))


def _shown(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:8]) + (f" and {len(names) - 8} more" if names[8:] else "")


def model_state(
    state: Mapping[str, Tensor], config: TokenizerConfig | SynthesizerConfig, *, where: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a checkpoint of the original under our names, and those of its training networks.

    Raises:
        CheckpointError: If a key is not known, or a permutation is not the one of the configuration.
    """
    names = model_names(config, where)
    if isinstance(config, TokenizerConfig):
        return _first_stage(state, names, where)
    tokenizer = below("tokenizer.", names)
    first, training = _first_stage(below("first_stage_model.", state), tokenizer, where)
    result = {f"tokenizer.{name}": tensor for name, tensor in first.items()}
    parts = {"first_stage_model", "transformer", "permuter"}
    if isinstance(config.conditioner, TokenizedImageConfig):
        parts.add("cond_stage_model")
        own = below("conditioner.tokenizer.", names)
        condition, _ = _first_stage(below("cond_stage_model.", state), own or tokenizer, where)
        if config.conditioner.tokenizer is None:
            _check_copy(condition, first, where)
        else:
            result |= {f"conditioner.tokenizer.{name}": tensor for name, tensor in condition.items()}
    prior = PRIOR.rename(below("transformer.", state), below("prior.", names), where=where)
    result |= {f"prior.{name}": tensor for name, tensor in prior.items()}
    _check_order(state.get("permuter.forward_shuffle_idx"), config, where)
    if unknown := sorted({key.partition(".")[0] for key in state} - parts):
        shown = ", ".join(f"`{part}`" for part in unknown)
        raise CheckpointError(f"{where} holds unknown parts: {shown}", hint=_OF_ANOTHER)
    return result, training


def _first_stage(
    state: Mapping[str, Tensor], names: Iterable[str], where: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a first stage under our names, and those of its training networks."""
    training = {key: tensor for key, tensor in state.items() if key.startswith("loss.")}
    own = {key: tensor for key, tensor in state.items() if key not in training}
    return TOKENIZER.rename(own, names, where=where), training


def _check_copy(copy: Mapping[str, Tensor], first: Mapping[str, Tensor], where: str) -> None:
    """Raises CheckpointError if the two copies of a first stage that is used twice differ."""
    for name, tensor in copy.items():
        other = first.get(name)
        mapped_once = other is not None and tensor.data_ptr() == other.data_ptr()
        if other is None or not (mapped_once or torch.equal(tensor, other)):
            raise CheckpointError(
                f"{where} holds a condition's first stage that differs from the image's at `{name}`, "
                "but the configuration says that they are one",
                hint=_OF_ANOTHER,
            )


def _check_order(stored: Tensor | None, config: SynthesizerConfig, where: str) -> None:
    """Raises CheckpointError if the stored permutation is not the configured order."""
    rows, columns = config.window
    # Sizes first: a window from a file may be too large for memory.
    if stored is not None and not (
        stored.shape == (rows * columns,)
        and torch.equal(stored, token_positions(config.token_order, config.window))
    ):
        raise CheckpointError(f"{where} holds a different order of tokens than `{config.token_order}`")
