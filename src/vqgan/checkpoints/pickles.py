"""Reading PyTorch's pickles without running anything that stands in them."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqgan.errors import CheckpointError


class Inert:
    """Stands in for a class that a pickle names; it keeps nothing and does nothing."""

    def __setstate__(self, state: Any) -> None: ...


_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    (dict, "pytorch_lightning.utilities.parsing.AttributeDict"),
]


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch checkpoint: those under ``state_dict``, or all of a plain mapping of tensors.

    Raises:
        CheckpointError: If the file is damaged or needs more than tensors and plain values.
    """
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"`{path}` cannot be read as a checkpoint without running code: {reason}",
            hint="the file is damaged, or not a checkpoint of this kind",
        ) from None
    value = value.get("state_dict", value) if isinstance(value, dict) else {}
    return {str(key): tensor for key, tensor in value.items() if isinstance(tensor, Tensor)}
