"""``--frames``: the growing image as pictures, as an animation and as a page with a slider over the steps."""

import base64
import html
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqgan.cli.outputs import PAGE_MARK, check_targets, is_ours, smaller
from vqgan.errors import require
from vqgan.images import Pixels, read_pixels, save_apng, save_png
from vqgan.images.pixels import to_picture
from vqgan.images.writing import Info
from vqgan.output_files import output_errors, replace_file
from vqgan.tokenizer import Tokenizer, decode_within
from vqgan.types import DrawnTokens, Progress

MAX_FRAMES = 200
"""Each frame costs a decoding of the whole grid, and the animation is put together in memory."""

MAX_ANIMATION_SIDE, MAX_PAGE_SIDE, SMALL_SIDE = 512, 1024, 256
"""Pixels of the longer side. Larger frames are made smaller in the animation and in the page; their files keep the
image's own size. In the page small ones keep sharp pixels; in the animation they are made larger, or the outline would
cover what it frames."""

MAX_PAGE_BYTES = 100_000_000
"""Browsers become slow with larger pages: the more frames, the smaller they are."""

GREYS = -0.35, -0.25
"""The squares of tokens that are not drawn yet."""

AMBER, WHITE = (255, 176, 0), (255, 255, 255)
"""The outlines of what the prior sees are amber, those of the newest tokens white, both between black lines."""

Picture = Float[Tensor, "c H W"]
Grid = Int[Tensor, "h w"]
Mask = Bool[Tensor, "h w"]

Boxes = Sequence[tuple[int, int, int, int]]
"""Top, left, rows and columns of each, in tokens."""


class Frame(NamedTuple):
    """A picture that was written, and what the page says about it."""

    path: Path
    caption: str
    windows: Boxes
    newest: Boxes


