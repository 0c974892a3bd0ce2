"""Which recipe lets a discriminator join without ruining the tokenizer? On game frames, several seeds each.

One tokenizer is trained without a discriminator up to a step, then with one: as the original trains, and with each
thing that steadies it; or begins with a file that has none. Measured on held-out frames: PSNR just before it joins, the
deepest fall after it (the dip), and PSNR and detail at the end (the energy of the finest details as a share of the
images': 1 is as sharp as they are); in training the shares of logits on the right side in the last quarter, and the
largest adaptive weight.

python benchmarks/adversary.py --work FOLDER [--quick] [--json PATH] [--seeds N] [--only NAME]

A cell takes a minute or two on one core, all of them with 3 seeds an hour. What is in FOLDER is not
trained again.
"""

import json
import shutil
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import vqgan
from cells import QUIET, Numbers, all_cells, arguments, frames

START, EVERY = 300, 25
"""A run has twice as many steps as there are before the discriminator counts; it is evaluated so often."""

BASE = (
    "tokenizer.autoencoder.base_channels=32",
    "task.optimizer.learning_rate=1e-3",
    "task.optimizer.decay=constant",
    "task.optimizer.clip_norm=null",
    "task.hard_share=0",
    "task.reseed_after=50",
    "training.ema_decay=null",
    "training.evaluate_images=32",
    *QUIET,
)
LOSS = "task.discriminator.loss=relativistic"
SLOPES = "task.discriminator.norm=none", "task.discriminator.r1=1", "task.discriminator.r2=1"


def recipes(start: int) -> dict[str, tuple[str, ...]]:
    """What each recipe changes, for a discriminator that counts from a step."""
    ramp = f"task.discriminator.ramp_steps={start // 2}"
    early = f"task.discriminator.discriminator_start={start // 2}"
    clipped, averaged = "task.optimizer.clip_norm=1", "training.ema_decay=0.99"
    return {
        "none": (),
        "original": ("task.discriminator.reconstruction=updated",),
        "learns before it counts": (early,),
        "ramp": (ramp,),
        "lecam": ("task.discriminator.lecam=0.1",),
        "r1": SLOPES[:2],
        "spectral": ("task.discriminator.norm=spectral",),
        "relativistic r1 r2": (LOSS, *SLOPES),
        "clipped": (clipped,),
        "averaged": (averaged,),
        "all": (LOSS, *SLOPES, ramp, early, clipped, averaged),
    }


TUNED = {
    "from a file": ("null", False),
    "from a file at once": ("0", False),
    "from a file, all": ("null", True),
}
"""Fine-tuning a file that has no discriminator: how long a new one is trained alone first (null: as is the default),
and whether all that steadies it is on."""


def train(
    folder: Path, seed: int, *, recipe: str, data: tuple[np.ndarray, np.ndarray], start: int, every: int
) -> Numbers:
    """One run, and what its log says."""

    def begin(out: Path, steps: int, discriminator: str, *changes: str, **given: Any) -> list[dict[str, Any]]:
        often = f"training.evaluate_every={every}", f"training.log_every={every}"
        overrides = [
            *BASE,
            f"task.discriminator={discriminator}",
            f"training.steps={steps}",
            *often,
            *changes,
        ]
        given |= {"data": data[0], "eval_data": data[1], "seed": seed, "device": "cpu"}
        vqgan.train("demo-tokenizer", out=out, overrides=overrides, **given)
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]

    sizes = "base_channels: 32, num_layers: 3, weight: 0.8, discriminator_start: null, ramp_steps: 0"
    sizes += ", loss: hinge, norm: batch, r1: 0, r2: 0"  # not what the preset has
    if recipe in TUNED:
        rows = begin(folder / "first", start, "null")
        file = shutil.copy(folder / "first" / "tokenizer.safetensors", folder)  # away from its run
        recover, is_steadied = TUNED[recipe]
        joined = f"{{{sizes}, start: 0, recover_steps: {recover}}}"
        steadied = [each for each in recipes(start)["all"] if "discriminator_start" not in each]
        again = begin(folder / "second", start, joined, *(steadied if is_steadied else ()), start_from=file)
        rows += [{**row, "step": row["step"] + start} for row in again]
    else:
        joined = "null" if recipe == "none" else f"{{{sizes}, start: {start}}}"
        rows = begin(folder, 2 * start, joined, *recipes(start)[recipe])
    held_out = {row["step"]: row["heldout_psnr"] for row in rows if "heldout_psnr" in row}
    before = held_out[max(step for step in held_out if step <= start)]
    after = [value for step, value in held_out.items() if step > start]
    numbers = {
        "before": before,
        "dip": before - min(after),
        "psnr": after[-1],
        "detail": rows[-1]["heldout_detail"],
    }
    if recipe != "none":
        last = [row for row in rows if row["step"] > 1.5 * start]
        numbers |= {name: statistics.mean(row[name] for row in last) for name in ("right_real", "right_fake")}
        numbers["largest_weight"] = max(float(row.get("adaptive_weight", 0)) for row in rows)
    return numbers


def main() -> None:
    """Trains, measures, prints the table and writes the numbers."""
    given = arguments(__doc__).parse_args()
    start, every = (12, 4) if given.quick else (START, EVERY)
    settings: dict[str, Any] = {"data": frames(32 if given.quick else 1500), "start": start, "every": every}
    cells: dict[str, Callable[[Path, int], Numbers]] = {
        name: partial(train, recipe=name, **settings) for name in (*recipes(start), *TUNED)
    }
    all_cells(given, cells)


if __name__ == "__main__":
    main()
