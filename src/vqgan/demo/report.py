"""The demo's report: its numbers with their baselines, its pictures, the curves of both stages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.evaluation.report import Curves, Row, read_curves, render_report
from vqgan.output_files import write_text

CURVES: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "tokenizer": {
        "Tokenizer: reconstruction loss": ("loss", ("reconstruction_loss",)),
        "Tokenizer: PSNR on held-out frames": ("dB", ("heldout_psnr",)),
        "Tokenizer: share of the codebook in use": ("share", ("usage",)),
    },
    "prior": {"Prior: loss": ("nats per token", ("loss", "heldout_loss"))},
}


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
    curves: list[Curves] = []
    for stage, charts in CURVES.items():
        curves += read_curves(RunFolder(folder / stage).metrics, charts)
    text = render_report(
        "vqgan demo",
        paragraphs=paragraphs,
        rows=_rows(numbers),
        pictures={folder / name: caption for name, caption in pictures.items()},
        curves=curves,
    )
    write_text(folder / "report.html", text)


def _rows(numbers: Mapping[str, Any]) -> list[Row]:
    shown = {name: f"{value:.1f} dB" for name, value in numbers.items() if name.endswith("psnr")}
    shown |= {name: f"{value:.3f} nats" for name, value in numbers.items() if name.endswith("loss")}
    side = numbers["downsample_factor"]
    return [
        (
            "reconstruction (PSNR)",
            shown["reconstruction_psnr"],
            f"nearest of all training frames {shown['nearest_frame_psnr']}, mean of the room "
            f"{shown['room_mean_psnr']}, mean image {shown['mean_image_psnr']}",
        ),
        (
            "moving pixels (PSNR)",
            shown["moving_psnr"],
            f"the room's median {shown['background_moving_psnr']}; {numbers['moving_share']:.1%} of all pixels",
        ),
        (
            "codebook in use",
            f"{numbers['codebook_usage']:.0%}",
            f"of {numbers['codebook_size']} codes, one for {side} x {side} pixels",
        ),
        (
            "prior, per token",
            shown["prior_loss"],
            f"previous token {shown['previous_token_loss']}, frequency at the position "
            f"{shown['position_frequency_loss']}, uniform {shown['uniform_loss']}",
        ),
        (
            "time",
            f"{numbers['seconds_total']:.0f} s",
            ", ".join(f"{phase} {value:.0f} s" for phase, value in numbers["seconds"].items()),
        ),
        ("memory", f"{numbers['peak_memory_bytes'] / 1e9:.2f} GB", "the most of one process"),
    ]
