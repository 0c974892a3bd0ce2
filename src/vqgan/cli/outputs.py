"""Where results go: they replace earlier ones, but no input, and what vqgan did not write only when asked to."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vqgan.errors import ConfigError

PAGE_MARK = '<meta name="generator" content="vqgan --frames">'
"""By this line a later drawing knows a page as ours."""

_MARKS = (
    b"tEXtcommand\0",
    b"tEXtstep\0",
    b"tEXtframes\0",
    PAGE_MARK.encode("ascii"),
    b'{\n "codebook_size": ',
)
"""With these our files begin: the text chunks of images, frames and animations, the page's head, and `codes.json`."""


def check_targets(
    folder: Path, names: Iterable[str], inputs: Sequence[Path] = (), *, overwrite: bool = False
) -> None:
    """Raises ConfigError if a result would replace one of the files that it is made from, or what is none of ours.

    Args:
        folder: Where the results go.
        names: What they are called, with their endings.
        inputs: What is read; what is no file does not matter.
        overwrite: Whether files that vqgan did not write may be replaced; inputs never are.
    """
    from vqgan.images import printable

    given = {identity: path for path in inputs if (identity := _identity(path)) is not None}
    for name in names:
        target = folder / name
        identity = _identity(target)
        if identity is None:
            continue
        if identity in given:
            what = f"the input `{printable(given[identity])}`"
        elif overwrite or is_ours(target):
            continue
        else:
            what = "a file that vqgan did not write"
        hint = "give another folder with `--out`" + (", or add `--overwrite`" * (identity not in given))
        raise ConfigError(f"the result `{printable(target)}` would replace {what}", hint=hint)


def _identity(path: Path) -> tuple[int, int] | None:
    """What all names of one file share (links; in capitals or not); None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_ours(path: Path) -> bool:
    """Whether a command wrote this file; an array of codes is known by what stands beside it."""
    try:
        with (path.with_suffix(".json") if path.suffix == ".npy" else path).open("rb") as file:
            start = file.read(1024)
    except OSError:
        return False
    return any(mark in start for mark in _MARKS)


@contextmanager
def no_empty_folders(out: str | None) -> Iterator[None]:
    """What fails or is interrupted inside the block leaves no new folder ``out`` in which there is no file."""
    path = Path(out or ".").absolute()
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        if new and all(found.is_dir() for found in new[-1].rglob("*")):
            shutil.rmtree(new[-1], ignore_errors=True)
        raise
