"""Pictures of a run at a rising cadence, and an animation of one of them over the training."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vqgan.images import decode_image, grid, save_apng, save_png
from vqgan.types import Images


def is_picture_step(step: int, total: int) -> bool:
    """Whether pictures are due after ``step`` steps: after the first, at powers of two from 16, and at the end.

    Example:
        >>> [step for step in range(1, 101) if is_picture_step(step, 100)]
        [1, 16, 32, 64, 100]
    """
    return step in (1, total) or (step >= 16 and step & (step - 1) == 0)


def write_pictures(folder: Path, step: int, pictures: Mapping[str, Images]) -> dict[str, Tensor]:
    """Writes each group of images as one grid ``NAME-STEP.png``, and the very first image as a frame.

    Returns:
        The grids (c H W) by name.
    """
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    grids = {}
    for name, images in pictures.items():
        grids[name] = grid(images, columns=min(8, max(4, images.shape[0] // 2)))
        save_png(grids[name], folder / f"{name}-{step:08d}.png", {"step": str(step)})
    first = next(iter(pictures.values()))
    # The animated picture stands in the middle of its row: the last image of the first group.
    save_png(first[-1], folder / "frames" / f"{step:08d}.png", {"step": str(step)})
    return grids


def write_animation(folder: Path) -> None:
    """Joins the frames written so far into ``training.png``, an animated PNG with half a second a frame."""
    paths = sorted((folder / "frames").glob("*.png"))
    if paths:
        save_apng([decode_image(path, 3) for path in paths], folder / "training.png", 500)
