"""Writes what an evaluation found: JSON for programs, Markdown for reports, one page with pictures for people."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8

from vqgan.errors import CheckpointError
from vqgan.evaluation.fidelity import Pictures, squared_errors
from vqgan.evaluation.figure import figure
from vqgan.evaluation.numbers import Conventions, Number, Numbers
from vqgan.evaluation.report import Chart, render_report
from vqgan.evaluation.tokens import Grids, codebook_mosaic, where_codes_stand
from vqgan.images import Pixels, grid, save_png, to_float
from vqgan.output_files import write_json, write_text
from vqgan.quality.measure import Evaluation

FILES = ("evaluation.json", "evaluation.md", "evaluation.html")
PICTURES = {
    "reconstructions": "Images, their reconstructions, and four times the difference",
    "worst": "The same for the images whose reconstructions are worst",
    "drawn": "Drawn images, and below each the training image that is nearest in pixels",
    "completed": "Images, their upper halves, and how the prior completes these",
    "attention": "Where tokens look, framed, in some layers, in the mean over heads: orange on tokens of the image, "
    "blue on those of a condition's cells; in brackets the share of what has no cell",
    "reach": "Left, how much each pixel moves the latent in the middle; right, how much the code there moves each "
    "pixel; squares that have half (orange) and nine tenths (blue) of the effect",
    "counted": "The codes used most, then those used least, each with its number and how often it occurs",
    "codes": "What each code draws, the most frequent first: the mean of the squares at which it stands",
    "places": "Where the most frequent codes stand: white where nearly every image has one",
}
"""The pictures by name, and what they show."""

Shown = Mapping[str, Int[np.ndarray, " n"]]
"""The numbers of the images that are shown, by the name of the picture."""

_SHOWN, _COLUMNS, _PLACES, _POINTS = 8, 32, 64, 256
_UNITS = {"psnr": " dB", "loss": " nats a token", "per_second": "/s"}

EXPLAINED = {
    "psnr": "the error of 8-bit values, summed over all images; more is better",
    "ssim": "Gaussian window of 11 pixels, wherever it lies inside; 1 is equal",
    "ms_ssim": "five scales; 1 is equal",
    "lpips": "how different VGG16 sees them, in the mean; 0 is equal",
    "frechet": "0 for equal sets",
    "frechet_perturbed": "the same if every tenth code becomes one of the 100 nearest: how much the decoder forgives",
    **{
        f"encoder_pixels_{share}": f"side of the square with {share} % of what moves a latent"
        for share in (50, 90)
    },
    "encoder_pixels_100": "with all; norms and attention see the whole image",
    "encoder_pixels_of_convolutions": "that its convolutions can see; their weights decide how much of it they do",
    **{
        f"decoder_pixels_{share}": f"side of the square with {share} % of what a code moves"
        for share in (50, 90)
    },
    "decoder_pixels_100": "with all, as above",
    "labels_kept": "share of images whose most probable class is that of the reconstruction",
    "usage": "share of codes that occur in these images",
    "perplexity": "as many equally frequent codes would be as varied",
    "dead_codes": "never occur in these images",
    "bits_per_image": "all codes with the same length",
    "entropy_bits_per_image": "if the frequencies of codes are known",
    "loss": "of the prior, given the condition",
    "unconditional_loss": "of the prior, without any condition",
    "bits_per_pixel": "of the codes, by the prior",
    "uniform_loss": "all codes equally probable",
    "position_frequency_loss": "how often each code stands at each place",
    "previous_token_loss": "which code follows which",
    "above_and_previous_loss": "which code follows which, below which",
    "kernel": "KID: unbiased, so it may be below 0",
    "precision": "share of drawn images among real ones",
    "recall": "share of real images among drawn ones",
    "density": "how many real images a drawn one is near to; 1 for real ones",
    "coverage": "share of real images with a drawn one near; 1 for real ones",
    "inception_score": "1 to the number of classes",
    "copies": "share of drawn images; 1 % is what chance gives",
    "distance_of_nearest": "from the nearest training image, in pixels of 255, median",
}


def write_evaluation(folder: Path, found: Evaluation) -> list[Path]:
    """Writes everything; gives the paths. Raises OutputError if the disk refuses."""
    model, conventions, numbers, notes = found.model, found.conventions, found.numbers, found.notes
    values = {part: {name: _json(each) for name, each in own.items()} for part, own in numbers.items()}
    write_json(
        folder / FILES[0],
        {"model": dict(model), "conventions": dict(conventions), "numbers": values, "notes": list(notes)},
    )
    chosen = _chosen(found)
    said = ", ".join(f"{name} {value}" for name, value in {**model, **conventions}.items())
    tables: dict[str, list[tuple[str, ...]]] = {
        part: [("what", "value", "of", "how to read it"), *_rows(each)] for part, each in numbers.items()
    }
    if found.labels:
        tables["labels"] = [("picture", "the image", "its reconstruction"), *_labels(found, chosen)]
    lines = [f"Model and conventions: {said}.", "", *notes]
    for part, rows in tables.items():
        first, *others = (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
        lines += ["", f"## {part.capitalize()}", "", first, "|---" * len(rows[0]) + "|", *others]
    write_text(folder / FILES[1], "\n".join(["# Evaluation", "", *lines, ""]))
    shown = {
        save_png(picture, folder / f"{name}.png", {"command": "evaluate"}): PICTURES[name]
        for name, picture in _pictures(found, chosen)
    }
    page = render_report(
        "Evaluation",
        paragraphs=[
            f"Measured with these conventions: {said}. Numbers of other conventions are other numbers.",
            "Brackets hold 95 % of the values that other draws of the same images would give.",
            *notes,
        ],
        tables={part.capitalize(): rows for part, rows in tables.items()},
        pictures=shown,
        charts={"How often codes occur": frequencies(found.grids, found.codebook_size)},
    )
    write_text(folder / FILES[2], page)
    return [*(folder / name for name in FILES), *shown]


def _json(number: Number) -> dict[str, Any]:
    """As JSON can hold it: what is not finite is a word."""
    found = {name: each for name, each in asdict(number).items() if each not in (None, "")}
    return {**found, "value": number.value if math.isfinite(number.value) else str(number.value)}


def _rows(numbers: Mapping[str, Number]) -> Iterator[tuple[str, str, str, str]]:
    for name, number in numbers.items():
        unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")
        explained = "; ".join(filter(None, (EXPLAINED.get(name.replace("fid", "frechet"), ""), number.note)))
        yield name.replace("_", " "), f"{number.text()}{unit}", f"{number.count:,}", explained


def read_evaluation(path: Path) -> tuple[Conventions, Numbers]:
    """The conventions and numbers of an ``evaluation.json``.

    Raises:
        CheckpointError: If it cannot be read as such.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        numbers = {
            part: {name: _number(**value) for name, value in values.items()}
            for part, values in found["numbers"].items()
        }
        return dict(found["conventions"]), numbers
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"`{path}` is no evaluation: {type(error).__name__} {error}"
        raise CheckpointError(what, hint="give the `evaluation.json` that `vqgan evaluate` wrote") from None


