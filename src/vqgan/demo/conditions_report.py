"""The report of the demo of conditions: what was asked, what was drawn, and how far they agree."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqgan.demo.report import write_page
from vqgan.demo.trials import SHOWN_STEPS

_Table = list[tuple[str, ...]]

AGREEMENT = {
    "class": ("class: the asked game is recognised", "{:.0%}", "by a classifier trained on real frames"),
    "edges": ("edges: F1", "{:.2f}", "an edge is right within one pixel"),
    "low_resolution": ("small copy: PSNR", "{:.1f} dB", "of pictures made as small as the asked one, 24x20"),
    "palette": ("palette: mIoU", "{:.2f}", "of the nearest of 16 colours in each cell of 8x8 pixels"),
    "layout": ("boxes: found", "{:.0%}", "something moves there, and both share a quarter of their area"),
}
"""Each condition's number, how it is written, and what it means."""

PICTURES = {
    "class": "the empty scene of the asked game",
    "edges": "the asked edges",
    "low_resolution": "the asked small copy, enlarged",
    "palette": "the asked colours",
    "layout": "the asked boxes",
}
"""What the second row of each picture shows."""

MASKS = {
    "lower": "the upper half is given",
    "right": "the left half is given",
    "middle": "all but the middle is given",
}
"""What of a frame is given, by the mask's name."""


def write_conditions_report(folder: Path, numbers: Mapping[str, Any]) -> None:
    """``report.html``: tables of agreement, of losses, of guidance and of completions, and a picture of each."""
    pictures = {
        name: f"{AGREEMENT[name][0].partition(':')[0].capitalize()}: held-out frames, {asked}, samples that were asked "
        "for it, samples without a condition from the same noise"
        for name, asked in PICTURES.items()
    }
    scales, steps = ", ".join(numbers["guidance"]), ", ".join(map(str, SHOWN_STEPS))
    pictures["guidance"] = f"Class and edges together: the asked edges, samples with guidance {scales}"
    for name, what in MASKS.items():
        pictures[f"completion-{name}"] = f"Held-out frames, what is given, what was drawn: {what}"
    pictures["dream"] = (
        f"Four walks, two rows each: the true frames after {steps} actions above, the dreamed ones below"
    )
    write_page(
        folder,
        "vqgan demo --conditions",
        numbers,
        paragraphs=[
            f"Frames of four games, {numbers['frames']:,} for training. One tokenizer, and priors that are steered: by "
            "class and boxes, by class and edges, by a small copy and a palette, by the frames before and an action. "
            f"Everything is asked from {numbers['count']} held-out frames; in brackets stands the interval of 95 % "
            "over them. A sample without a condition comes from the same prior and tells what chance gives; the "
            "reconstruction of the frame itself tells what the tokenizer allows."
        ],
        rows=[],
        tables={
            "Do samples show what was asked?": _agreement(numbers["agreement"]),
            "What a condition tells about a frame": _nats(numbers["nats"]),
            "Class and edges together, followed more and more closely": _guidance(numbers["guidance"]),
            "Completion": _completion(numbers["completion"]),
            "Frames dreamed on from two, one for each action": _dream(numbers["dream"]),
        },
        pictures={folder / f"{name}.png": what for name, what in pictures.items()},
    )


def _interval(pattern: str, values: Sequence[float]) -> str:
    mean, low, high = (pattern.format(value) for value in values)
    return f"{mean} ({low} to {high})"


def _agreement(numbers: Mapping[str, Any]) -> _Table:
    table: _Table = [("what", "asked", "without a condition", "reconstruction", "how to read it")]
    for name, (what, pattern, meaning) in AGREEMENT.items():
        columns = (_interval(pattern, numbers[name][each]) for each in ("sample", "free", "rebuilt"))
        table.append((what, *columns, meaning))
    return table


def _nats(numbers: Mapping[str, float]) -> _Table:
    meaning = "held-out loss per token: smaller is less surprised"
    rows = [(name, f"{value:.3f}", meaning) for name, value in numbers.items()]
    return [("the prior is told", "nats", "how to read it"), *rows]


def _guidance(numbers: Mapping[str, Any]) -> _Table:
    names = "class", "edges"
    table: _Table = [("guidance", *(AGREEMENT[name][0] for name in names), "how to read it")]
    for scale, both in numbers.items():
        columns = (_interval(AGREEMENT[name][1], both[name]) for name in names)
        meaning = "as learned" if scale == "0" else f"{scale} times what the condition changes is added"
        table.append((scale, *columns, meaning))
    return table


def _completion(numbers: Mapping[str, Any]) -> _Table:
    table: _Table = [("given", "completed", "without", "empty scene", "reconstruction", "how to read it")]
    for name, values in numbers.items():
        columns = (_interval("{:.1f} dB", values[each]) for each in ("sample", "free", "empty", "rebuilt"))
        table.append((MASKS[name], *columns, "PSNR inside the hole"))
    return table


def _dream(numbers: Mapping[str, Any]) -> _Table:
    shown = "step", "dreamed", "last frame again", "its reconstruction", "reconstruction of the true frame"
    gained = "gain over the last frame", "gain over its reconstruction"
    table: _Table = [(*shown, *gained, "how to read it")]
    for step, values in enumerate(numbers["steps"], start=1):
        errors = (f"{values[name]:.0f}" for name in ("dreamed", "copied", "rebuilt_copy", "rebuilt_truth"))
        gains = (_interval("{:.0f}", values[f"over_{name}"]) for name in ("copied", "rebuilt_copy"))
        table.append((str(step), *errors, *gains, "mean squared error (of 255) where something moved"))
    return table
