"""The page that ``--frames`` writes: one file with all frames, a slider over them and a button to play them."""

import base64
import html
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vqgan.cli.outputs import PAGE_MARK
from vqgan.images import Pixels, fit, read_pixels
from vqgan.images.pixels import to_picture
from vqgan.images.writing import Info
from vqgan.output_files import replace_file

PAGE_SIDE, SMALL_SIDE = 1024, 256
"""Frames whose longer side has more pixels than the first are made smaller in the page. Those with fewer than the
second keep sharp pixels there, and are made larger in the animation."""

PAGE_BYTES = 100_000_000
"""Browsers become slow with larger pages: the more frames, the smaller they are."""

Boxes = Sequence[tuple[int, int, int, int]]
"""Top, left, rows and columns of each, in tokens."""

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 64rem; margin: 1rem auto; padding: 0 1rem; } h1 { font-size: 1.3rem; } figure { margin: 0; }
figcaption { margin: .8rem 0; font-variant-numeric: tabular-nums; } #stage { display: grid; margin: 0 auto; }
#stage > * { grid-area: 1 / 1; width: 100%; height: 100%; } #stage.small { image-rendering: pixelated; }
img { visibility: hidden; } img.shown { visibility: visible; } svg { overflow: visible; z-index: 1; }
path { fill: none; stroke: #000; stroke-width: 5px; vector-effect: non-scaling-stroke; }
#windows { stroke: #ffb000; stroke-width: 2.5px; } #newest { stroke: #fff; stroke-width: 2px; }
#controls { display: flex; flex-wrap: wrap; gap: .8rem; align-items: center; } #controls[hidden] { display: none; }
#play { min-width: 5rem; } #step { flex: 1 1 14rem; } dd { margin: 0; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0 1rem; }
"""

_SCRIPT = """
const byId = (id) => document.getElementById(id), slider = byId("step"), play = byId("play"), outline = byId("outline");
const { pause, frames } = JSON.parse(byId("frames").textContent), last = frames.length - 1;
const path = (boxes) => boxes.map(([top, left, h, w]) => `M${left} ${top}h${w}v${h}H${left}z`).join("");
let timer = 0;
function show(number) {
  const { caption, windows, newest } = frames[number];
  document.querySelectorAll("img").forEach((image, i) => image.classList.toggle("shown", i === number));
  for (const [id, boxes] of Object.entries({ windows, newest, halo: [...windows, ...newest] }))
    byId(id).setAttribute("d", outline.checked ? path(boxes) : "");
  slider.value = number; slider.setAttribute("aria-valuetext", caption); byId("caption").textContent = caption;
}
function stop() { clearInterval(timer); timer = 0; play.textContent = "Play"; }
function start() {
  if (+slider.value === last) show(0);
  timer = setInterval(() => { +slider.value < last ? show(+slider.value + 1) : stop(); }, pause);
  play.textContent = "Pause";
}
slider.addEventListener("input", () => { stop(); show(+slider.value); });
play.addEventListener("click", () => { timer ? stop() : start(); });
outline.addEventListener("change", () => show(+slider.value));
document.addEventListener("keydown", (event) => {
  const now = +slider.value, to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
  if (to === undefined || event.ctrlKey || event.altKey || event.metaKey || event.target === slider) return;
  event.preventDefault(); stop(); show(Math.min(Math.max(to, 0), last));
});
byId("controls").hidden = false; show(last);
"""


@dataclass(frozen=True)
class Frame:
    """A picture that was written, and what the pages say about it."""

    path: Path
    caption: str
    windows: Boxes
    newest: Boxes


def write_page(
    path: Path,
    frames: Sequence[Frame],
    *,
    shape: tuple[int, int, int],
    grid: tuple[int, int],
    info: Info,
    pause: int,
) -> None:
    """Writes the page, frame by frame: together they can be more than the memory should hold.

    Args:
        path: Where it appears complete or not at all.
        frames: What it shows; their files are read now.
        shape: Channels, height and width of the image.
        grid: Its rows and columns in tokens.
        info: Names and texts to list below.
        pause: Milliseconds for each frame while they are played.

    Raises:
        OutputError: If it cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(_page(frames, shape, grid, info, pause))

    replace_file(path, write)


def page_side(shape: tuple[int, int, int], count: int) -> int:
    """The longest side that ``count`` pictures of an image (c, H, W) may have in a page of ``PAGE_BYTES``.

    Example:
        >>> [page_side((3, 1024, 1024), count) for count in (20, 50, 200)]
        [1024, 707, 353]
    """
    channels, height, width = shape
    # A picture that cannot be packed has a byte for each channel of a pixel; base64 makes four bytes of three.
    pixels = PAGE_BYTES * 3 / 4 / (channels * count)
    return min(PAGE_SIDE, int(max(height, width) * math.sqrt(pixels / (height * width))))


def smaller(pixels: Pixels, longest: int) -> UInt8[np.ndarray, "rows columns c"]:
    """The image with its longer side at most ``longest``."""
    scale = longest / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return fit(pixels, (height, width)) if scale < 1 else pixels


def _page(
    frames: Sequence[Frame], shape: tuple[int, int, int], grid: tuple[int, int], info: Info, pause: int
) -> Iterator[str]:
    """The page, piece by piece. It needs nothing else, and forbids itself to ask for anything."""
    _, height, width = shape
    steps = [{"caption": each.caption, "windows": each.windows, "newest": each.newest} for each in frames]
    # No `</script>` may stand within a script.
    data = json.dumps({"pause": pause, "frames": steps}).replace("<", "\\u003c")
    small = ' class="small"' * (max(height, width) < SMALL_SIDE)
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{PAGE_MARK}\n"
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>How an image grew</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>How an image grew</h1>\n<figure>\n<div id="stage"{small} '
        f'style="aspect-ratio: {width} / {height}; width: min(100%, {70 * width / height:.2f}vh)">\n'
    )
    longest = page_side(shape, len(frames))
    for frame in frames:
        png = base64.b64encode(_page_png(frame.path, shape[0], longest)).decode("ascii")
        shown = ' class="shown"' * (frame is frames[-1])
        yield f'<img{shown} alt="{html.escape(frame.caption)}" decoding="sync" src="data:image/png;base64,{png}">\n'
    terms = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>\n" for name, text in info.items())
    yield (
        f'<svg viewBox="0 0 {grid[1]} {grid[0]}" preserveAspectRatio="none" aria-hidden="true">'
        '<path id="halo"/><path id="windows"/><path id="newest"/></svg>\n</div>\n'
        f'<figcaption id="caption">{html.escape(frames[-1].caption)}</figcaption>\n</figure>\n'
        '<div id="controls" hidden>\n<button id="play" type="button">Play</button>\n<label for="step">Frame</label>\n'
        f'<input id="step" type="range" min="0" max="{len(frames) - 1}" step="1" value="{len(frames) - 1}">\n'
        '<label><input id="outline" type="checkbox" checked> outline what the prior sees</label>\n</div>\n'
        f"<dl>\n{''.join(terms)}</dl>\n"
        f'<script type="application/json" id="frames">{data}</script>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n'
    )


def _page_png(path: Path, channels: int, longest: int) -> bytes:
    """A frame's file, or one of the same picture with its longer side at most ``longest``."""
    pixels = read_pixels(path, channels)
    if max(pixels.shape[:2]) <= longest:
        return path.read_bytes()
    buffer = io.BytesIO()
    to_picture(smaller(pixels, longest)).save(buffer, "PNG")
    return buffer.getvalue()
