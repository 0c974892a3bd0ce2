"""Where results go: they replace earlier ones, but no input, and what vqgan did not write only when asked to."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vqgan.checkpoints.format import Header
from vqgan.checkpoints.load import precision_of
from vqgan.cli.commands import Use
from vqgan.errors import ConfigError
from vqgan.images import Pixels, fit, grid, printable, to_float
from vqgan.images.tile_pyramid import MARK, is_pyramid

PAGE_MARK = '<meta name="generator" content="vqgan --frames">'
"""By this line a later drawing recognizes a page as ours."""

_MARKS = (
    b"tEXtcommand\0",
    b"tEXtstep\0",
    b"tEXtframes\0",
    PAGE_MARK.encode("ascii"),
    MARK.encode("ascii"),
    b'{\n "codebook_size": ',
)
"""Our files contain one of these near their start: text chunks of images, frames and animations, the heads of pages and
pyramids, or the first lines of `codes.json`."""

_RECORDED = ("memory", "fit", "batch_size", "temperature", "top_k", "top_p", "jacobi", "window_stride")


def settings_text(flags: Use, header: Header, model: nn.Module) -> dict[str, str]:
    """Text chunks for every result of a command: the model, and each setting that can change an image."""
    chosen = {name: str(getattr(flags, name)) for name in _RECORDED if hasattr(flags, name)}
    command = type(flags).__name__.lower()
    return {"model": header.digest[:12], "command": command, "precision": precision_of(model), **chosen}


def check_targets(
    folder: Path, names: Iterable[str], inputs: Sequence[Path] = (), *, overwrite: bool = False
) -> None:
    """Raises ConfigError if a result would replace an input, or a file that vqgan did not write.

    Args:
        folder: Where the results go.
        names: What they are called, with their endings.
        inputs: What is read; what is not a file does not matter.
        overwrite: Whether files that vqgan did not write may be replaced; inputs never are.
    """
    given = {identity: path for path in inputs if (identity := _identity(path)) is not None}
    for target in (folder / name for name in names):
        identity = _identity(target)
        if identity in given:
            what, hint = f"the input `{printable(given[identity])}`", ""
        elif identity is not None and not overwrite and not is_ours(target):
            what, hint = "a file that vqgan did not write", ", or add `--overwrite`"
        else:
            continue
        message = f"the result `{printable(target)}` would replace {what}"
        raise ConfigError(message, hint=f"give another folder with `--out`{hint}")


def _identity(path: Path) -> tuple[int, int] | None:
    """What all names of one file share (links; in capitals or not); None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_ours(path: Path) -> bool:
    """Whether a command wrote this file or folder of tiles; an array of codes is known by what stands beside it."""
    if path.is_dir():
        return is_pyramid(path)
    try:
        with (path.with_suffix(".json") if path.suffix == ".npy" else path).open("rb") as file:
            start = file.read(1024)
    except OSError:
        return False
    return any(mark in start for mark in _MARKS)


def print_paths(paths: Iterable[Path]) -> None:
    """Prints where the results are, one path per line."""
    for path in paths:
        print(printable(path))


def smaller(pixels: Pixels, longest: int) -> UInt8[np.ndarray, "rows columns c"]:
    """The image with its longer side at most ``longest``."""
    scale = longest / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return fit(pixels, (height, width)) if scale < 1 else pixels


def side_by_side(pictures: Sequence[np.ndarray]) -> Float[Tensor, "c R C"]:
    """Pictures of any sizes, eight in a row, each in the top left of its cell."""
    height, width = (max(each.shape[axis] for each in pictures) for axis in (0, 1))
    cells = np.full((len(pictures), height, width, pictures[0].shape[2]), 255, np.uint8)
    for cell, each in zip(cells, pictures, strict=True):
        cell[: each.shape[0], : each.shape[1]] = each
    return grid(to_float(cells), columns=8)
