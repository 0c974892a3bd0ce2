"""The demo's report: its numbers with their baselines, its pictures, the curves of both stages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.evaluation.report import Chart, Row, read_charts, render_report
from vqgan.output_files import write_text
from vqgan.training.report import CHARTS

QUICK_RUN = "This was a quick run: it shows that all works, not what it can do."

ROWS = [
    (
        "reconstruction (PSNR)",
        "{reconstruction_psnr:.1f} dB",
        "nearest of all training frames {nearest_frame_psnr:.1f} dB, mean of the room {room_mean_psnr:.1f} dB, "
        "mean image {mean_image_psnr:.1f} dB",
    ),
    (
        "moving pixels (PSNR)",
        "{moving_psnr:.1f} dB",
        "the room's median {background_moving_psnr:.1f} dB; {moving_share:.1%} of all pixels",
    ),
    (
        "codebook in use",
        "{codebook_usage:.0%}",
        "of {codebook_size} codes, one for {downsample_factor} x {downsample_factor} pixels",
    ),
    (
        "prior, per token",
        "{prior_loss:.3f} nats",
        "previous token {previous_token_loss:.3f} nats, frequency at the position {position_frequency_loss:.3f} nats, "
        "uniform {uniform_loss:.3f} nats",
    ),
]
"""The numbers of the report: what, the value, and what it is to be compared with."""

THINGS: Row = (
    "unknown things in new frames",
    "{unknown_things:.0%}",
    "of {things:.1f} that move in a frame: farther from the known ones than 95 % of those in rebuilt held-out frames",
)


def write_demo_report(folder: Path, numbers: Mapping[str, Any]) -> None:
    """``report.html``: the numbers with their baselines, the pictures, the curves of both stages."""
    height, width = numbers["image_size"]
    digits = numbers["data"] == "digits"
    paragraphs = [
        f"Both stages, trained on {numbers['training_frames']:,} frames of {height} x {width} pixels "
        f"({numbers['data']}, {len(numbers['rooms'])} rooms or classes) in "
        f"{numbers['seconds_total'] / 60:.1f} minutes. "
        f"Every number is measured on {numbers['heldout_frames']:,} held-out "
        f"{'images' if digits else 'frames of another seed'}; "
        f"{numbers['heldout_frames_seen_in_training']:,} more equalled a training frame and were omitted.",
        "No perceptual loss is used here: its network would have to be downloaded. "
        + ("Pixels do" if digits else "Pixels, the worst pixels of each image and a discriminator do")
        + " the work.",
    ]
    pictures = {
        "reconstructions.png": "Held-out frames above, their reconstructions below",
        "samples.png": "New frames, drawn token by token",
        "completions.png": "Held-out frames, the half that is given, and two completions of it",
        "codes.png": "What each code stands for, the most frequent first",
        "tokenizer/images/training.png": "One reconstruction over the training",
    }
    write_page(
        folder,
        "vqgan demo",
        numbers,
        paragraphs=paragraphs,
        rows=filled(ROWS if digits else (*ROWS, THINGS), numbers),
        pictures={folder / name: caption for name, caption in pictures.items()},
    )


def filled(rows: Sequence[Row], numbers: Mapping[str, Any]) -> list[Row]:
    """Rows with the numbers in the places of their names."""
    return [(what, value.format_map(numbers), read.format_map(numbers)) for what, value, read in rows]


def write_page(
    folder: Path,
    title: str,
    numbers: Mapping[str, Any],
    *,
    paragraphs: Sequence[str],
    rows: Sequence[Row],
    charts: Mapping[str, Chart] | None = None,
    **parts: Any,
) -> None:
    """``report.html`` of a demo: beside what is given, as in ``render_report``, what it took and its stages' curves."""
    seconds = numbers["seconds"]
    phases = ", ".join(f"{phase} {value:.0f} s" for phase, value in seconds.items())
    curves = {
        f"{stage.capitalize()}: {title}": chart
        for stage in seconds
        if (folder / stage).is_dir()
        for title, chart in read_charts(RunFolder(folder / stage).metrics, CHARTS).items()
    }
    memory = f"{numbers['peak_memory_bytes'] / 1e9:.2f} GB"
    text = render_report(
        title,
        paragraphs=[*paragraphs, *[QUICK_RUN] * numbers["quick"]],
        rows=[
            *rows,
            ("time", f"{numbers['seconds_total']:.0f} s", phases),
            ("memory", memory, "the most of one process, training included"),
        ],
        charts={**(charts or {}), **curves},
        **parts,
    )
    write_text(folder / "report.html", text)
