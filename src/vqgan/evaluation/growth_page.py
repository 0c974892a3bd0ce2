"""How an image grew, as files: a picture of each step, an animation, and a page with a slider over the steps."""

import base64
import html
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from vqgan.images import Pixels, read_pixels, save_apng, save_png, smaller
from vqgan.images.ours import PAGE_MARK, is_ours
from vqgan.images.pixels import to_picture
from vqgan.images.writing import Info
from vqgan.output_files import output_errors, replace_file

MAX_FRAMES = 200
"""A frame may cost a decoding of the whole grid, and the animation is put together in memory."""

MAX_ANIMATION_SIDE, MAX_PAGE_SIDE, SMALL_SIDE = 512, 1024, 256
"""Pixels of the longer side. Larger frames are made smaller in the animation and in the page; their files keep the
image's own size. In the page small ones keep sharp pixels; in the animation they are made larger, or the outline would
cover what it frames."""

MAX_PAGE_BYTES = 100_000_000
"""Browsers become slow with larger pages: the more frames, the smaller they are."""

AMBER, WHITE = (255, 176, 0), (255, 255, 255)
"""The outlines of what the prior sees are amber, those of the newest tokens white, both between black lines."""

Picture = Float[Tensor, "c H W"]

Boxes = Sequence[tuple[int, int, int, int]]
"""Top, left, rows and columns of each, in tokens."""


class Frame(NamedTuple):
    """A picture that was written, and what the page says about it."""

    path: Path
    caption: str
    windows: Boxes
    newest: Boxes


