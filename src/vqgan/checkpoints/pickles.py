"""Reading PyTorch's pickles without running anything that stands in them."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqgan.checkpoints.pickle_scan import COPY_AGAIN, ZIP_START, check_names, foreign_names
from vqgan.checkpoints.tensors import refuse_pointer
from vqgan.errors import CheckpointError, printable


class Inert:
    """Stands in for a class that a pickle names; it keeps nothing and does nothing."""

    def __setstate__(self, state: Any) -> None: ...


_STAND_INS: list[tuple[Callable[..., Any], str]] = [
    (Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    (Inert, "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor"),
    (Inert, "main.SetupCallback"),
    (Inert, "main.ImageLogger"),
    (Inert, "argparse.Namespace"),
    (dict, "pytorch_lightning.utilities.parsing.AttributeDict"),
]

_MAX_SHARED = 4
"""How many names may share the same bytes, on average: an averaged copy and a shared first stage are two."""


@dataclass(frozen=True)
class Pickled:
    """What a checkpoint holds.

    Attributes:
        tensors: By their names in the file; mapped, not read, where the file allows it.
        step: The optimizer steps that it tells of, else 0.
        averaged: Whether they are the running averages that the file keeps beside the last weights.
    """

    tensors: dict[str, Tensor]
    step: int = 0
    averaged: bool = False


def is_pickle(path: Path) -> bool:
    """Whether the file begins as PyTorch's checkpoints do: a zip archive, or a pickle of protocol 2 or later."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return False
    return start == ZIP_START or start[:1] == b"\x80"


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch checkpoint, as :func:`read_checkpoint` finds them."""
    return read_checkpoint(path).tensors


def read_checkpoint(path: Path) -> Pickled:
    """A PyTorch checkpoint: the tensors under ``state_dict``, ``ema`` or ``model``, or all of a plain mapping of them.

    Raises:
        CheckpointError: If the file is damaged or needs more than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(
            f"cannot read `{path}`: there is no such file, or it is none", hint="check the path"
        )
    refuse_pointer(path)
    wanted = foreign_names(path, [name for _, name in _STAND_INS])
    if wanted:
        raise CheckpointError(
            f"`{path}` cannot be read as a checkpoint without running code: it names "
            f"{', '.join(f'`{printable(name[:100])}`' for name in wanted[:5])}; nothing was run",
            hint="only checkpoints of tensors and plain values are read",
        )
    try:
        # Files older than PyTorch 1.6 are no zip archives; only those can be mapped.
        with (
            path.open("rb") as file,
            warnings.catch_warnings(),
            torch.serialization.safe_globals([*_STAND_INS]),
        ):
            mapped = file.read(4) == ZIP_START
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged pickle can fail in any way; none of them is a mistake of ours
        reason = printable(" ".join(str(error).split())[:200])
        cut = isinstance(error, EOFError) or "EOF" in reason
        raise CheckpointError(
            f"`{path}` cannot be read as a checkpoint: {'it is not complete' if cut else reason}",
            hint=COPY_AGAIN if cut else "the file is damaged, or not a checkpoint of this kind",
        ) from None
    found = value
    for key in ("model", "ema", "state_dict"):  # the last one that is there counts
        if isinstance(value, dict) and (
            isinstance(value.get(key), dict) or (key == "state_dict" and key in value)
        ):
            found = value[key]
    if not isinstance(found, dict):
        raise CheckpointError(
            f"`{path}` holds {type(found).__name__}, expected tensors by name",
            hint="give a checkpoint of a model",
        )
    step = value.get("global_step", 0) if isinstance(value, dict) else 0
    tensors = {str(key): tensor for key, tensor in found.items() if isinstance(tensor, Tensor)}
    _check_memory(path, tensors)
    averaged = isinstance(value, dict) and found is value.get("ema")
    return Pickled(tensors, step if isinstance(step, int) and 0 <= step < 1 << 63 else 0, averaged)


def _check_memory(path: Path, tensors: dict[str, Tensor]) -> None:
    """Raises CheckpointError unless the tensors lie in the file: views can repeat a few bytes without end."""
    total = 0
    check_names(path, tensors)
    for name, tensor in tensors.items():
        stored, announced = tensor.untyped_storage().nbytes(), tensor.numel() * tensor.element_size()
        total += announced
        if announced > stored:
            raise CheckpointError(
                f"`{path}` cannot be read as a checkpoint: the tensor `{printable(name[:100])}` announces "
                f"{announced:,} bytes and has {stored:,}",
                hint="the file is damaged",
            )
    size = path.stat().st_size
    if total > _MAX_SHARED * size:
        raise CheckpointError(
            f"`{path}` cannot be read as a checkpoint: its tensors announce {total:,} bytes in a file of {size:,}",
            hint="the file is damaged",
        )
