"""Writing files so that they are complete or absent, and turning failures of the disk into our errors."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from vqgan.errors import OutputError


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turns a failure to write into an OutputError that names the path and the likely cure."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        full = "No space left" in reason or "quota" in reason.lower() or "code: 28" in reason
        hint = (
            "free some space or choose another place" if full else "check that the folder exists and is yours"
        )
        raise OutputError(f"cannot write `{path}`: {reason}", hint=hint) from None


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets ``write`` fill a temporary file beside ``path``, syncs it to the disk and renames it to ``path``.

    Raises:
        OutputError: If anything fails; the old file, if any, is untouched and no temporary file remains.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with output_errors(path):
            write(temporary)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON that appears complete or not at all."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def sync(path: Path) -> None:
    """Asks the system to put a file or a folder's entries on the disk; Windows has no such call for folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
