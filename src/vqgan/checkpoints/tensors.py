"""Files of named tensors: complete or absent after writing, checked before reading."""

import json
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vqgan.errors import CheckpointError, printable, reason_of
from vqgan.output_files import replace_file

MAX_HEADER_BYTES = 100_000_000
"""The safetensors specification's own limit; a larger header is not read."""

COPY_AGAIN = "copy or download the file again"
"""The hint where a file is damaged."""

_MAX_NAME = 500
_POINTER = b"version https://git-lfs"

Shapes = dict[str, tuple[int, ...]]
"""Name to shape of every tensor, in the file's order."""

T = TypeVar("T")


def below(prefix: str, named: Mapping[str, T]) -> dict[str, T]:
    """The entries below a prefix, without it.

    Example:
        >>> below("a.", {"a.x": 1, "b.x": 2})
        {'x': 1}
    """
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def check_names(path: Path, names: Iterable[str]) -> None:
    """Raises CheckpointError if a tensor's name is not printable: names are shown on terminals."""
    for name in names:
        if not name.isprintable() or len(name) > _MAX_NAME:
            raise refused(path, f"a tensor is called `{printable(name[:100])}`")


def refused(
    path: Path, reason: str, hint: str = "the file is damaged, or not a checkpoint of this kind"
) -> CheckpointError:
    """The error for a file that is damaged or malicious."""
    return CheckpointError(f"`{path}` cannot be read as a checkpoint: {reason}", hint=hint)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file that is complete or absent.

    Raises:
        OutputError: If the file cannot be written; nothing is left behind.
    """
    own: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        # Tensors that share memory are stored once for each name: a file must not depend on shared memory.
        start = plain.untyped_storage().data_ptr()
        own[name] = plain.clone() if start in memory else plain
        memory.add(start)

    def write(temporary: Path) -> None:
        # safetensors renames a file of its own into place that only its owner may read.
        temporary.touch()
        mode = temporary.stat().st_mode
        # Without tensors and with empty metadata safetensors 0.8 writes a header that it cannot read.
        try:
            save_file(own, temporary, metadata=dict(metadata) or None)
        except SafetensorError as error:
            number = re.search(r"\(os error (\d+)\)", str(error))  # only its message has the number
            raise OSError(*([int(number[1])] if number else []), str(error)) from None
        _sort_metadata(temporary, metadata)
        temporary.chmod(mode)

    replace_file(path, write)


def _sort_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Puts the metadata in order: safetensors varies it, and equal models must give equal files."""
    with path.open("r+b") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
        described = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
        described |= {key: value for key, value in json.loads(header).items() if key != "__metadata__"}
        text = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
        file.seek(8)
        file.write(text.ljust(len(header)))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, memory-mapped: changing them never changes the file.

    Raises:
        CheckpointError: If the file is missing, truncated or not a safetensors file.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_description(path: Path) -> tuple[dict[str, str], Shapes]:
    """The metadata of a safetensors file and the shapes of its tensors, which are not read.

    Raises:
        CheckpointError: As :func:`read_tensors`.
    """
    with _opened(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        return file.metadata() or {}, shapes


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, checked; failures while it is read become CheckpointErrors."""
    check_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            check_names(path, file.keys())
            yield file
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"`{path}` cannot be read: {reason}", hint=COPY_AGAIN) from None


def start_of(path: Path, count: int) -> bytes:
    """The first bytes of a file; empty if it is not a regular file (a pipe would block) or cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as a safetensors file does: a length, then a JSON object."""
    return start_of(path, 9)[8:] == b"{"


def refuse_pointer(path: Path) -> None:
    """Raises CheckpointError if the file is a pointer of Git LFS instead of the file itself."""
    if start_of(path, len(_POINTER)) == _POINTER:
        raise CheckpointError(
            f"`{path}` is a Git LFS pointer, the file itself was not fetched", hint="fetch it: `git lfs pull`"
        )


def check_safetensors(path: Path) -> None:
    """Raises CheckpointError unless the file is there, regular, and its header fits into it and the limits."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise CheckpointError(f"`{path}` is not a file", hint="give a `.safetensors` file")
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise CheckpointError(f"cannot read `{path}`: {reason_of(error)}", hint="check the path") from None
    refuse_pointer(path)
    size, length = state.st_size, int.from_bytes(start, "little")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"`{path}` announces a header of {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read",
            hint="this is not a safetensors file, or a damaged one",
        )
    if len(start) < 8 or length + 8 > size:
        raise CheckpointError(f"`{path}` is truncated: {size:,} bytes", hint=COPY_AGAIN)
