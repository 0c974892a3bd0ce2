"""After how much training does the prior of the demo of the screen draw figures in place of smudges?

The preset `screen-prior` with more steps and frames, each a run of its own whose learning rate falls to 0, on the
tokenizer of the demo. Measured are nats a token on held-out frames, processor seconds of training, and the things in
256 new frames that are none of the game's, at the demo's setting (top-p 0.95) and colder; beside those in held-out
frames that the tokenizer rebuilds, 5 % by definition.

python benchmarks/screen_prior.py runs/screen --work FOLDER [--quick] [--json PATH] [--seeds N] [--only NAME]

What is in FOLDER is not trained again. A picture of each prior's frames is beside its run.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import vqgan
from cells import QUIET, Numbers, all_cells, arguments, room_frames, silent
from vqgan.data.atari import AtariConfig
from vqgan.demo.measures import decode_grids, encode_frames, prior_numbers
from vqgan.demo.run import DRAWN, SAMPLE_TOP_P, SCREEN, SCREEN_EVERY
from vqgan.demo.sprites import Sprites
from vqgan.images import grid, save_png, to_uint8
from vqgan.runs import resolve
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.training.encoding import encode_samples

TRAINED: dict[str, tuple[int, int]] = {
    "2000 steps": (2000, 1),  # the preset's
    "6000 steps": (6000, 1),
    "18000 steps": (18000, 1),
    "18000 steps, four times the frames": (18000, 4),
}
"""Steps, and how many times as long the game is played for training frames, and how many times as many are kept."""

COLDER = 0.7
FRAMES = 3000


def cell(
    folder: Path,
    seed: int,
    *,
    given: tuple[Path, Path],
    steps: int,
    scored: np.ndarray,
    sprites: Sprites,
    drawn: int,
) -> Numbers:
    """Trains one prior on a given tokenizer and its codes, and measures it."""
    tokenizer, codes = given
    overrides = [*QUIET, "training.evaluate_every=100000", f"training.steps={steps}"]
    how: dict[str, Any] = {"tokenizer": tokenizer, "overrides": overrides, "seed": seed, "device": "cpu"}
    started = time.process_time()
    vqgan.train("screen-prior", data=f"codes:{codes}", out=folder, precision="auto", **how)
    numbers = {"steps": float(steps), "processor": time.process_time() - started}
    model = vqgan.load(folder, device="cpu")
    assert isinstance(model, Synthesizer), "a prior's run holds one"
    numbers["loss"] = prior_numbers(model, scored[:64], scored, None, silent)["prior_loss"]
    for name, settings in {"": {}, "cold_": {"temperature": COLDER}}.items():
        frames = model.sample(drawn, seed=seed, top_p=SAMPLE_TOP_P, **settings)
        save_png(grid(frames[:16], columns=8), folder.parent / f"{name}samples-{seed}.png")
        numbers[f"{name}ghosts"], numbers[f"{name}things"] = sprites.unknown(to_uint8(frames).numpy())
    return numbers


def codes(work: Path, tokenizer: Tokenizer, more: int) -> Path:
    """The folder with the codes of so many times the demo's frames."""
    source = AtariConfig(
        games=("MontezumaRevenge",), frames=more * 400_000, max_frames=more * FRAMES, **SCREEN
    )
    encode_samples(resolve("screen-prior", data=source), tokenizer, work / f"codes-{more}")
    return work / f"codes-{more}"


def main() -> None:
    """Encodes, trains, measures, prints the table and writes the numbers."""
    parser = arguments(__doc__)
    parser.add_argument("demo", type=Path)
    given = parser.parse_args()
    tokenizer = vqgan.load(given.demo / "tokenizer", device="cpu")
    assert isinstance(tokenizer, Tokenizer), "a tokenizer's run holds one"
    frames = room_frames(FRAMES, **SCREEN).without_seen()
    frames = replace(
        frames, heldout=frames.heldout[::SCREEN_EVERY], heldout_rooms=frames.heldout_rooms[::SCREEN_EVERY]
    )
    known, scored = (encode_frames(tokenizer, each, silent) for each in (frames.train, frames.heldout))
    rebuilt, heldout = (decode_grids(tokenizer, each, silent) for each in (known, scored))
    shared: dict[str, Any] = {
        "scored": scored,
        "sprites": Sprites(frames, rebuilt=rebuilt, heldout=heldout),
        "drawn": 16 if given.quick else DRAWN,
    }
    cells: dict[str, Callable[[Path, int], Numbers]] = {
        name: partial(
            cell,
            given=(given.demo / "tokenizer", codes(given.work, tokenizer, more)),
            steps=8 if given.quick else steps,
            **shared,
        )
        for name, (steps, more) in TRAINED.items()
        if name.startswith(given.only)
    }
    all_cells(given, cells)


if __name__ == "__main__":
    main()