class GrowthPage:
    """The frames of one growing image, each a PNG that appears complete or not at all; the end joins them.

    Only what the page says about the frames is kept in memory.

    Args:
        folder: Made where it does not exist; the first frame removes those of an earlier drawing.
        info: Text chunks for every frame, also shown on the page.
        title: Of the page.
    """

    def __init__(self, folder: Path, info: Info | None = None, *, title: str = "How an image grew") -> None:
        self._folder, self._info, self._title = folder, dict(info or {}), title
        self._frames: list[Frame] = []

    def add(
        self, image: Picture, step: int, total: int, what: str, windows: Boxes = (), newest: Boxes = ()
    ) -> None:
        """Writes the next frame.

        Args:
            image: Values in [-1, 1]; of the same size each time.
            step: How far the image is.
            total: Where it ends.
            what: What both count, as ``tokens drawn``.
            windows: Outlined in amber.
            newest: Outlined in white.

        Raises:
            OutputError: If it cannot be written.
        """
        if not self._frames:  # a folder never holds pictures of two drawings
            with output_errors(self._folder):
                for earlier in filter(is_ours, earlier_files(self._folder)):
                    earlier.unlink()
        save_png(image, self._next, {"step": str(step), "total": str(total), **self._info})
        self._frames.append(Frame(self._next, self._caption(step, total, what), windows, newest))

    def go_on(self, steps: Sequence[int], total: int, what: str) -> None:
        """Takes up the frames of an earlier drawing that was stopped, without their outlines.

        Args:
            steps: Of each frame that is there; those after them are written anew.
            total: As of :meth:`add`, like ``what``.
            what: What they count.

        Raises:
            DataError: If a frame is missing or damaged.
        """
        for step in steps:
            read_pixels(self._next, 3)
            self._frames.append(Frame(self._next, self._caption(step, total, what), (), ()))

    @property
    def _next(self) -> Path:
        return self._folder / f"frame-{len(self._frames):04d}.png"

    @property
    def paths(self) -> list[Path]:
        """The files of the frames."""
        return [frame.path for frame in self._frames]

    def _caption(self, step: int, total: int, what: str) -> str:
        seed = f", seed {self._info['seed']}" if "seed" in self._info else ""
        return f"{step} of {total} {what}{seed}"

    def finish(self, shape: tuple[int, ...], grid: tuple[int, int]) -> list[Path]:
        """Writes ``growth.png`` and ``growth.html``, and gives their paths.

        Args:
            shape: Channels, height and width of the frames.
            grid: Rows and columns in which the outlines are counted.

        Raises:
            OutputError: If a file cannot be written.
        """
        # All together take six seconds, but none is too short or too long to be seen.
        pause = max(40, min(250, 6000 // len(self._frames)))
        pictures = [_outlined(frame, grid) for frame in self._frames]
        animation, page = self._folder / "growth.png", self._folder / "growth.html"
        # It stands still at its end: equal frames in a row become one that is shown longer.
        text = {"frames": str(len(pictures)), **self._info}
        save_apng([*pictures, *[pictures[-1]] * (1500 // pause)], animation, pause, text)
        self._write_page(page, shape, grid, pause)
        return [animation, page]

    def _write_page(self, path: Path, shape: tuple[int, ...], grid: tuple[int, int], pause: int) -> None:
        """Writes the page, frame by frame: all of them can be more than the memory should hold.

        It needs nothing else, and its policy forbids it to ask for anything. The image has this shape (c H W) and this
        grid of tokens; a frame is shown for ``pause`` milliseconds.
        """
        (channels, height, width), frames, last = shape, self._frames, self._frames[-1]
        steps = [{"caption": each.caption, "windows": each.windows, "newest": each.newest} for each in frames]
        terms = [
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>\n" for name, text in self._info.items()
        ]
        values = {
            "mark": PAGE_MARK,
            "title": html.escape(self._title),
            "small": ' class="small"' * (max(height, width) < SMALL_SIDE),
            "width": width,
            "height": height,
            "rows": grid[0],
            "columns": grid[1],
            "caption": html.escape(last.caption),
            "last": len(frames) - 1,
            "plain": " hidden" * (not any(each.windows or each.newest for each in frames)),
            "terms": "".join(terms),
            # No `</script>` may stand within a script.
            "data": json.dumps({"pause": pause, "frames": steps}).replace("<", "\\u003c"),
        }
        template = Path(__file__).with_name("growth.html").read_text(encoding="utf-8")
        before, after = (
            re.sub(r"\{\{(\w+)\}\}", lambda found: str(values[found[1]]), part)
            for part in template.split("{{pictures}}")
        )
        side = page_side(shape, len(frames))

        def write(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(before)
                for each in frames:
                    png = base64.b64encode(_page_png(each.path, channels, side)).decode("ascii")
                    shown, alt = ' class="shown"' * (each is last), html.escape(each.caption)
                    file.write(
                        f'<img{shown} alt="{alt}" decoding="sync" src="data:image/png;base64,{png}">\n'
                    )
                file.write(after)

        replace_file(path, write)


def earlier_files(folder: Path) -> list[Path]:
    """The files in a folder that have the names of ours."""
    names = "frame-[0-9][0-9][0-9][0-9].png", "growth.png", "growth.html"
    return sorted(path for name in names for path in folder.glob(name))


def _outlined(frame: Frame, grid: tuple[int, int]) -> Pixels:
    """The frame as the animation shows it: with its windows and its newest tokens, in colour."""
    pixels = smaller(read_pixels(frame.path, 3), MAX_ANIMATION_SIDE)
    times = max(1, SMALL_SIDE // max(pixels.shape[:2]))
    pixels = pixels.repeat(times, axis=0).repeat(times, axis=1)
    height, width = pixels.shape[:2]
    for boxes, colour in ((frame.windows, AMBER), (frame.newest, WHITE)):
        for top, left, rows, columns in boxes:
            y, bottom = (round(row * height / grid[0]) for row in (top, top + rows))
            x, right = (round(column * width / grid[1]) for column in (left, left + columns))
            rings = [pixels[y + i : max(y, bottom - i), x + i : max(x, right - i)] for i in (0, 1, 3, 4)]
            for ring, fill in zip(rings, (0, colour, 0, rings[-1].copy()), strict=True):
                ring[:] = fill
    return pixels


def page_side(shape: tuple[int, ...], count: int) -> int:
    """The longest side that ``count`` pictures of an image (c, H, W) may have in a page of ``MAX_PAGE_BYTES``.

    Example:
        >>> [page_side((3, 1024, 1024), count) for count in (20, 50, 200)]
        [1024, 707, 353]
    """
    channels, height, width = shape
    # A picture that cannot be packed has a byte for each channel of a pixel; base64 makes four bytes of three.
    pixels = MAX_PAGE_BYTES * 3 / 4 / (channels * count)
    return min(MAX_PAGE_SIDE, int(max(height, width) * math.sqrt(pixels / (height * width))))


def _page_png(path: Path, channels: int, longest: int) -> bytes:
    """A frame's file, or one of the same picture with its longer side at most ``longest``."""
    pixels = read_pixels(path, channels)
    if max(pixels.shape[:2]) <= longest:
        return path.read_bytes()
    buffer = io.BytesIO()
    to_picture(smaller(pixels, longest)).save(buffer, "PNG")
    return buffer.getvalue()
