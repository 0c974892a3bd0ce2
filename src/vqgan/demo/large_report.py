"""The report of the large demo: the drawn sky beside the real one, what a token costs, how well both stages learned."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqgan.demo.report import filled, write_page
from vqgan.evaluation.report import Chart

TEXTURES = {
    "frechet": (
        "distance to held-out squares",
        "Frechet distance of the tokenizer's latents of equally many patches of 64x64 pixels: smaller is more alike",
    ),
    "frechet_ring_0": ("... of patches at the border", "the same, of the outermost patches only"),
    "frechet_ring_1": ("... of the next patches", "the same, one patch further in"),
    "frechet_ring_2": (
        "... of all deeper ones",
        "the same: as small as at the border if the sky is as good far from it",
    ),
    "spectrum_db": (
        "power spectrum",
        "root mean square difference in dB: too smooth, too noisy, or of another grain",
    ),
    "colour": ("colours", "how far they must be moved to be as frequent as in the squares, of 255"),
    "seam_rows": (
        "seams between rows of tokens",
        "change across the borders of tokens, as a multiple of that elsewhere, ± its error: 1 where no seam is; the "
        "real picture is a JPEG, whose blocks have 8 pixels too",
    ),
    "seam_columns": ("seams between columns of tokens", "the same from left to right"),
    "window_seam_rows": (
        "seams every {window} pixels, rows",
        "the same at the length of the crops that the prior learned from, compared with the borders of other tokens",
    ),
    "window_seam_columns": ("seams every {window} pixels, columns", "the same from left to right"),
    "repetition": (
        "repetition",
        "largest correlation of the details with themselves, moved, in the upper left 1024x1024 pixels: 1 is a copy",
    ),
    "nearest": (
        "nearest part of the training",
        "median over patches of the root mean square difference to the most similar place, mirrored or not, of 255; by "
        "chance it is {heldout_nearest:.3g} for reconstructed held-out patches; the real picture is what was "
        "trained on, so it has 0",
    ),
    "nearest_least": ("... of the nearest patch", "the least of them: 0 would be a copy"),
}
"""What is measured on the drawn picture, the real one and its reconstruction, and what each number means."""

_ROWS = [
    (
        "each token",
        "{milliseconds:.3f} ms",
        "{tokens:,} tokens in {drawing:.0f} s; of the first eighth {first:.3f} ms, of the last {last:.3f} ms",
    ),
    (
        "memory while drawing",
        "{drawing_gigabytes:.2f} GB",
        "the most of the process, decoding included, mapped files not; it held {before_gigabytes:.2f} GB before",
    ),
    (
        "tokenizer, held out (PSNR)",
        "{tokenizer_heldout_psnr:.1f} dB",
        "of squares of the picture that were never trained on: 25 recognisable, 30 good",
    ),
    (
        "prior, held out, per token",
        "{prior_heldout_loss:.3f} nats",
        "guessing costs {uniform_loss:.3f} nats",
    ),
]
"""The numbers of the report: what, the value, and how to read it."""


def write_large_report(folder: Path, numbers: Mapping[str, Any]) -> None:
    """``report.html``: picture, links to its pages, numbers, textures beside those of the real picture, and curves."""
    (height, width), paces = numbers["picture_size"], numbers["seconds_per_token"]
    seconds = numbers["seconds"]
    shown = {
        **numbers,
        "milliseconds": 1000 * seconds["drawing"] / numbers["tokens"],
        "drawing": seconds["drawing"],
        "first": 1000 * paces[0],
        "last": 1000 * paces[-1],
        "drawing_gigabytes": numbers["drawing_memory_bytes"] / 1e9,
        "before_gigabytes": numbers["memory_before_drawing_bytes"] / 1e9,
    }
    drawn = sorted((folder / "picture" / "frames").glob("frame-*.png"))[-1]
    part = height / len(paces)
    pace = [((number + 0.5) * part, 1000 * each) for number, each in enumerate(paces)]
    window = numbers["window"]
    write_page(
        folder,
        "vqgan demo --large",
        numbers,
        paragraphs=[
            f"A sky of {height}x{width} pixels, drawn token by token. Both stages learned from crops of the left four "
            f"fifths of the Hubble Deep Field (NASA), the prior from {window}x{window} pixels each; the right fifth "
            "was held out. The last rows of the table tell whether anything was copied."
        ],
        links={
            "picture/sky.html": "Zoom into the picture",
            "picture/frames/growth.html": "Watch it grow",
            "picture/sky.png": "The picture as one file",
        },
        rows=filled(_ROWS, shown),
        tables={"The drawn sky and the real one": _textures(numbers)},
        pictures={
            drawn: f"The drawn sky, {height}x{width} pixels, made smaller",
            folder / "details.png": "In full size: drawn, real and held out, and the latter's reconstruction",
        },
        charts={
            "What a token costs, from top to bottom (fewer rows are drawn abreast at both ends)": Chart(
                "ms", {"milliseconds for each token": pace}, "row of pixels", low=0.0
            ),
        },
    )


def _textures(numbers: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The header, and a row for each number."""
    of_each = numbers["textures"]
    rows: list[tuple[str, ...]] = [("what", "drawn", "real", "real, reconstructed", "how to read it")]
    for name, (what, meaning) in TEXTURES.items():
        values = (
            _number(measured, name) for measured in (of_each["drawn"], of_each["real"], of_each["rebuilt"])
        )
        rows.append((what.format_map(numbers), *values, meaning.format_map(numbers)))
    return rows


def _number(measured: Mapping[str, float], name: str) -> str:
    error = measured.get(f"{name}_error")
    return f"{measured[name]:.3g}" if error is None else f"{measured[name]:.3f} ± {error:.3f}"
