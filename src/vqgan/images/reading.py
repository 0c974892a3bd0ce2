"""The one reader of picture files: training, evaluation and the command line all see a file the same way."""

import io
import logging
import math
import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from vqgan.errors import ConfigError, DataError, printable
from vqgan.images.paths import list_images
from vqgan.images.pixels import (
    MAX_PIXELS,
    MODES,
    Pixels,
    fit,
    from_array,
    in_mode,
    opaque,
    strips,
    to_array,
    to_float,
    with_channels,
)
from vqgan.types import Images, describe, height_and_width, is_whole

logger = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM")
"""What is read, by content. Formats that run programs or have a history of vulnerabilities (EPS, PSD) are excluded."""

MAX_FILE_BYTES = 1 << 29
"""Some decoders read the whole file first; no image within the pixel limit needs more."""

Picture = str | Path | Image.Image | np.ndarray
"""What ``read_images`` reads."""


class Embedded(NamedTuple):
    """A file that lies inside another, such as an archive: what messages call it, and all its bytes."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


File = str | Path | Embedded
"""A picture file: where it is, or what it holds."""

_ARRAY = b"\x93NUMPY"
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
    pictures: list[Picture] = []
    for one in given:
        is_folder = isinstance(one, str | Path) and Path(one).is_dir()
        pictures += [Path(one) / path for path in list_images(Path(one))] if is_folder else [one]
    if not pictures:
        raise DataError("no image was given, expected at least one path, picture or array")
    images: list[Pixels] = []
    for number, picture in enumerate(pictures):
        name = _name(picture, number)
        if isinstance(picture, str | Path):
            image = read_pixels(picture, channels)
        else:
            image = pixels_of(picture, channels, name)
        images.append(image if size is None else fit(image, size))
        if images[-1].shape != images[0].shape:
            (rows, columns), (height, width) = images[0].shape[:2], image.shape[:2]
            raise DataError(
                f"images differ in size: `{_name(pictures[0], 0)}` has {rows} x {columns} pixels, "
                f"`{name}` {height} x {width}",
                hint="give `size`: the shorter side is then resized and the centre cut out",
            )
    return to_float(np.stack(images))


def _name(picture: Picture, number: int) -> str:
    return printable(picture) if isinstance(picture, str | Path) else f"image {number}"


def pixels_of(
    picture: object, channels: int, name: str, expected: str = "a path, a PIL picture or an array"
) -> Pixels:
    """The pixels of a picture in memory: of Pillow, or an array.

    Raises:
        DataError: As :func:`from_picture` and :func:`from_array`; or if it is neither, but not what is ``expected``.
    """
    if isinstance(picture, Image.Image):
        return from_picture(picture, channels)
    if not isinstance(picture, np.ndarray):
        raise DataError(f"{name} is {describe(picture)}, expected {expected}")
    return with_channels(from_array(picture, name), channels, name)


def read_pixels(
    path: File, channels: int, smallest_side: int | None = None, frame: int | None = None
) -> Pixels:
    """Reads one image file as a person would see it, or an array (``.npy``) as ``from_array`` does.

    The EXIF orientation is applied, transparency is laid over white, 16-bit and float values are scaled to
    the full range, and palettes, CMYK and LAB become RGB. Colour profiles are not applied.

    Args:
        path: The file.
        channels: 1 for grey (luma of a colour image), 3 for RGB (a grey image three times), 4 for RGBA (opaque where
            the file has no transparency); any other number is that of an array.
        smallest_side: A JPEG may be decoded at a half, a quarter or an eighth of its size, as long as its shorter
            side keeps this length; by default it is decoded whole.
        frame: Of an animation; by default the first, with a warning.

    Raises:
        DataError: If it is not a regular file, not an image in one of ``FORMATS``, too large, or damaged; or an array
            of another kind or number of channels.
    """
    with opened(path) as image:
        if isinstance(image, np.ndarray):
            return with_channels(from_array(image, "the array"), channels, "the array")
        if frame is None and _num_frames(image) > 1:
            logger.warning("`%s` has several frames: the first is used", printable(path))
        image.seek(frame or 0)
        if smallest_side is not None:
            scale = smallest_side / min(image.size)
            image.draft(None, (math.ceil(scale * image.width), math.ceil(scale * image.height)))
        return from_picture(image, channels)


def from_picture(image: Image.Image, channels: int) -> Pixels:
    """The pixels of a picture that Pillow opened or made, as ``read_pixels`` gives those of a file.

    Raises:
        DataError: If ``channels`` is not 1, 3 or 4, or values are not finite.
    """
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    plain = _eight_bit(image)
    plain = opaque(plain) if channels != 4 and plain.has_transparency_data else plain
    upright = in_mode(plain if turn is None else plain.transpose(turn), MODES.get(channels, "RGB"))
    return with_channels(to_array(upright), channels, "the picture")


def check_image(path: File, channels: int) -> int:
    """Looks at the header of a file, without decoding it, and counts its frames.

    Raises:
        DataError: If the header shows that ``read_pixels`` will refuse it.
    """
    with opened(path, lazily=True) as image:
        if isinstance(image, np.ndarray):
            with_channels(from_array(image[:1], "the array"), channels, "the array")
            return 1
        if channels not in MODES:
            with_channels(np.zeros((1, 1, 3), np.uint8), channels, "the picture")
        return _num_frames(image)


def picture_size(path: File) -> tuple[int, int]:
    """Height and width of the upright picture, or of the array, by its header.

    Raises:
        DataError: If the header cannot be read.
    """
    with opened(path, lazily=True) as image:
        if isinstance(image, np.ndarray):
            return image.shape[0], image.shape[1]
        turned = _orientation(image) > 4
        return (image.width, image.height) if turned else (image.height, image.width)


def _num_frames(image: Image.Image) -> int:
    """The number of frames of an animation; previews in a camera's JPEG and damaged frames do not count."""
    try:
        return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except Exception:
        return 1


