"""Batches of images from files and to PNG files, with what made them in the files' text."""

import errno
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from vqgan.errors import ConfigError, DataError, OutputError
from vqgan.images.decoding import ENDINGS, decode_image, from_picture, printable
from vqgan.images.pixels import (
    Pixels,
    fit,
    from_array,
    in_mode,
    to_float,
    to_picture,
    to_uint8,
    with_channels,
)
from vqgan.types import Images, check_images, describe, height_and_width, is_whole

Info = Mapping[str, str]
"""Text chunks of a PNG: keyword to text."""

Picture = str | Path | Image.Image | np.ndarray
"""What ``read_images`` reads."""


def read_images(
    paths: Picture | Iterable[Picture], size: tuple[int, int] | int | None = None, *, channels: int = 3
) -> Images:
    """Reads images into one batch.

    Args:
        paths: One image or several: the path of a file or of a folder of files, a PIL picture, or an array (H W) or
            (H W c) of uint8, uint16 or floats in [0, 1].
        size: Height and width, or one number for a square; the shorter side is resized and the centre cut out.
            Without it all images must be equal in size.
        channels: 3 for RGB, 1 for grey, 4 for RGBA; any other number is that of arrays.

    Raises:
        ConfigError: If ``size`` or ``channels`` is impossible.
        DataError: If there is no image, one cannot be read, or the sizes differ.
    """
    size = None if size is None else height_and_width(size)
    if not is_whole(channels) or channels < 1:
        raise ConfigError(
            f"`channels` is {channels!r}, expected 1 (grey), 3 (RGB), 4 (RGBA) or that of arrays"
        )
    is_one = isinstance(paths, Picture | Tensor) or not isinstance(paths, Iterable)
    given: Any = [paths] if is_one else paths
    pictures = [each for one in given for each in _in_folder(one)]
    if not pictures:
        raise DataError("no image was given, expected at least one path, picture or array")
    names = [
        printable(each) if isinstance(each, str | Path) else f"image {number}"
        for number, each in enumerate(pictures)
    ]
    images: list[Pixels] = []
    for picture, name in zip(pictures, names, strict=True):
        image = _pixels(picture, name, channels)
        images.append(image if size is None else fit(image, size))
        if images[-1].shape != images[0].shape:
            (rows, columns), (height, width) = images[0].shape[:2], image.shape[:2]
            raise DataError(
                f"images differ in size: `{names[0]}` has {rows} x {columns} pixels, "
                f"`{name}` {height} x {width}",
                hint="give `size`: the shorter side is then resized and the centre cut out",
            )
    return to_float(np.stack(images))


def _in_folder(given: Picture) -> list[Picture]:
    """The image files below a folder in natural order, hidden ones aside; what is no folder stays as it is."""
    if not isinstance(given, str | Path) or not Path(given).is_dir():
        return [given]
    root = Path(given)
    inside = [path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in ENDINGS]
    shown = [path.as_posix() for path in inside if not any(part.startswith(".") for part in path.parts)]
    if not shown:
        hint = "give a folder with image files, or the files"
        raise DataError(f"`{printable(given)}` holds no images", hint=hint)
    return [root / path for path in sorted(shown, key=natural)]


def _pixels(picture: Picture, name: str, channels: int) -> Pixels:
    """One image, from a file or from memory."""
    if isinstance(picture, str | Path):
        return decode_image(picture, channels)
    if isinstance(picture, Image.Image):
        return from_picture(in_mode(picture, "LA") if picture.mode == "La" else picture, channels)
    if not isinstance(picture, np.ndarray):
        raise DataError(f"{name} is {describe(picture)}, expected a path, a PIL picture or an array")
    return with_channels(from_array(picture, name), channels, name)


def to_pictures(images: Images | Float[Tensor, "c H W"]) -> list[Image.Image]:
    """The images, values in [-1, 1], as PIL pictures; :func:`to_sheet` shows many at once.

    Raises:
        ConfigError: If they are no images, or have neither 1, 3 nor 4 channels.
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
        images: Values in [-1, 1]; what lies outside is clamped. A single image (c H W) is a batch of one.
        folder: Made where it does not exist; files of these names are replaced. For one image it may be the file
            itself: ``name.png``.
        info: Text chunks, one mapping for all images or one for each.

    Raises:
        ConfigError: If they are no images, if the number of mappings is not theirs, if several go to one ``.png``, or
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
            raise ConfigError(f"`{printable(folder)}` is no PNG file, and others are not written", hint=hint)
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
    buffer = io.BytesIO()
    to_picture(to_uint8(image).cpu().numpy()).save(buffer, "PNG", pnginfo=_chunks(info))
    return _replace(Path(path), buffer.getvalue())


def save_apng(
    frames: Sequence[Pixels], path: str | Path, milliseconds: int, info: Info | None = None
) -> Path:
    """Writes an endless animated PNG of equally large frames, ``milliseconds`` each, with the text chunks ``info``.

    Raises:
        OutputError: If the file cannot be written.
    """
    first, *rest = [to_picture(frame) for frame in frames]
    buffer = io.BytesIO()
    settings = {"save_all": True, "append_images": rest, "duration": milliseconds, "loop": 0}
    first.save(buffer, "PNG", pnginfo=_chunks(info), **settings)
    return _replace(Path(path), buffer.getvalue())


def _chunks(info: Info | None) -> PngInfo:
    chunks = PngInfo()
    for keyword, text in (info or {}).items():
        chunks.add_text(keyword, text)
    return chunks


def _replace(path: Path, data: bytes) -> Path:
    """Writes a file that appears complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space or choose another folder" if full else "choose a folder that you can write to"
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot write `{printable(path)}`: {reason}", hint=hint) from error
    return path


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


def natural(path: str) -> tuple[list[list[str | int]], str]:
    """Sorting key that puts ``a2`` before ``a10``, folder by folder.

    Example:
        >>> sorted(["a10.png", "a2.png", "b/1.png", "a/3.png"], key=natural)
        ['a/3.png', 'a2.png', 'a10.png', 'b/1.png']
    """
    folders: list[list[str | int]] = []
    for name in path.split("/"):
        pieces = re.split(r"([0-9]+)", name)  # text and digits take turns, so equal positions compare
        folders.append([int(piece) if i % 2 else piece for i, piece in enumerate(pieces)])
    return folders, path
