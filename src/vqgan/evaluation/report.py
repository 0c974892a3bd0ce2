"""A report as one HTML file that needs nothing else: numbers, pictures and curves inside."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Points = Sequence[tuple[float, float]]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0; } figcaption { color: #555; }
img { max-width: 100%; image-rendering: pixelated; } svg { max-width: 100%; height: auto; }
"""

_COLOURS = ("#3366cc", "#dc3912", "#109618", "#990099")
_WIDTH, _HEIGHT, _LEFT, _TOP = 640.0, 240.0, 60.0, 16.0


@dataclass(frozen=True)
class Row:
    """A number, what it means, and what it is to be compared with."""

    name: str
    value: str
    comparison: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Curves:
    """Named lines over one axis of steps."""

    title: str
    lines: Mapping[str, Points]


def render_report(
    title: str,
    *,
    paragraphs: Sequence[str],
    rows: Sequence[Row],
    pictures: Sequence[Picture],
    curves: Sequence[Curves],
) -> str:
    """The report as one HTML text; pictures are embedded, curves are drawn as SVG."""
    table = "\n".join(
        f"<tr><td>{html.escape(row.name)}</td><td class=number>{html.escape(row.value)}</td>"
        f"<td>{html.escape(row.comparison)}</td></tr>"
        for row in rows
    )
    body = [
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p>{html.escape(text)}</p>" for text in paragraphs),
        "<h2>Numbers</h2>",
        f"<table><tr><th>what</th><th>value</th><th>beside it</th></tr>\n{table}\n</table>",
        "<h2>Pictures</h2>",
        *map(_figure, pictures),
        "<h2>Curves</h2>",
        *(_chart(each) for each in curves if any(each.lines.values())),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    caption = html.escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _chart(curves: Curves) -> str:
    """Lines with the smallest and largest value on each axis."""
    points = [point for line in curves.lines.values() for point in line]
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = min(y for _, y in points), max(y for _, y in points)
    span_x, span_y = (high_x - low_x) or 1.0, (high_y - low_y) or 1.0
    inner_width, inner_height = _WIDTH - _LEFT - 10, _HEIGHT - _TOP - 30
    bottom = _TOP + inner_height

    def place(point: tuple[float, float]) -> str:
        x = _LEFT + (point[0] - low_x) / span_x * inner_width
        return f"{x:.1f},{bottom - (point[1] - low_y) / span_y * inner_height:.1f}"

    marks = [
        _text(_LEFT - 6, _TOP + 5, f"{high_y:.3g}", "end"),
        _text(_LEFT - 6, bottom, f"{low_y:.3g}", "end"),
        _text(_LEFT, bottom + 18, f"{low_x:.0f}", "start"),
        _text(_WIDTH - 10, bottom + 18, f"step {high_x:.0f}", "end"),
    ]
    lines = []
    for number, (name, line) in enumerate(curves.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(place(point) for point in line)
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
        lines.append(_text(_LEFT + 12 + 150 * number, _TOP + 12, name, "start", colour))
    frame = f'<path d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - 10}" fill="none" stroke="#999"/>'
    return (
        f"<figure><figcaption>{html.escape(curves.title)}</figcaption>"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-size="12" role="img">{frame}{"".join(marks + lines)}</svg></figure>'
    )


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#555") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'
