"""Pictures of a run at a rising cadence, and an animation of one of them over the training."""

from collections.abc import Mapping
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from vqgan.images import grid, read_pixels, save_apng, save_png
from vqgan.types import Images


def is_picture_step(step: int, total: int) -> bool:
    """Whether pictures are due after ``step`` steps: after the first, at powers of two from 16, and at the end.

    Example:
        >>> [step for step in range(1, 101) if is_picture_step(step, 100)]
        [1, 16, 32, 64, 100]
    """
    return step in (1, total) or (step >= 16 and step & (step - 1) == 0)


def write_pictures(
    folder: Path, step: int, pictures: Mapping[str, Images], *, columns: int
) -> dict[str, Float[Tensor, "c rows columns"]]:
    """Writes each group of images as one grid ``NAME-STEP.png``, and one image as a frame of the animation.

    Args:
        folder: Made where it does not exist.
        step: Steps done, for the names.
        pictures: Groups of images by name; the last image of the first group is the frame.
        columns: Images in a row.

    Returns:
        The grids by name.

    Raises:
        OutputError: If the disk refuses.
    """
    grids = {name: grid(images, columns=columns) for name, images in pictures.items()}
    for name, picture in grids.items():
        save_png(picture, folder / f"{name}-{step:08d}.png", {"step": str(step)})
    first = next(iter(pictures.values()))
    save_png(first[-1], folder / "frames" / f"{step:08d}.png", {"step": str(step)})
    return grids


def write_animation(folder: Path) -> None:
    """Joins the frames written so far into ``training.png``, an animated PNG with half a second a frame."""
    paths = sorted((folder / "frames").glob("*.png"))
    if paths:
        save_apng([read_pixels(path, 3) for path in paths], folder / "training.png", 500)
