"""Which tensors of another program's checkpoint are the model: wrappers, outer models and averaged copies."""

import logging
from collections.abc import Iterable, Mapping

from torch import Tensor

from vqgan.errors import CheckpointError

logger = logging.getLogger(__name__)

_TOKENIZER, _PRIOR = "encoder.conv_in.weight", "transformer.tok_emb.weight"
_STAGE, _AVERAGE = "first_stage_model.", "model_ema."
_RUNNING = (".cluster_size", ".embed_avg")


def find_part(
    tensors: Mapping[str, Tensor], *, first_stage: bool = False, where: str
) -> tuple[dict[str, Tensor], bool]:
    """The second stage with all its parts in a checkpoint, or else its tokenizer; the log names what is left out.

    Args:
        tensors: All tensors of the file.
        first_stage: Whether only the tokenizer is wanted.
        where: What they come from, for messages.

    Returns:
        The tensors by their published names, without what wrappers put before them, and whether they are the
        running averages that the file holds beside the last weights.

    Raises:
        CheckpointError: If several models may be meant.
    """
    found = [] if first_stage else _prefixes(tensors, _PRIOR)
    if not found:
        found = _prefixes(tensors, _TOKENIZER)
        for word in (_STAGE, "ema"):  # the image's before a condition's, averages before the last weights
            found = [prefix for prefix in found if word in prefix] or found
    if len(found) > 1:
        raise CheckpointError(
            f"{where} holds several models, below {_shown(found)}: which one is meant cannot be told",
            hint="keep one of them in the file",
        )
    prefix = found[0] if found else ""
    flat = f"{prefix}{_AVERAGE}"
    inside = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    own = {key: tensor for key, tensor in inside.items() if not key.startswith(_AVERAGE)}
    others = sorted({key.split(".")[0] for key in tensors if not key.startswith(prefix)})
    if others:
        logger.info("taken from %s: `%s*`; left out: %s", where, prefix, _shown(others))
    running = sorted({key.rpartition(".")[2] for key in own if key.endswith(_RUNNING)})
    if running:
        what = "left out of %s: the running averages of its codes, %s; in further training, gradients change codes"
        logger.info(what, where, _shown(running))
    # Averages of one kind have names without dots.
    pairs = {key: inside.get(_AVERAGE + key.replace(".", "")) for key in own}
    averages = {key: tensor for key, tensor in pairs.items() if tensor is not None}
    if averages and all(key in averages for key in own if key.startswith(("encoder.", "decoder."))):
        logger.info("the weights of %s are the averaged ones, `%s*`, not the last ones", where, flat)
        return own | averages, True
    if len(own) < len(inside):
        logger.info("the weights of %s are the last ones; `%s*` does not average them all", where, flat)
    return own, "ema" in prefix


def _prefixes(tensors: Iterable[str], anchor: str) -> list[str]:
    """What stands before a name that every model of a kind has, once for each model."""
    ends = (key.removesuffix(anchor) for key in tensors if key.endswith(anchor))
    return sorted(prefix for prefix in ends if not prefix or prefix.endswith("."))


def _shown(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:8]) + (f" and {len(names) - 8} more" if names[8:] else "")