class Frames:
    """Follows the first image of a call while it is drawn; give it to a sampling function as ``on_progress``.

    Each frame is a PNG that appears complete or not at all, of the image decoded with what is drawn so far; the
    rest is chequered in grey. Interrupted sampling leaves the frames until then. Only what the page says about
    the frames is kept in memory, until :meth:`finish` joins them.

    Args:
        tokenizer: Decodes the grids.
        folder: Made where it does not exist; frames of an earlier drawing are removed (see :func:`check_frames`).
        memory: Bytes beside the weights for decoding, as the image itself is decoded.
        count: Number of frames, evenly spaced over the image's tokens, from the first report to the finished
            image; fewer where there are fewer reports.
        info: Text chunks for every frame, also shown on the page.
    """

    def __init__(
        self, tokenizer: Tokenizer, folder: Path, *, memory: int, count: int, info: Info | None = None
    ) -> None:
        self._tokenizer, self._folder, self._memory = tokenizer, folder, memory
        self._count, self._info = count, dict(info or {})
        self._first: int | None = None
        self._next = 0
        self._before: Grid | None = None
        self._frames: list[Frame] = []

    def __call__(self, progress: Progress) -> None:
        """Writes a frame if one is due. The finished image is left to :meth:`finish`.

        Raises:
            OutputError: If it cannot be written.
        """
        if not isinstance(progress, DrawnTokens) or 0 not in progress.images:
            return
        grid = progress.indices[progress.images.index(0)]
        # Not `progress.step`: it counts the tokens of all images of the call.
        drawn, tokens = int((grid >= 0).sum()), grid.numel()
        self._first = drawn if self._first is None else self._first
        due = (drawn - self._first) * (self._count - 1) // max(1, tokens - self._first)
        if drawn < tokens and due >= self._next:
            self._next = due + 1
            self._write_grid(grid.cpu(), progress.windows)
        self._before = grid.clone()

    def finish(self, image: Picture) -> list[Path]:
        """Writes the finished image as the last frame, then ``growth.png`` and ``growth.html``.

        Args:
            image: As the sampling function gave it back.

        Returns:
            The paths of the animation and the page.

        Raises:
            OutputError: If a file cannot be written.
        """
        grid = self._tokenizer.grid_size((image.shape[1], image.shape[2]))
        self._write(image, torch.ones(grid, dtype=torch.bool))
        # All together take six seconds, but none is too short or too long to be seen.
        pause = max(40, min(250, 6000 // len(self._frames)))
        pictures = [_outlined(frame, grid) for frame in self._frames]
        animation, page = self._folder / "growth.png", self._folder / "growth.html"
        # It stands still at its end: equal frames in a row become one that is shown longer.
        text = {"frames": str(len(pictures)), **self._info}
        save_apng([*pictures, *[pictures[-1]] * (1500 // pause)], animation, pause, text)
        self._write_page(page, image.shape, grid, pause)
        return [animation, page]

    @torch.no_grad()
    def _write_grid(self, grid: Grid, windows: Boxes) -> None:
        is_drawn = grid >= 0
        was_drawn = is_drawn if self._before is None else self._before.cpu() >= 0
        newest = [(row, column, 1, 1) for row, column in (is_drawn & ~was_drawn).nonzero().tolist()]
        image = decode_within(self._tokenizer, fill_undrawn(grid)[None], self._memory)[0].float().cpu()
        self._write(cover(image, ~is_drawn), is_drawn, windows, newest)

    def _write(self, image: Picture, is_drawn: Mask, windows: Boxes = (), newest: Boxes = ()) -> None:
        if not self._frames:  # a folder never holds pictures of two drawings
            with output_errors(self._folder):
                for earlier in filter(is_ours, _earlier_files(self._folder)):
                    earlier.unlink()
        path = self._folder / f"frame-{len(self._frames):04d}.png"
        step, total = int(is_drawn.sum()), is_drawn.numel()
        save_png(image, path, {"step": str(step), "total": str(total), **self._info})
        seed = f", seed {self._info['seed']}" if "seed" in self._info else ""
        self._frames.append(Frame(path, f"{step} of {total} tokens drawn{seed}", windows, newest))

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
            "small": ' class="small"' * (max(height, width) < SMALL_SIDE),
            "width": width,
            "height": height,
            "rows": grid[0],
            "columns": grid[1],
            "caption": html.escape(last.caption),
            "last": len(frames) - 1,
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


def check_frames(
    folder: Path, count: int | None, inputs: Sequence[Path] = (), *, overwrite: bool = False
) -> None:
    """Raises ConfigError unless this many frames can be made, and may replace the earlier ones in the folder.

    Arguments as of :class:`Frames` and :func:`~vqgan.cli.outputs.check_targets`; None stands for no frames.
    """
    if count is None:
        return
    require(
        2 <= count <= MAX_FRAMES,
        f"`--frames` is {count}, expected 2 to {MAX_FRAMES}",
        hint="it is the number of pictures over the whole drawing, the first and the last included",
    )
    check_targets(folder, [path.name for path in _earlier_files(folder)], inputs, overwrite=overwrite)


def _earlier_files(folder: Path) -> list[Path]:
    names = "frame-[0-9][0-9][0-9][0-9].png", "growth.png", "growth.html"
    return sorted(path for name in names for path in folder.glob(name))


def fill_undrawn(grid: Grid) -> Grid:
    """Puts a drawn code wherever there is none (-1), so that the grid can be decoded.

    It is the nearest above, else the nearest to the left, below or to the right; 0 where nothing is drawn.

    Example:
        >>> fill_undrawn(torch.tensor([[5, 6, 7], [8, -1, -1]])).tolist()
        [[5, 6, 7], [8, 6, 7]]
    """
    for axis, backwards in ((0, False), (1, False), (0, True), (1, True)):
        turned = grid.flip(axis) if backwards else grid
        places = torch.arange(grid.shape[axis]).unsqueeze(1 - axis).expand_as(turned)
        newest = torch.where(turned >= 0, places, 0).cummax(axis).values
        turned = turned.gather(axis, newest)
        grid = turned.flip(axis) if backwards else turned
    return grid.clamp_min(0)


def cover(image: Picture, hidden: Mask) -> Picture:
    """The image with the squares of the hidden tokens chequered in two greys."""
    factor = image.shape[1] // hidden.shape[0]
    rows, columns = (torch.arange(side) for side in hidden.shape)
    greys = torch.tensor(GREYS)[(rows[:, None] + columns) % 2]
    squares, mask = (x.repeat_interleave(factor, 0).repeat_interleave(factor, 1) for x in (greys, hidden))
    return torch.where(mask, squares, image)


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
