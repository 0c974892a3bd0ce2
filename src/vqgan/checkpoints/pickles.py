"""Reads PyTorch's pickles without running code from them.

A pickle's instructions are scanned before any is followed.
"""

import io
import mmap
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqgan.checkpoints.tensors import COPY_AGAIN, check_names, refuse_pointer, refused, start_of
from vqgan.errors import CheckpointError, printable

ZIP_START = b"PK\x03\x04"

_KNOWN = re.compile(
    r"collections\.OrderedDict|(builtins|__builtin__)\.set|torch\.(Size|device|nn\.parameter\.Parameter)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter)|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\.(Double|Float|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
    r"|torch\.(float(16|32|64)|bfloat16|u?int(8|16|32|64)|bool)"
)
"""The names that tensors need. PyTorch allows more (functions that take memory or time), which no model needs."""

_MAX_INSTRUCTIONS = 2_000_000
"""A checkpoint takes about 35 for each tensor; two million take some seconds."""

_MAX_IN_TUPLE = 10_000

_MAX_PICKLES = 5
"""Files older than PyTorch 1.6 begin with this many pickles, then come bytes."""


class Inert:
    """Replaces a class that a pickle names; it keeps nothing and does nothing."""

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
"""How many names may share the same bytes on average; an averaged copy and a shared first stage make two."""


@dataclass(frozen=True)
class Pickled:
    """What a checkpoint holds.

    Attributes:
        tensors: By their names in the file; mapped, not read, where the file allows it.
        step: The stored number of optimizer steps, else 0.
        averaged: Whether they are running averages instead of the last weights.
    """

    tensors: dict[str, Tensor]
    step: int = 0
    averaged: bool = False


def is_pickle(path: Path) -> bool:
    """Whether the file begins as PyTorch's checkpoints do: a zip archive, or a pickle of protocol 2 or later."""
    start = start_of(path, 4)
    return start == ZIP_START or start[:1] == b"\x80"


def read_checkpoint(path: Path) -> Pickled:
    """A PyTorch checkpoint: the tensors under ``state_dict``, ``ema`` or ``model``, or all of a plain mapping of them.

    Raises:
        CheckpointError: If the file is damaged or needs more than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(
            f"cannot read `{path}`: there is no such file, or it is a folder", hint="check the path"
        )
    refuse_pointer(path)
    _refuse_code(path)
    try:
        # Files older than PyTorch 1.6 are no zip archives; only those can be mapped.
        mapped = start_of(path, 4) == ZIP_START
        with warnings.catch_warnings(), torch.serialization.safe_globals([*_STAND_INS]):
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged pickle can fail in any way
        reason = printable(" ".join(str(error).split())[:200])
        cut = isinstance(error, EOFError) or "EOF" in reason
        raise (refused(path, "it is not complete", COPY_AGAIN) if cut else refused(path, reason)) from None
    top = value if isinstance(value, dict) else {}
    found = top.get("state_dict", value)
    if "state_dict" not in top:
        found = next((top[key] for key in ("ema", "model") if isinstance(top.get(key), dict)), value)
    if not isinstance(found, dict):
        raise CheckpointError(
            f"`{path}` holds {type(found).__name__}, expected tensors by name",
            hint="give a checkpoint of a model",
        )
    tensors = {str(key): tensor for key, tensor in found.items() if isinstance(tensor, Tensor)}
    _check_memory(path, tensors)
    step = top.get("global_step", 0)
    known = isinstance(step, int) and 0 <= step < 1 << 63
    return Pickled(tensors, step if known else 0, averaged=found is top.get("ema"))


def _check_memory(path: Path, tensors: dict[str, Tensor]) -> None:
    """Raises CheckpointError unless the tensors fit into the file: views can repeat a few bytes endlessly."""
    total = 0
    check_names(path, tensors)
    for name, tensor in tensors.items():
        stored, announced = tensor.untyped_storage().nbytes(), tensor.numel() * tensor.element_size()
        total += announced
        if announced > stored:
            what = f"the tensor `{printable(name[:100])}` announces"
            raise refused(path, f"{what} {announced:,} bytes and has {stored:,}", "the file is damaged")
    size = path.stat().st_size
    if total > _MAX_SHARED * size:
        what = f"its tensors announce {total:,} bytes in a file of {size:,}"
        raise refused(path, what, "the file is damaged")


def _refuse_code(path: Path) -> None:
    """Raises CheckpointError if a checkpoint names a class or a function that is not a part of tensors.

    It is a zip archive of PyTorch's, or pickles in a row, as old files are. The same error is raised for a file that
    is damaged, or made to exhaust its reader.
    """
    names: set[str] = set()
    is_damaged = False
    try:
        with path.open("rb") as file:
            if file.read(4) == ZIP_START:
                _scan(io.BytesIO(_pickle_of_archive(path)), names, path)
            else:
                # Mapped: announced lengths take no memory beyond the file's own.
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    for _ in range(_MAX_PICKLES):
                        _scan(mapped, names, path)
                        if mapped.tell() == len(mapped):
                            break
    except (ValueError, LookupError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError):
        is_damaged = True
    harmless = {name for _, name in _STAND_INS}
    code = sorted(name for name in names - harmless if not _KNOWN.fullmatch(name))
    if code:  # more useful than where the file ends
        raise CheckpointError(
            f"`{path}` cannot be read as a checkpoint without running code: it names "
            f"{', '.join(f'`{printable(name[:100])}`' for name in code[:5])}; nothing was run",
            hint="only checkpoints of tensors and plain values are read",
        )
    if is_damaged:  # an incomplete download or copy is the likeliest reason
        raise refused(path, "it is not complete, or damaged", COPY_AGAIN)


def _pickle_of_archive(path: Path) -> bytes:
    """The pickle in a zip archive that is as PyTorch writes them: one folder, and nothing compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        for name in names:
            parts = re.split(r"[/\\]", name)
            if ".." in parts or not parts[0] or ":" in parts[0]:
                raise refused(path, f"the archive names {name[:100]!a}, which leads out of it")
        if len(set(names)) < len(names):
            raise refused(path, "the archive holds a file twice")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise refused(path, "the archive is compressed, which PyTorch's are not")
        announced, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if announced > size:
            raise refused(path, f"the archive announces {announced:,} bytes and has {size:,}")
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len({name.split("/")[0] for name in names}) != 1:
            raise refused(path, "the archive is not laid out as PyTorch's are: one folder with a `data.pkl`")
        return archive.read(pickles[0])


