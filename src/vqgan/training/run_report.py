"""The report of a run: ``report.html`` in its folder, with its last numbers, pictures and curves."""

import json
import re
from pathlib import Path

from vqgan.checkpoints.files import write_text
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.evaluation.report import Curves, Picture, Row, render_report

CURVES = {
    "Loss": ("loss", "reconstruction_loss", "heldout_loss"),
    "PSNR on held-out images (dB)": ("heldout_psnr",),
    "Share of the codebook in use": ("usage", "heldout_usage"),
    "Adaptive weight of the adversary": ("adaptive_weight",),
    "Learning rate": ("learning_rate",),
}

_PICTURE = re.compile(r"^(.+)-\d{8,}\.png$")


def write_run_report(folder: RunFolder) -> None:
    """Writes the report of a run from what stands in its folder; nothing else is needed to look at it.

    Raises:
        OutputError: If the disk refuses.
    """
    rows = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    last = {name: (value, row["step"]) for row in rows for name, value in row.items() if name != "step"}
    curves = []
    for title, names in CURVES.items():
        lines = {
            name: [(float(row["step"]), row[name]) for row in rows if isinstance(row.get(name), float)]
            for name in names
        }
        curves.append(Curves(title, {name: line for name, line in lines.items() if line}))
    text = render_report(
        folder.path.resolve().name,
        paragraphs=[f"{rows[-1]['step']:,} steps." if rows else "No number was logged."],
        rows=[Row(name, f"{value:.4g}", f"step {step:,}") for name, (value, step) in sorted(last.items())],
        pictures=_newest_pictures(folder.images),
        curves=curves,
    )
    write_text(folder.report, text)


def _newest_pictures(images: Path) -> list[Picture]:
    """The last picture of each kind, and the animation over the training."""
    newest = {
        found.group(1): path for path in sorted(images.glob("*.png")) if (found := _PICTURE.match(path.name))
    }
    pictures = [Picture(path, name) for name, path in newest.items()]
    animation = images / "training.png"
    return (
        [*pictures, Picture(animation, "one picture over the training")] if animation.exists() else pictures
    )
