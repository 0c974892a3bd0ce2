"""Batches of images as pictures, sheets and PNG files, with what made them in the files' text."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from vqgan.errors import ConfigError, printable
from vqgan.images.pixels import Pixels, to_picture, to_uint8
from vqgan.output_files import replace_file
from vqgan.types import Images, check_images, is_whole

Info = Mapping[str, str]
"""Text chunks of a PNG: keyword to text."""


def to_pictures(images: Images | Float[Tensor, "c H W"]) -> list[Image.Image]:
    """The images, values in [-1, 1], as PIL pictures; :func:`to_sheet` shows many in one picture.

    Raises:
        ConfigError: If they are not images, or have neither 1, 3 nor 4 channels.
    """
    batch = _batch(images)
    if batch.shape[1] not in (1, 3, 4):
        raise ConfigError(
            f"images of {batch.shape[1]} channels cannot be shown, expected 1 (grey), 3 (RGB) or 4 (RGBA)",
            hint="choose some of them: `images[:, :3]`",
        )
    return [to_picture(each) for each in to_uint8(batch).cpu().numpy()]


def _batch(images: Images | Float[Tensor, "c H W"]) -> Images:
    batch = images[None] if isinstance(images, Tensor) and images.ndim == 3 else images
    check_images(batch)
    return batch


def to_sheet(images: Images, columns: int = 8) -> Image.Image:
    """The images, values in [-1, 1], row by row in one PIL picture: what a notebook shows as a cell's result.

    Raises:
        ConfigError: As :func:`to_pictures`, or if ``columns`` is below 1.
    """
    return to_pictures(grid(images, columns))[0]


def write_images(
    images: Images | Float[Tensor, "c H W"], folder: str | Path, info: Info | Sequence[Info] | None = None
) -> list[Path]:
    """Writes a batch as ``000000.png``, ``000001.png``, ... and returns the paths.

    Args:
        images: Values in [-1, 1]; others are clamped. A single image (c H W) is a batch of one.
        folder: Made where it does not exist; files of these names are replaced. For one image it may be the file
            itself: ``name.png``.
        info: Text chunks, one mapping for all images or one for each.

    Raises:
        ConfigError: If they are not images, if the number of mappings differs, if several go to one ``.png``, or
            if ``folder`` is a file of another kind.
        OutputError: If a file cannot be written; it is then absent or as it was, never cut short.
    """
    images = _batch(images)
    infos = list(info) if isinstance(info, Sequence) else [info or {}] * len(images)
    if len(infos) != len(images):
        raise ConfigError(f"`info` has {len(infos)} mappings for {len(images)} images, expected one for each")
    ending = Path(folder).suffix.lower()
    if ending in Image.registered_extensions() and not Path(folder).is_dir():
        if ending != ".png":
            hint = "give `NAME.png` or a folder, or save what `vqgan.to_pictures` gives"
            raise ConfigError(
                f"`{printable(folder)}` is not a PNG file; no other format is written", hint=hint
            )
        if len(images) != 1:
            raise ConfigError(
                f"`{printable(folder)}` is one file for {len(images)} images", hint="give a folder"
            )
        return [save_png(images[0], folder, infos[0])]
    pairs = zip(images, infos, strict=True)
    return [save_png(image, Path(folder) / f"{i:06d}.png", text) for i, (image, text) in enumerate(pairs)]


def save_png(image: Float[Tensor, "c H W"], path: str | Path, info: Info | None = None) -> Path:
    """Writes one image with values in [-1, 1] as a PNG with the text chunks ``info``.

    It is grey, RGB or RGBA; of two channels the first is written, of five or more the first three.

    Raises:
        OutputError: If the file cannot be written.
    """
    return save_picture(to_picture(to_uint8(image).cpu().numpy()), path, info)


def save_apng(
    frames: Sequence[Pixels], path: str | Path, milliseconds: int, info: Info | None = None
) -> Path:
    """Writes an endless animated PNG of equally large frames, ``milliseconds`` each, with the text chunks ``info``.

    Raises:
        OutputError: If the file cannot be written.
    """
    first, *rest = map(to_picture, frames)
    return save_picture(first, path, info, save_all=True, append_images=rest, duration=milliseconds, loop=0)


def save_picture(picture: Image.Image, path: str | Path, info: Info | None, **settings: Any) -> Path:
    """Writes a file that appears complete or not at all."""
    buffer, path = io.BytesIO(), Path(path)
    picture.save(buffer, "PNG", pnginfo=text_chunks(info), **settings)
    replace_file(path, lambda temporary: temporary.write_bytes(buffer.getvalue()), durable=False)
    return path


def text_chunks(info: Info | None) -> PngInfo:
    """The text chunks of a PNG as Pillow takes them."""
    chunks = PngInfo()
    for keyword, text in (info or {}).items():
        chunks.add_text(keyword, text)
    return chunks


def grid(images: Images, columns: int, pad: int = 2) -> Float[Tensor, "c R C"]:
    """Lays images out row by row on white.

    Args:
        images: Values in [-1, 1].
        columns: Images in a row; the last row may be shorter.
        pad: White pixels between neighbours and around.

    Raises:
        ConfigError: If ``columns`` is below 1 or ``pad`` below 0.
    """
    images = _batch(images)
    if not is_whole(columns) or columns < 1 or pad < 0:
        raise ConfigError(f"a grid of {columns!r} columns with {pad} pixels between them is impossible")
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    canvas = images.new_ones(channels, rows * (height + pad) + pad, columns * (width + pad) + pad)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + pad) + pad, (i % columns) * (width + pad) + pad
        canvas[:, top : top + height, left : left + width] = image
    return canvas
