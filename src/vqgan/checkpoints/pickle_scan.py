"""What a checkpoint's pickle would do, found by reading its instructions; none of them is followed."""

import io
import mmap
import pickletools
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vqgan.errors import CheckpointError, printable

ZIP_START = b"PK\x03\x04"

COPY_AGAIN = "copy or download the file again"
"""The hint where a file is damaged."""

_KNOWN = re.compile(
    r"collections\.OrderedDict|(builtins|__builtin__)\.set|torch\.(Size|device|nn\.parameter\.Parameter)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter)|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\.(Double|Float|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
    r"|torch\.(float(16|32|64)|bfloat16|u?int(8|16|32|64)|bool)"
)
"""What tensors are made of. PyTorch allows more (functions that take memory or time), no model needs it."""

_MAX_INSTRUCTIONS = 2_000_000
"""A checkpoint takes about 35 for each tensor; two million take some seconds."""

_MAX_IN_TUPLE = 10_000

_LONGEST_NAME = 500

_PICKLES = 5
"""Files older than PyTorch 1.6 are so many pickles, then bytes."""


def foreign_names(path: Path, known: Iterable[str]) -> list[str]:
    """The classes and functions that a checkpoint names and that are neither known nor part of tensors, sorted.

    Args:
        path: A zip archive of PyTorch's, or pickles in a row, as old files are.
        known: Names that are allowed beside those of tensors.

    Raises:
        CheckpointError: If the file is damaged, or made to exhaust its reader.
    """
    found: set[str] = set()
    try:
        with path.open("rb") as file:
            if file.read(4) == ZIP_START:
                _scan(io.BytesIO(_pickle_of_archive(path)), found, path)
            else:
                # Mapped: lengths that are announced take no memory beyond the file's own.
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    for _ in range(_PICKLES):
                        _scan(mapped, found, path)
                        if mapped.tell() == len(mapped):
                            break
    except (
        ValueError,
        IndexError,
        KeyError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        NotImplementedError,
    ):
        if not _unknown(found, known):  # else the names say more than where the file ends
            # In whichever way reading fails: what a download or a copy left out is by far the likeliest reason.
            raise CheckpointError(
                f"`{path}` cannot be read as a checkpoint: it is not complete, or damaged", hint=COPY_AGAIN
            ) from None
    return _unknown(found, known)


def check_names(path: Path, names: Iterable[str]) -> None:
    """Raises CheckpointError if a tensor's name is no line of text: names are shown, and terminals obey."""
    for name in names:
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            raise _refused(path, f"a tensor is called `{printable(name[:100])}`")


def _unknown(found: set[str], known: Iterable[str]) -> list[str]:
    return sorted(name for name in found - set(known) if not _KNOWN.fullmatch(name))


def _pickle_of_archive(path: Path) -> bytes:
    """The pickle in a zip archive that is as PyTorch writes them: one folder, and nothing compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        for name in names:
            parts = re.split(r"[/\\]", name)
            if ".." in parts or not parts[0] or ":" in parts[0]:
                raise _refused(path, f"the archive names {name[:100]!a}, which leads out of it")
        if len(set(names)) < len(names):
            raise _refused(path, "the archive holds a file twice")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise _refused(path, "the archive is compressed, which PyTorch's are not")
        announced, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if announced > size:
            raise _refused(path, f"the archive announces {announced:,} bytes and has {size:,}")
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len({name.split("/")[0] for name in names}) != 1:
            raise _refused(path, "the archive is not laid out as PyTorch's are: one folder with a `data.pkl`")
        return archive.read(pickles[0])


def _scan(file: Any, found: set[str], path: Path) -> None:
    """Adds the names of one pickle to ``found``, and follows how large its tuples are, parts of parts counted.

    Tuples can be keys: hashing a small pickle's tuples of tuples of tuples can take for ever, or all of the stack.
    """
    # What the pickle's stack would hold: the size of a tuple, a text, 1 for the rest, and None for a mark.
    stack: list[int | str | None] = []
    memo: dict[int, int | str | None] = {}
    for number, (code, argument, _) in enumerate(pickletools.genops(file)):
        if number > _MAX_INSTRUCTIONS:
            raise _refused(path, f"its pickle has more than {_MAX_INSTRUCTIONS:,} instructions")
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
                raise _refused(path, f"its pickle has a tuple of more than {_MAX_IN_TUPLE:,} parts")
        for kind in code.stack_after:
            text = isinstance(argument, str) and kind.name == "str"
            stack.append(None if kind is pickletools.markobject else argument if text else size)


def _pop(stack: list[int | str | None], code: pickletools.OpcodeInfo) -> list[int | str | None]:
    """Takes from the stack what an instruction takes, down to the mark if it takes that many."""
    if pickletools.markobject in code.stack_before:
        taken: list[int | str | None] = []
        while (top := stack.pop()) is not None:
            taken.append(top)
        if code.stack_before[0] is not pickletools.markobject:
            stack.pop()
        return taken
    return [stack.pop() for _ in code.stack_before]


def _refused(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"`{path}` cannot be read as a checkpoint: {reason}",
        hint="the file is damaged, or not a checkpoint of this kind",
    )