def _scan(file: Any, found: set[str], path: Path) -> None:
    """Adds the names in one pickle to ``found`` and limits the size of its tuples, nested parts included.

    Tuples can be keys: hashing a small pickle's tuples of tuples of tuples can take forever, or overflow the stack.
    """
    # A model of the pickle's stack: the size of a tuple, a text, None for a mark, 1 for the rest.
    stack: list[int | str | None] = []
    memo: dict[int, int | str | None] = {}
    for number, (code, argument, _) in enumerate(pickletools.genops(file)):
        if number > _MAX_INSTRUCTIONS:
            raise refused(path, f"its pickle has more than {_MAX_INSTRUCTIONS:,} instructions")
        if code.name in ("GLOBAL", "INST"):
            found.add(".".join(str(argument).split(" ")))
        elif code.name == "STACK_GLOBAL":
            found.add(".".join(str(part) for part in stack[-2:]))
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
            continue
        if code.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(argument))])
            continue
        if code.name == "DUP":
            stack.append(stack[-1])
            continue
        taken = _pop(stack, code)
        size = 1
        if "TUPLE" in code.name:
            size += sum(part for part in taken if isinstance(part, int))
            if size > _MAX_IN_TUPLE:
                raise refused(path, f"its pickle has a tuple of more than {_MAX_IN_TUPLE:,} parts")
        for kind in code.stack_after:
            text = isinstance(argument, str) and kind.name == "str"
            stack.append(None if kind is pickletools.markobject else argument if text else size)


def _pop(stack: list[int | str | None], code: pickletools.OpcodeInfo) -> list[int | str | None]:
    """Pops what an instruction takes from the stack, down to the mark if it takes a variable number."""
    if pickletools.markobject not in code.stack_before:
        return [stack.pop() for _ in code.stack_before]
    taken: list[int | str | None] = []
    while (top := stack.pop()) is not None:
        taken.append(top)
    if code.stack_before[0] is not pickletools.markobject:
        stack.pop()
    return taken
