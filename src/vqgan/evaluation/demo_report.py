"""The demo's report: its numbers with their baselines, its pictures, the curves of both stages."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.evaluation.report import Curves, Picture, Row, render_report
from vqgan.output_files import write_text


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
        f"{numbers['heldout_frames_seen_in_training']:,} more equalled a training frame and were left out.",
        "No perceptual loss is used here: its network would have to be downloaded. "
        + ("Pixels do" if digits else "Pixels, the worst pixels of each image and a discriminator do")
        + " the work.",
    ]
    pictures = [
        Picture(folder / "reconstructions.png", "Held-out frames above, their reconstructions below"),
        Picture(folder / "samples.png", "New frames, drawn token by token"),
        Picture(
            folder / "completions.png",
            "Held-out frames, the half that is given, and two completions of it",
        ),
        Picture(folder / "codes.png", "What each code stands for, the most frequent first"),
        Picture(folder / "tokenizer" / "images" / "training.png", "One reconstruction over the training"),
    ]
    text = render_report(
        "vqgan demo", paragraphs=paragraphs, rows=_rows(numbers), pictures=pictures, curves=_curves(folder)
    )
    write_text(folder / "report.html", text)


def _rows(numbers: Mapping[str, Any]) -> list[Row]:
    def decibels(name: str) -> str:
        return f"{numbers[name]:.1f} dB"

    def nats(name: str) -> str:
        return f"{numbers[name]:.3f} nats"

    return [
        Row(
            "reconstruction (PSNR)",
            decibels("reconstruction_psnr"),
            f"nearest of all training frames {decibels('nearest_frame_psnr')}, mean of the room "
            f"{decibels('room_mean_psnr')}, mean image {decibels('mean_image_psnr')}",
        ),
        Row(
            "moving pixels (PSNR)",
            decibels("moving_psnr"),
            f"the room's median {decibels('background_moving_psnr')}; {numbers['moving_share']:.1%} of all pixels",
        ),
        Row(
            "codebook in use",
            f"{numbers['codebook_usage']:.0%}",
            f"of {numbers['codebook_size']} codes, one for {numbers['downsample_factor']} x "
            f"{numbers['downsample_factor']} pixels",
        ),
        Row(
            "prior, per token",
            nats("prior_loss"),
            f"previous token {nats('previous_token_loss')}, frequency at the position "
            f"{nats('position_frequency_loss')}, uniform {nats('uniform_loss')}",
        ),
        Row("time", f"{numbers['seconds_total']:.0f} s", _phases(numbers["seconds"])),
        Row("memory", f"{numbers['peak_memory_bytes'] / 1e9:.2f} GB", "the most of one process"),
    ]


def _phases(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{phase} {value:.0f} s" for phase, value in seconds.items())


def _curves(folder: Path) -> list[Curves]:
    charts = {
        "Tokenizer: reconstruction loss": ("tokenizer", "loss", ("reconstruction_loss",)),
        "Tokenizer: PSNR on held-out frames": ("tokenizer", "dB", ("heldout_psnr",)),
        "Tokenizer: share of the codebook in use": ("tokenizer", "share", ("usage",)),
        "Prior: loss": ("prior", "nats per token", ("loss", "heldout_loss")),
    }
    curves = []
    for title, (stage, unit, names) in charts.items():
        text = RunFolder(folder / stage).metrics.read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
        lines = {
            name: [(float(row["step"]), row[name]) for row in rows if isinstance(row.get(name), float)]
            for name in names
        }
        curves.append(Curves(title, unit, lines))
    return curves
