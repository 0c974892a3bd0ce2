"""Writes files that are complete or absent, and turns failures of the disk into our errors."""

import errno
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vqgan.errors import ConfigError, OutputError, printable, reason_of

logger = logging.getLogger(__name__)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turns a failure to write into an OutputError with the path and a hint."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else " ".join(str(error).split())
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = "free some space or choose another place" if full else "choose a folder that you can write to"
        raise OutputError(f"cannot write `{printable(path)}`: {reason}", hint=hint) from None


def replace_file(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Calls ``write`` with a temporary file in the same folder and renames that to ``path``.

    Args:
        path: The file; its folder is made if necessary.
        write: Gets the path of the temporary file.
        durable: Whether the file is synced to the disk before it is renamed.

    Raises:
        OutputError: If anything fails; the old file, if any, is untouched and no temporary file remains.
    """
    with replacing(path, durable=durable) as temporary, output_errors(path):
        write(temporary)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path in the same folder; what the block writes there is renamed to ``path`` at its end.

    Like :func:`replace_file`, for what is written bit by bit while something else goes on. Errors of the block are not
    changed: put :func:`output_errors` around what writes.

    Raises:
        OutputError: If the folder cannot be made, or the file not renamed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with output_errors(path):
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # of a process with the same number that was killed
    try:
        yield temporary
        with output_errors(path):
            if durable:
                sync(temporary)
            os.replace(temporary, path)
            if durable:
                sync(path.parent)
    finally:
        with output_errors(path):
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Inside the block no other process may work in the folder of ``path``, a file that says who does.

    The lock ends with the process, however that ends, and is not inherited by those that it starts. It is no bar within
    the process. A file system without locks costs a warning.

    Raises:
        ConfigError: If another process is at work there.
        OutputError: If the file cannot be made.
    """
    with output_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                owner = printable(os.read(handle, 200).decode("utf-8", "replace")) or "another process"
                what = f"`{printable(path.parent)}` is in use: {owner} works there"
                raise ConfigError(what, hint="wait until it ends, or choose another folder") from None
            what = "`%s` cannot be locked (%s): see that no other process works there"
            logger.warning(what, path.parent, reason_of(error))
        with suppress(OSError):  # a full disk
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    """Locks an open file for this process; not on Windows. Raises OSError, with EACCES or EAGAIN if another has it."""
    if sys.platform != "win32":
        import fcntl

        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # `flock` would be inherited, and is not for NFS


def weights_path(out: str) -> Path:
    """The path of a weights file to be written. Raises ConfigError unless it ends in ``.safetensors``."""
    path = Path(out)
    if path.suffix != ".safetensors" or out.endswith(("/", os.sep)):
        is_folder = path.is_dir() or out.endswith(("/", os.sep))
        named = path / "model.safetensors" if is_folder else path.with_name(f"{path.name}.safetensors")
        raise ConfigError(f"`out=` is `{out}`, expected a `.safetensors` file", hint=f'give `out="{named}"`')
    return path


def refuse_existing(path: Path) -> None:
    """Raises OutputError if ``path`` exists, even as a broken link."""
    if path.exists() or path.is_symlink():
        raise OutputError(
            f"`{path}` exists; nothing is overwritten", hint="give another `out=`, or remove it"
        )


def make_folder(folder: Path) -> None:
    """Makes the folder if necessary and checks that it is writable. Raises OutputError if not."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"`{folder}` is a file, not a folder", hint="give another `out=`")
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def no_empty_folders(out: str | None) -> Iterator[None]:
    """If the block fails or is interrupted, a new folder ``out`` without files is removed again."""
    path = Path(out or ".").absolute()
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        if new and all(found.is_dir() for found in new[-1].rglob("*")):
            shutil.rmtree(new[-1], ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file that is complete or absent."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that is complete or absent."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def sync(path: Path) -> None:
    """Flushes a file or a folder's entries to the disk; Windows cannot flush folders."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