@contextmanager
def opened(path: File, lazily: bool = False) -> Iterator[Image.Image | np.ndarray]:
    """A file's picture, not decoded yet, or array; whatever goes wrong with it becomes a DataError that names it."""
    try:
        _check_file(path)
        # The decoders warn about odd metadata, which does not matter for pixels.
        with warnings.catch_warnings(), _stream(path) as file:
            warnings.simplefilter("ignore")
            is_array = file.read(len(_ARRAY)) == _ARRAY
            file.seek(0)
            if is_array:
                _check_array(file)
                mapped = None if isinstance(path, Embedded) or not lazily else path
                found = np.load(mapped or file, "r" if mapped else None, allow_pickle=False)
                # CelebA-HQ's files hold a batch of one, channels first.
                yield np.moveaxis(found[0], 0, -1) if found.ndim == 4 and len(found) == 1 else found
            else:
                with Image.open(file, formats=FORMATS) as image:
                    width, height = image.size
                    if width * height > MAX_PIXELS:
                        megapixels = f"at most {MAX_PIXELS // 10**6} megapixels are read"
                        raise DataError(f"it has {width} x {height} pixels, {megapixels}")
                    yield image
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:
        # Damaged files raise anything: OSError, SyntaxError, struct.error, EOFError, ZeroDivisionError, ...
        hint = error.hint if isinstance(error, DataError) else ""
        raise DataError(f"cannot read `{printable(path)}`: {_reason(error)}", hint=hint) from error


def _check_file(path: File) -> None:
    if isinstance(path, Embedded):
        size = len(path.data)
    else:
        status = os.stat(path)
        # Checked before opening: opening a pipe waits for its writer, possibly forever.
        if not stat.S_ISREG(status.st_mode):
            raise DataError("not a regular file")
        size = status.st_size
    if size == 0:
        raise DataError("the file is empty")
    if size > MAX_FILE_BYTES:
        raise DataError(f"the file has {size:,} bytes, at most {MAX_FILE_BYTES:,} are read")


def _stream(path: File) -> io.BytesIO | io.BufferedReader:
    return io.BytesIO(path.data) if isinstance(path, Embedded) else open(path, "rb")


def _check_array(file: io.BytesIO | io.BufferedReader) -> None:
    """Refuses an array whose header says that it holds more than the file: memory for it would be taken first."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    needed, found = math.prod(shape) * kind.itemsize, file.seek(0, os.SEEK_END)
    if needed > found and not kind.hasobject:
        raise DataError(f"the array should hold {needed:,} bytes, the file has {found:,}")
    file.seek(0)


def _reason(error: Exception) -> str:
    if isinstance(error, DataError):
        return error.message
    if isinstance(error, UnidentifiedImageError):
        return f"not an image in a known format ({', '.join(FORMATS)})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _orientation(image: Image.Image) -> int:
    """Call it after loading: the TIFF decoder rotates the image itself and drops the tag."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:
        # Many photographs carry broken metadata around good pixels.
        logger.debug("unreadable EXIF is ignored: %s", _reason(error))
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """An image of any mode in 8 bits a channel, with its transparency: grey (with LA), RGB or RGBA."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled(image)
    if image.has_transparency_data:
        return in_mode(in_mode(image, "LA") if image.mode == "La" else image, "RGBA")
    return image if image.mode == "L" else in_mode(image, "RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Values of more than 8 bits, rounded to 8: the value range of the file becomes 0 to 255."""
    black, white = _value_range(image)
    transparent = image.info.get("transparency")
    result = Image.new("LA" if isinstance(transparent, int) else "L", image.size)
    for top, strip in strips(image):
        values = strip.astype(np.float64)
        if not np.isfinite(values).all():
            raise DataError("it holds values that are not finite")
        scaled = np.rint((values - black) * (255 / (white - black))).astype(np.uint8)
        if isinstance(transparent, int):
            scaled = np.stack([scaled, np.where(values == transparent, 0, 255).astype(np.uint8)], axis=-1)
        result.paste(Image.fromarray(scaled), (0, top))
    return result


def _value_range(image: Image.Image) -> tuple[float, float]:
    """Which values are black and white.

    16-bit images say so by their depth. For floats it is the first of 0 to 1, 0 to 255 and 0 to 65535 that
    holds all values, for 32-bit integers 0 to 65535; where none does, the smallest and largest value.
    """
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        full = float(2 ** tags.get(ExifTags.Base.BitsPerSample, (16,))[0] - 1)
        # TIFF's "white is zero", which the decoder heeds for 8 bits only.
        return (full, 0.0) if tags.get(ExifTags.Base.PhotometricInterpretation) == 0 else (0.0, full)
    low, high = np.array(image.getextrema(), dtype=np.float64).tolist()
    for full in (65535.0,) if image.mode == "I" else (1.0, 255.0, 65535.0):
        if low >= 0 and high <= full:
            return 0.0, full
    return low, high if high > low else low + 1
