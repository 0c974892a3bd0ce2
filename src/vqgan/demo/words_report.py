"""The report of the demo of words: whether pictures show what was asked for, as classifiers see it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqgan.demo.report import write_page

HELD_OUT = {
    "caption": (
        "judge: captions found",
        "the best of all 200 captions is right, for scenes of held-out digits",
    ),
    "caption_of_64": ("judge: captions found among 64", "those of 64 scenes"),
    "scene_of_64": ("judge: scenes found among 64", "for their captions"),
    "all": ("classifiers: scenes read", "both digits and how they stand are right, for the same scenes"),
    "first": ("first classifier", "the digit to the left or above, and how both stand"),
    "second": ("second classifier", "the other digit"),
}
"""Numbers without a table: their names, and how to read them."""

PICTURES = {
    "free": ("samples of the prior without words", "what chance gives: there are 200 scenes"),
    "guided": ("guided by the judge", "random codes at first"),
    "guided_prior": ("guided by judge and prior", "which says how probable the codes are"),
    "rebuilt": ("real scenes, reconstructed", "what the tokenizer allows"),
    "real": ("other real scenes", "what the classifiers allow"),
    "text_0": ("drawn from captions", "by the prior, as learned"),
    "text_1": ("drawn with guidance 1", "once what the caption changes is added"),
    "text_2": ("drawn with guidance 2", "twice"),
    "text_4": ("drawn with guidance 4", "four times"),
    "every": ("drawn from captions, four of each", "as learned"),
    "kept": ("of these the best of each four", "the judge chooses"),
}
"""What was measured, by its name, and how to read it."""


def write_words_report(folder: Path, numbers: Mapping[str, Any]) -> None:
    """``report.html``: judge and classifiers on held-out scenes, then what they say of guided and drawn pictures."""
    table: list[tuple[str, ...]] = [
        ("pictures", "show what was asked", "how both stand", "distance to real scenes", "how to read it")
    ]
    for name, (what, meaning) in PICTURES.items():
        shares = (_interval(numbers["agreement"][name][part]) for part in ("all", "relation"))
        distance = numbers["distance"].get(name)
        table.append((what, *shares, "" if distance is None else f"{distance:.3g}", meaning))
    asked = "; ".join(numbers["prompts"])
    write_page(
        folder,
        "vqgan demo --words",
        numbers,
        paragraphs=[
            "Scenes of two handwritten digits, drawn by a program that knows their captions. A small CLIP learns to "
            "judge them, a tokenizer to draw them, a prior to read the captions; nothing was downloaded. No "
            "training has seen the digits of the scenes that are measured. Whether a picture shows what was asked is "
            f"told by two classifiers that guided nothing, for {numbers['count']} captions. In brackets stands the "
            "interval of 95 % over the pictures. Distances are those of Gaussians of the classifiers' features "
            "(Frechet)."
        ],
        rows=[(what, _interval(numbers["held_out"][name]), read) for name, (what, read) in HELD_OUT.items()],
        tables={"Do pictures show what was asked?": table},
        pictures={
            folder / f"{name}.png": f"{PICTURES[name][0].capitalize()}: {asked}"
            for name in ("guided", "guided_prior", "text_0", "text_2")
        },
    )


def _interval(values: Sequence[float]) -> str:
    mean, low, high = (f"{value:.1%}" for value in values)
    return f"{mean} ({low} to {high})"
