"""The demo's report: its numbers with their baselines, its pictures, the curves of both stages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.evaluation.report import Chart, read_charts, render_report
from vqgan.output_files import write_text
from vqgan.training.report import CHARTS

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
    ("time", "{seconds_total:.0f} s", "{phases}"),
    ("memory", "{gigabytes:.2f} GB", "the most of one process"),
]
"""The numbers of the report: what, the value, and what it is to be compared with."""


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
    phases = ", ".join(f"{phase} {value:.0f} s" for phase, value in numbers["seconds"].items())
    shown = {**numbers, "phases": phases, "gigabytes": numbers["peak_memory_bytes"] / 1e9}
    text = render_report(
        "vqgan demo",
        paragraphs=paragraphs,
        rows=[(what, value.format_map(shown), compared.format_map(shown)) for what, value, compared in ROWS],
        pictures={folder / name: caption for name, caption in pictures.items()},
        charts=stage_charts(folder),
    )
    write_text(folder / "report.html", text)


def stage_charts(folder: Path, stages: Sequence[str] = ("tokenizer", "prior")) -> dict[str, Chart]:
    """The curves of the stages in a demo's folder."""
    return {
        f"{stage.capitalize()}: {title}": chart
        for stage in stages
        for title, chart in read_charts(RunFolder(folder / stage).metrics, CHARTS).items()
    }
