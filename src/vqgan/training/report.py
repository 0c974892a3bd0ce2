"""The report of a run: ``report.html`` in its folder, with its last numbers, pictures and curves."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import read_yaml
from vqgan.evaluation.report import Row, read_charts, read_rows, render_report
from vqgan.output_files import write_text

CHARTS = {
    "Loss": ("loss", ("loss", "reconstruction_loss", "heldout_loss", "heldout_unconditional_loss")),
    "PSNR on held-out images": ("dB", ("heldout_psnr",)),
    "SSIM on held-out images": ("similarity", ("heldout_ssim",)),
    "Perceptual distance of held-out reconstructions": ("distance", ("heldout_perceptual",)),
    "Classes and labels, held out": ("share", ("heldout_miou", "heldout_accuracy")),
    "Share of the codebook in use": ("share", ("usage", "heldout_usage")),
    "Adaptive weight of the discriminator": ("weight", ("adaptive_weight",)),
    "Logits of the discriminator on the right side": ("share", ("right_real", "right_fake")),
    "Detail of held-out reconstructions": ("share of the images'", ("heldout_detail",)),
    "Learning rate": ("rate", ("learning_rate",)),
}

MEANINGS = {
    "heldout_psnr": "of held-out images, in dB: 20 is blurred, 25 recognisable, 30 good, above 35 hard to tell apart",
    "heldout_ssim": "structural similarity of held-out images: 1 is perfect; sees structure better than PSNR",
    "heldout_perceptual": "distance of held-out reconstructions as the perceptual network sees it: 0 is perfect; sees "
    "blur and false patterns",
    "heldout_miou": "intersection over union of held-out label maps, the mean over labels: 1 is perfect",
    "heldout_accuracy": "share of held-out images whose class is found, or of label maps' pixels that keep their label",
    "heldout_loss": "nats per token of held-out images, or for the class of each: guessing costs the natural "
    "logarithm of the number of codes, or of classes",
    "heldout_unconditional_loss": "the same without any condition: by what it is higher, the condition tells",
    "heldout_usage": "share of the codes that occur; far below 1 the codebook is too large, or has collapsed",
    "heldout_perplexity": "the number of equally frequent codes that would be as varied; higher is better",
    "heldout_detail": "energy of the finest details as a share of the images': below 1 blurred, above 1 false patterns",
    "right_real": "share of the discriminator's logits for images on the right side: both near 1, it has won",
    "adaptive_weight": "weight of the adversarial loss; 0 before the discriminator's start",
}
"""How to read a number, and whether it is good."""

_CAPTIONS = {
    "reconstructions": "Held-out images, then, in the same order, what the codes make of them",
    "samples": "New images, drawn token by token",
    "greedy": "The image of the most probable codes: plainer than drawn ones",
    "classified": "Held-out images, from the class that is recognised most certainly to the least",
    "denoised": "Held-out images with noise, then what the denoiser makes of them",
    "completed": "Held-out images, then the same with the lower half drawn anew",
}

_PICTURE = re.compile(r"^(.+)-(\d{8,})\.png$")


def write_run_report(folder: RunFolder) -> None:
    """Writes the report of a run from the files in its folder; the page needs no other files.

    Raises:
        OutputError: If the disk refuses.
    """
    captions = folder.images.glob("captions.txt")
    rows = read_rows(folder.metrics)
    last = {name: (value, row["step"]) for row in rows for name, value in row.items() if name != "step"}
    text = render_report(
        folder.path.resolve().name,
        paragraphs=[
            f"{rows[-1]['step']:,} steps." if rows else "No number was logged.",
            *_what_it_is(folder),
            *(f"Captions, in the order of the images: {each.read_text('utf-8')}" for each in captions),
        ],
        rows=[_row(name, value, step) for name, (value, step) in sorted(last.items())],
        tables=warning_tables({"": folder}),
        pictures=newest_pictures(folder.images),
        charts=read_charts(folder.metrics, CHARTS),
    )
    write_text(folder.report, text)


def _what_it_is(folder: RunFolder) -> list[str]:
    """Kind, data and length of the run, from its configuration."""
    if not folder.config.exists() or not folder.environment.exists():
        return []
    run = read_yaml(folder.config)
    data, training = run["data"], run["training"]
    source = ", ".join(f"{name} {value}" for name, value in (data.get("source") or {}).items())
    name = json.loads(folder.environment.read_text(encoding="utf-8")).get("run")
    named = f", of `{name}`" if name else ""
    size, of_data = "x".join(map(str, data["image_size"])), f" ({source})" if source else ""
    return [
        f"The run of a {run['kind']}{named}: {training['steps']:,} steps of {training['batch_size']} images of {size} "
        f"pixels{of_data}. config.yaml has all of its settings, metrics.jsonl all of its numbers."
    ]


def number_text(value: int | float | str) -> str:
    """A number of a run as a report shows it; what is not finite is a word."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def warning_tables(folders: Mapping[str, RunFolder]) -> dict[str, list[tuple[str, str]]]:
    """What the runs were warned of, with hints, by their names; no table where none was."""
    lines = [
        (f"{name} step {row['step']:,}".lstrip(), f"{row['text']}. {row['hint']}")
        for name, folder in folders.items()
        for row in read_rows(folder.warnings)
    ]
    return {"Warnings": [("when", "what the numbers show, and what helps"), *lines]} if lines else {}


def _row(name: str, value: float | str, step: int) -> Row:
    return (name, number_text(value), "; ".join(filter(None, (f"step {step:,}", MEANINGS.get(name)))))


def newest_pictures(images: Path) -> dict[Path, str]:
    """The last picture of each kind, and the animation over the training, with what they show."""
    newest = {
        found[1]: found for path in sorted(images.glob("*.png")) if (found := _PICTURE.match(path.name))
    }
    pictures = {
        images / found[0]: f"{_CAPTIONS.get(name, name)}; after {int(found[2]):,} steps"
        for name, found in newest.items()
    }
    if (images / "training.png").exists():
        pictures[images / "training.png"] = "One picture over the training, from its first step to its last"
    return pictures
