"""What ``sample`` and ``complete`` share: reading classes, writing what was drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vqgan.checkpoints.format import Header
from vqgan.cli.options import Decoding
from vqgan.images import grid, save_png, write_images


def class_values(text: str | None) -> list[int | str | None]:
    """Classes from ``--class``: numbers where they are digits, else names; one None without classes.

    Example:
        >>> class_values("9,fox"), class_values(None)
        ([9, 'fox'], [None])
    """
    if text is None:
        return [None]
    words = [word.strip() for word in text.split(",")]
    return [int(word) if word.isdecimal() else word for word in words]


def write_drawn(
    folder: Path,
    results: Sequence[Tensor],
    flags: Decoding,
    header: Header,
    command: str,
    extra: Sequence[Mapping[str, str]],
) -> list[Path]:
    """Writes each image with its own seed and all settings in its text chunks, and a grid of all of them.

    Returns:
        The paths of the images, then that of the grid.
    """
    images = torch.cat([result.float().cpu() for result in results])
    settings = {
        "model": header.digest[:12],
        "command": command,
        "temperature": str(flags.temperature),
        "top_k": str(flags.top_k),
        "top_p": str(flags.top_p),
        "precision": flags.precision,
    }
    infos = [{**settings, "seed": str(flags.seed + i), **more} for i, more in enumerate(extra)]
    paths = write_images(images, folder, infos)
    columns = min(8, len(images))
    return [
        *paths,
        save_png(grid(images, columns=columns), folder / "grid.png", {**settings, "seed": str(flags.seed)}),
    ]
