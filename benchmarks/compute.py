"""What does a prior's quality cost, and is a smaller model that trains longer better or worse? On game frames.

A prior of four layers, and ones of half and twice the width and of two layers and one, otherwise as the preset
`demo-prior`, on the codes of one tokenizer: of the same budget of operations a smaller prior makes more steps. Each
budget is a run of its own: the learning rate warms up for a ninth of its steps and falls to 0 by a cosine. Operations
are counted as `vqgan plan` counts them. Measured are nats a token on held-out frames, processor seconds of training,
and of samples (top-p 0.95) what `settings.py` measures.

python benchmarks/compute.py TOKENIZER --work FOLDER [--quick] [--json PATH] [--seeds N] [--only NAME]

What is in FOLDER is not trained again. Run it on one thread (``OMP_NUM_THREADS=1``).
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import vqgan
from cells import QUIET, Numbers, all_cells, arguments, silent
from forgiving import FOUR_LAYERS, GAME
from settings import DEMO, Measures, measures_of
from vqgan.demo.measures import encode_frames, prior_numbers
from vqgan.planning import Plan, plan
from vqgan.runs import resolve
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.training.encoding import encode_samples

MODELS: dict[str, tuple[str, ...]] = {
    "four layers": (),
    "half the width": ("prior.width=64",),
    "two layers": ("prior.depth=2",),
    "one layer": ("prior.depth=1",),
    "twice the width": ("prior.width=256",),
}
BUDGETS, STEPS, SCORED = (0.25, 0.5, 1, 2), 450, 1024
"""Operations, those of so many steps of four layers are 1; held-out frames of which the loss is measured."""

CODES = "data.cached_codes=1", "data.resize=null", "data.crop=random"
"""What makes a plan leave out the encoding."""


def equal_steps(tokenizer: Path, changes: tuple[str, ...], base_steps: float) -> tuple[int, Plan]:
    """The steps whose operations are those of so many of the first model, and what such a step needs but its time."""
    own, base = (
        plan(
            "demo-prior", tokenizer=tokenizer, overrides=[*CODES, *FOUR_LAYERS, *each], memory=1, device="cpu"
        )
        for each in (changes, ())
    )
    return max(1, round(base_steps * base.flops / own.flops)), own


def cell(
    folder: Path,
    seed: int,
    *,
    given: tuple[Path, Path],
    changes: tuple[str, ...],
    base_steps: float,
    measures: Measures,
    scored: np.ndarray,
) -> Numbers:
    """Trains one prior on a given tokenizer and its codes, and measures it."""
    tokenizer, codes = given
    steps, needs = equal_steps(tokenizer, changes, base_steps)
    schedule = f"training.steps={steps}", f"task.optimizer.warmup_steps={steps // 9}"
    overrides = [*QUIET, "training.evaluate_every=100000", *FOUR_LAYERS, *changes, *schedule]
    how: dict[str, Any] = {"tokenizer": tokenizer, "overrides": overrides, "seed": seed, "device": "cpu"}
    started = time.process_time()
    vqgan.train("demo-prior", data=f"codes:{codes}", out=folder, **how)
    seconds = time.process_time() - started
    model = vqgan.load(folder, device="cpu")
    assert isinstance(model, Synthesizer), "a prior's run holds one"
    loss = prior_numbers(model, scored[:64], scored, None, silent)["prior_loss"]
    return {
        "loss": loss,
        "parameters": float(needs.parameters["prior"]),
        "steps": float(steps),
        "teraflops": steps * needs.flops / 1e12,
        "processor": seconds,
        **measures.numbers(*measures.draw(model, seed=seed * len(measures.seen), **DEMO)),
    }


def main() -> None:
    """Encodes, trains, measures, prints the table and writes the numbers."""
    parser = arguments(__doc__)
    parser.add_argument("tokenizer", type=Path)
    given = parser.parse_args()
    model = vqgan.load(given.tokenizer, device="cpu")
    assert isinstance(model, Tokenizer), "a tokenizer's run holds one"
    encode_samples(resolve("demo-prior", data=GAME), model, given.work / "codes")
    steps = 8 if given.quick else STEPS
    measures, frames = measures_of(given.work, model, quick=given.quick)
    shared: dict[str, Any] = {
        "given": (given.tokenizer, given.work / "codes"),
        "measures": measures,
        "scored": encode_frames(model, frames.heldout[:SCORED], silent),
    }
    cells: dict[str, Callable[[Path, int], Numbers]] = {
        f"{name}, {budget:g}": partial(cell, changes=changes, base_steps=budget * steps, **shared)
        for budget in BUDGETS
        for name, changes in MODELS.items()
    }
    all_cells(given, cells)


if __name__ == "__main__":
    main()
