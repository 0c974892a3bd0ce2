"""Whether drawn images show what was asked for, and keep what was given."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from vqgan.evaluation.fidelity import squared_errors
from vqgan.evaluation.numbers import Number
from vqgan.evaluation.psnr import psnr
from vqgan.images import Pixels, grid, to_float, to_uint8
from vqgan.quality.looks import spread
from vqgan.quality.readers import Reader
from vqgan.quality.seen import Seen, pixels_of
from vqgan.synthesizer import Synthesizer

MOST, COMPLETED, SHOWN = 256, 32, 8
"""Images in which a condition is looked for (some readers take a second for one), that are completed, and shown."""

READ = {
    "drawn": "of drawn images",
    "rebuilt": "of reconstructions: what the codes can show",
    "real": "of the images: what the reader gets right",
    "others": "of drawn images and what was asked for others: chance",
}
"""In which images a condition is looked for, and what that tells."""


def agreement_numbers(
    seen: Seen, drawn: UInt8[np.ndarray, "s H W c"], readers: Mapping[str, Reader]
) -> dict[str, Number]:
    """How far drawn images, reconstructions and the images themselves agree with each condition.

    Args:
        seen: Whose conditions were asked for, in turn.
        drawn: What was drawn.
        readers: By the conditions' names.

    Returns:
        ``class_drawn_share``, ``class_rebuilt_share``, ...
    """
    chosen = spread(MOST, len(drawn))
    origins = chosen % len(seen.real)
    condition = seen.asked(origins.tolist()) or {}
    pictures = {"drawn": drawn[chosen], "rebuilt": seen.rebuilt[origins], "real": seen.real[origins]}
    numbers = {}
    for name, reader in readers.items():
        if name not in condition:
            continue
        asked = reader.ask(condition[name]).cpu()
        found = {which: (asked, reader.read(each)) for which, each in pictures.items()}
        if len(chosen) > 1:
            found["others"] = asked[_others(len(chosen))], found["drawn"][1]
        for which, pair in found.items():
            values, note = reader.agree(*pair), f"{READ[which]}; {reader.says}"
            of = Number.share if reader.measure == "share" else Number.mean
            numbers[f"{name}_{which}_{reader.measure}"] = of(values, note=note)
    return numbers


def _others(count: int) -> Int[Tensor, " n"]:
    """For each of so many another one, always the same."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


def complete_halves(
    model: Synthesizer, seen: Seen, count: int, **how: Any
) -> tuple[dict[str, Number], Pixels]:
    """Completes images from their upper halves, and tells how near the given half stays to the image.

    Args:
        model: Draws.
        seen: Images with at least two rows of tokens, and their conditions.
        count: At most so many are completed.
        how: As :meth:`~vqgan.synthesizer.Synthesizer.complete` takes it.

    Returns:
        PSNR of the given half, of reconstructions there, and of other images' halves; and a figure of images, what was
        given, and the completed images.
    """
    chosen = spread(min(COMPLETED, count), len(seen.real))
    images, known = seen.real[chosen], torch.zeros(len(chosen), *seen.grids.shape[1:], dtype=torch.bool)
    known[:, : (rows := known.shape[1] // 2)] = True
    drawn = pixels_of(model.complete(to_float(images), known, seen.asked(chosen.tolist()), **how))
    upper = slice(rows * model.tokenizer.downsample_factor)
    halves = {
        "drawn": (
            drawn,
            "of completed images: their tokens are kept, but the tokens below change pixels near by",
        ),
        "rebuilt": (seen.rebuilt[chosen], READ["rebuilt"]),
    }
    if len(chosen) > 1:
        halves["others"] = images[_others(len(chosen)).numpy()], "of other images: chance"
    numbers = {}
    for name, (each, note) in halves.items():
        errors = squared_errors(images[:, upper], each[:, upper])
        numbers[f"given_{name}_psnr"] = Number.mean(errors, lambda error: psnr(error, 1), note=note)
    given = images.copy()
    given[:, upper.stop :] = 128
    shown = np.concatenate([each[:SHOWN] for each in (images, given, drawn)])
    return numbers, to_uint8(grid(to_float(shown), columns=min(SHOWN, len(images)))).numpy()