def _number(
    value: float | str, count: int, interval: Sequence[float] | None = None, note: str = ""
) -> Number:
    return Number(float(value), int(count), None if interval is None else (interval[0], interval[1]), note)


def _labels(found: Evaluation, shown: Shown) -> Iterator[tuple[str, str, str]]:
    """What the pictures that are shown were taken for."""
    for name, chosen in shown.items():
        for place, number in enumerate(chosen, start=1):
            yield f"{name} {place}", *found.labels[number]


def _chosen(found: Evaluation) -> Shown:
    """The numbers of the images that are shown, by the name of the picture."""
    real, rebuilt = found.pictures["real"], found.pictures["rebuilt"]
    worst = np.argsort(-squared_errors(real, rebuilt), kind="stable")[:_SHOWN]
    return {"reconstructions": np.arange(min(_SHOWN, len(real))), "worst": worst}


def _pictures(found: Evaluation, shown: Shown) -> Iterator[tuple[str, torch.Tensor]]:
    pictures, grids = found.pictures, found.grids
    real, rebuilt = pictures["real"], pictures["rebuilt"]
    for name, chosen in shown.items():
        rows = real[chosen], rebuilt[chosen], _difference(real[chosen], rebuilt[chosen])
        yield name, grid(to_float(np.concatenate(rows)), columns=len(chosen))
    if "drawn" in pictures:
        drawn = pictures["drawn"][:_SHOWN]
        pair = (drawn, pictures["nearest"][:_SHOWN]) if "nearest" in pictures else (drawn,)
        yield "drawn", grid(to_float(np.concatenate(pair)), columns=len(drawn))
    yield from ((name, to_float(each)) for name, each in found.figures.items())
    if real.shape[1] % grids.shape[1] == 0:
        counts = np.bincount(grids.ravel(), minlength=found.codebook_size)
        order = np.argsort(-counts, kind="stable")
        codes = codebook_mosaic(rebuilt, grids, found.codebook_size)
        yield "counted", to_float(figure(_counted(codes, order, counts)))
        yield "codes", grid(to_float(codes[: _COLUMNS * _COLUMNS]), columns=_COLUMNS, pad=1)
        frequent = where_codes_stand(grids, found.codebook_size)[order[:_PLACES]]
        heat = np.rint(255 * np.sqrt(frequent)).astype(np.uint8)[..., None]
        yield "places", grid(to_float(heat), columns=16, pad=1)


def _counted(
    codes: UInt8[np.ndarray, "K s s c"], order: Int[np.ndarray, " K"], counts: Int[np.ndarray, " K"]
) -> list[dict[str, Pixels]]:
    """Rows of codes that occur, by labels: the most frequent ones, then the least frequent ones, the rarest last."""
    used = int((counts > 0).sum())
    first = range(min(2 * _SHOWN, used))
    places = [*first, *range(max(len(first), used - 2 * _SHOWN), used)]
    labelled = [(f"{order[place]}: {counts[order[place]]:,}", codes[place]) for place in places]
    return [dict(labelled[start : start + _SHOWN]) for start in range(0, len(labelled), _SHOWN)]


def frequencies(grids: Grids, codebook_size: int) -> Chart:
    """How often the codes that occur do so, the most frequent first."""
    counts = np.sort(np.bincount(grids.ravel(), minlength=codebook_size))[::-1]
    used = int((counts > 0).sum())
    places = np.unique(np.linspace(0, used - 1, min(used, _POINTS)).astype(int))
    line = [(float(place + 1), math.log10(counts[place])) for place in places]
    return Chart("log10 of how often", {"occurrences": line}, "codes, the most frequent first", low=0.0)


def _difference(real: Pictures, others: Pictures) -> UInt8[np.ndarray, "n H W c"]:
    """Four times the difference; grey where there is none."""
    return np.clip(128 + 4 * (others.astype(np.int32) - real), 0, 255).astype(np.uint8)
