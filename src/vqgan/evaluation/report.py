"""A report as one HTML file that needs nothing else: numbers, pictures and curves inside."""

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

from vqgan.errors import CheckpointError

Points = Sequence[tuple[float, float]]

_STYLE = """
:root { color-scheme: light dark; --0: #3366cc; --1: #dc3912; --2: #109618; --3: #990099;
  --4: #0088a8; --5: #b8860b; --6: #c2185b; --7: #666666; }
@media (prefers-color-scheme: dark) { :root { --0: #8ab0ff; --1: #ff8a70; --2: #6fdc78; --3: #e58ae5;
  --4: #5cd3ee; --5: #e6c14d; --6: #ff80ab; --7: #bbbbbb; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .3rem .8rem; border-bottom: 1px solid #8886; text-align: left; overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0; } figcaption { opacity: .8; } figcaption span { margin-left: 1rem; }
.beside { display: flex; gap: 1rem; } .beside figure { flex: 1; min-width: 0; }
img { max-width: 100%; } img.small { image-rendering: pixelated; }
svg { max-width: 100%; height: auto; } svg text { fill: currentColor; }
"""

NUM_COLOURS = 8
_WIDTH, _HEIGHT, _LEFT, _TOP = 640.0, 240.0, 60.0, 28.0
_MAX_WIDTH, _MAX_FACTOR = 640, 8
"""Smaller pictures are enlarged by the largest whole factor that keeps within this many pixels, and this factor."""


Row = tuple[str, str, str]
"""A number's name, the number, and how to read it: what it means, or what it is to be compared with."""


class Chart(NamedTuple):
    """Named lines, what both axes count, and where the vertical one begins (by default at the least value)."""

    unit: str
    lines: Mapping[str, Points]
    across: str = "training step"
    low: float | None = None


def read_rows(metrics: Path) -> list[dict[str, Any]]:
    """The complete rows of a run's ``metrics.jsonl``, none where there is no file; CheckpointError if it is damaged."""
    lines = metrics.read_bytes().splitlines(keepends=True) if metrics.exists() else []
    try:  # the last one may be in the making
        return [json.loads(line) for line in lines if line.endswith(b"\n")]
    except ValueError as error:
        raise CheckpointError(f"`{metrics}` is damaged: {error}") from None


def line_of(rows: Iterable[Mapping[str, Any]], name: str) -> Points:
    """A number over the steps; what is not finite is a word, and left out."""
    return [(float(row["step"]), row[name]) for row in rows if isinstance(row.get(name), float)]


def read_charts(metrics: Path, charts: Mapping[str, tuple[str, Sequence[str]]]) -> dict[str, Chart]:
    """Charts from a run's ``metrics.jsonl``: for each title the unit and the names of the numbers."""
    rows = read_rows(metrics)
    return {
        title: Chart(unit, {name: line for name in names if (line := line_of(rows, name))})
        for title, (unit, names) in charts.items()
    }


def render_report(
    title: str,
    *,
    paragraphs: Sequence[str],
    rows: Sequence[Row] = (),
    tables: Mapping[str, Sequence[Sequence[str]]] | None = None,
    links: Mapping[str, str] | None = None,
    pictures: Mapping[Path, str],
    beside: Sequence[Mapping[Path, str]] = (),
    charts: Mapping[str, Chart],
) -> str:
    """The report as one HTML text; pictures (PNG files and what they show) are embedded, charts drawn as SVG.

    Args:
        title: Of the page.
        paragraphs: Below it.
        rows: The numbers; without any, there is no table of them.
        tables: Further ones by heading; the first row is the header, the last column explains.
        links: What other files show, by their paths from the report's folder.
        pictures: In order.
        beside: Further ones, those of each group side by side.
        charts: By title; those without points are omitted.
    """
    body = [
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p>{html.escape(text)}</p>" for text in paragraphs),
        *starmap(_link, (links or {}).items()),
        *(["<h2>Numbers</h2>", _table([("what", "value", "how to read it"), *rows])] if rows else []),
        *(f"<h2>{html.escape(heading)}</h2>\n{_table(lines)}" for heading, lines in (tables or {}).items()),
        "<h2>Pictures</h2>",
        *starmap(_figure, pictures.items()),
        *(f'<div class="beside">{"".join(starmap(_figure, group.items()))}</div>' for group in beside),
        "<h2>Curves</h2>",
        *(_chart(title, *chart) for title, chart in charts.items() if any(chart.lines.values())),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _link(path: str, text: str) -> str:
    return f'<p><a href="{html.escape(path)}">{html.escape(text)}</a></p>'


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Of each line but the first, the header, all between the first and the last are numbers."""
    rows = []
    for number, (first, *middle, last) in enumerate(map(html.escape, line) for line in lines):
        if number:
            values = "".join(f"<td class=number>{value}</td>" for value in middle)
            rows.append(f"<tr><td>{first}</td>{values}<td>{last}</td></tr>")
        else:
            rows.append("".join(["<tr>", *(f"<th>{name}</th>" for name in (first, *middle, last)), "</tr>"]))
    return "\n".join(["<table>", *rows, "</table>"])


def _figure(path: Path, caption: str) -> str:
    content = path.read_bytes()
    data, caption = base64.b64encode(content).decode("ascii"), html.escape(caption)
    width = int.from_bytes(content[16:20], "big")  # the first entry of a PNG's header
    factor = min(_MAX_FACTOR, max(1, _MAX_WIDTH // width))
    small = f' class="small" width="{width * factor}"' * (factor > 1)
    image = f'<img{small} alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _chart(title: str, unit: str, named: Mapping[str, Points], across: str, low: float | None) -> str:
    """Lines with the smallest and largest value on each axis."""
    xs, ys = zip(*(point for line in named.values() for point in line), strict=True)
    low_x, high_x, low_y, high_y = min(xs), max(xs), min(ys) if low is None else low, max(ys)
    scale_x = (_WIDTH - _LEFT - 10) / ((high_x - low_x) or 1.0)
    bottom = _HEIGHT - 30
    scale_y = (bottom - _TOP) / ((high_y - low_y) or 1.0)

    marks = [
        _text(_LEFT - 6, _TOP + 5, f"{high_y:.3g}", "end"),
        _text(_LEFT - 6, bottom, f"{low_y:.3g}", "end"),
        _text(_LEFT, bottom + 18, f"{low_x:.0f}", "start"),
        _text(_WIDTH - 10, bottom + 18, f"{high_x:.0f}", "end"),
        _text((_LEFT + _WIDTH) / 2, bottom + 18, across, "middle"),
        _text(4.0, 12.0, unit, "start"),
    ]
    lines, legend = [], []
    for number, (name, line) in enumerate(named.items()):
        colour = f"var(--{number % NUM_COLOURS})"
        path = " ".join(
            f"{_LEFT + (x - low_x) * scale_x:.1f},{bottom - (y - low_y) * scale_y:.1f}" for x, y in line
        )
        lines.append(f'<polyline fill="none" style="stroke: {colour}" stroke-width="1.5" points="{path}"/>')
        legend.append(f'<span style="color: {colour}">&#9632; {html.escape(name)}</span>')
    frame = f'<path d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - 10}" fill="none" stroke="#999"/>'
    return (
        f"<figure><figcaption>{html.escape(title)}{''.join(legend)}</figcaption>"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-size="12" role="img">{frame}{"".join(marks + lines)}</svg></figure>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{html.escape(text)}</text>'
