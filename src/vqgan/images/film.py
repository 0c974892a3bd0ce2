"""Films of picture files: animations through Pillow, MP4 through imageio-ffmpeg."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from vqgan.errors import ConfigError, require
from vqgan.images.pixels import to_picture
from vqgan.images.reading import picture_size, read_pixels
from vqgan.output_files import replace_file

_ANIMATED = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}


def check_film(path: str | Path) -> None:
    """Raises ConfigError unless the ending is ``.gif``, ``.webp``, ``.png`` or, with imageio-ffmpeg, ``.mp4``."""
    kind = Path(path).suffix.lower()
    expected = f"`{path}` is no film, expected the ending .mp4, {', '.join(_ANIMATED)}"
    require(kind == ".mp4" or kind in _ANIMATED, expected, hint="name it `film.webp`, for example")
    if kind == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise ConfigError(
            f"`{path}` needs imageio-ffmpeg, which is not installed",
            hint="run `pip install imageio-ffmpeg`, or name it `film.webp`",
        )


def save_film(frames: Sequence[Path], path: str | Path, *, milliseconds: int = 80) -> Path:
    """Writes equally large picture files as one film, which appears complete or not at all.

    Args:
        frames: The files, at least one.
        path: Of the film; the ending is its kind. Animations are endless; an MP4 loses an odd last row or column.
        milliseconds: For which each is shown.

    Raises:
        ConfigError: As :func:`check_film`.
        DataError: If a picture cannot be read.
        OutputError: If the file cannot be written.
    """
    check_film(path)
    path = Path(path)
    kind = _ANIMATED.get(path.suffix.lower())

    def write(temporary: Path) -> None:
        if kind is None:
            _write_mp4(frames, temporary, 1000 / milliseconds)
            return
        first, *rest = (to_picture(read_pixels(each, 3)) for each in frames)
        more = {"save_all": True, "append_images": rest, "duration": milliseconds, "loop": 0}
        first.save(temporary, kind, lossless=True, **more)

    replace_file(path, write, durable=False)
    return path


def _write_mp4(frames: Sequence[Path], path: Path, rate: float) -> None:
    import imageio_ffmpeg

    height, width = (side // 2 * 2 for side in picture_size(frames[0]))
    more = ["-f", "mp4"]  # the temporary file has another ending
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=rate, macro_block_size=2, output_params=more
    )
    writer.send(None)
    for each in frames:
        writer.send(np.ascontiguousarray(read_pixels(each, 3)[:height, :width]))
    writer.close()
