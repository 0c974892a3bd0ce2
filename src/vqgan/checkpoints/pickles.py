"""Reading PyTorch's pickles without running anything that stands in them."""

import zipfile
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
        # Files older than PyTorch 1.6 are no zip archives; only those can be mapped.
        mapped = zipfile.is_zipfile(path)
        with torch.serialization.safe_globals(_STAND_INS):
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged pickle can fail in any way; none of them is a mistake of ours
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"`{path}` cannot be read as a checkpoint without running code: {type(error).__name__} {reason}",
            hint="the file is damaged, or not a checkpoint of this kind",
        ) from None
    found = value.get("state_dict", value) if isinstance(value, dict) else value
    if not isinstance(found, dict):
        raise CheckpointError(
            f"`{path}` holds {type(found).__name__}, expected tensors by name",
            hint="give a checkpoint of a model",
        )
    return {str(key): tensor for key, tensor in found.items() if isinstance(tensor, Tensor)}
