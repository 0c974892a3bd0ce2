"""Where results go: they replace earlier ones, but no input, and what vqgan did not write only when asked to."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.checkpoints.format import Header
from vqgan.checkpoints.load import precision_of
from vqgan.cli.commands import Use
from vqgan.cli.processes import rank
from vqgan.errors import ConfigError, require
from vqgan.evaluation.growth_page import MAX_FRAMES, earlier_files
from vqgan.images import grid, printable, to_float
from vqgan.images.ours import is_ours

_RECORDED = (
    *("memory", "fit", "batch_size", "temperature", "top_k", "top_p", "jacobi", "window_stride"),
    *("guidance", "refine", "margin", "no_paste"),
)


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


def print_paths(paths: Iterable[Path]) -> None:
    """Prints where the results of all processes are, one path per line."""
    for path in () if rank() else paths:
        print(printable(path))


def check_frames(
    folder: Path, count: int | None, inputs: Sequence[Path] = (), *, overwrite: bool = False
) -> None:
    """Raises ConfigError unless this many frames can be made, and may replace the earlier ones in the folder.

    Arguments as of :class:`~vqgan.evaluation.growth.Frames` and :func:`check_targets`; None stands for no frames.
    """
    if count is None:
        return
    require(
        2 <= count <= MAX_FRAMES,
        f"`--frames` is {count}, expected 2 to {MAX_FRAMES}",
        hint="it is the number of pictures over the whole drawing, the first and the last included",
    )
    check_targets(folder, [path.name for path in earlier_files(folder)], inputs, overwrite=overwrite)


def side_by_side(pictures: Sequence[np.ndarray]) -> Float[Tensor, "c R C"]:
    """Pictures of any sizes, eight in a row, each in the top left of its cell."""
    height, width = (max(each.shape[axis] for each in pictures) for axis in (0, 1))
    cells = np.full((len(pictures), height, width, pictures[0].shape[2]), 255, np.uint8)
    for cell, each in zip(cells, pictures, strict=True):
        cell[: each.shape[0], : each.shape[1]] = each
    return grid(to_float(cells), columns=8)
