"""Does a perceptual loss without downloads help? On game frames, several seeds each, with equal steps.

A denoiser learns from the frames. Then one tokenizer is trained by its pixels alone, with the distance of the
denoiser's features added in several weights, and, to tell what the denoiser's training is worth, with that of one that
has learned nothing. Measured on held-out frames: PSNR, that of the pixels that move (they differ from the median of the
room's frames), detail (the energy of the finest details as a share of the images'), and processor time for each step.

python benchmarks/perceptual.py --work FOLDER [--quick] [--json PATH] [--seeds N] [--only NAME]

A cell takes a minute or two on one core. What is in FOLDER is not trained again.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import vqgan
from cells import QUIET, Numbers, all_cells, arguments, room_frames, silent
from vqgan.demo.measures import RoomFrames, decode_grids, encode_frames, median_frame, moving_pixels
from vqgan.evaluation.psnr import pixels_psnr
from vqgan.tokenizer import Tokenizer

STEPS, DENOISER_STEPS = 600, 400
BASE = (
    "tokenizer.autoencoder.base_channels=32",
    "task.discriminator=null",
    "task.hard_share=0",
    "task.optimizer.learning_rate=1e-3",
    "task.reseed_after=50",
    "training.evaluate_every=100000",
    "training.evaluate_images=512",
    *QUIET,
)
FRAMING = "data.image_size=[96, 80]", "data.crop=center", "data.resize=null", "data.flip=false"
RECIPES = {
    "pixels": (None, 0.0),
    "denoiser 1": ("denoiser", 1.0),
    "untrained 1": ("untrained", 1.0),
}
"""Which network compares, and with which weight."""


def denoiser(folder: Path, frames: RoomFrames, steps: int, *changes: str) -> Path:
    """The run of a denoiser, trained unless it is there."""
    if not (folder / "denoiser.safetensors").exists():
        overrides = [f"training.steps={steps}", *QUIET, *FRAMING, *changes]
        given: dict[str, Any] = {"data": frames.train, "eval_data": frames.heldout, "device": "cpu"}
        vqgan.train("laptop-denoiser", out=folder, overrides=overrides, **given)
    return folder


def train(folder: Path, seed: int, *, recipe: str, work: Path, frames: RoomFrames, steps: int) -> Numbers:
    """One run, and what its reconstructions are."""
    network, weight = RECIPES[recipe]
    overrides = [*BASE, f"training.steps={steps}"]
    if network is not None:
        overrides.append(f"task.perceptual={{weight: {weight}, weights: {(work / network).resolve()}}}")
    given: dict[str, Any] = {"data": frames.train, "eval_data": frames.heldout, "seed": seed, "device": "cpu"}
    started = time.process_time()
    vqgan.train("demo-tokenizer", out=folder, overrides=overrides, **given)
    seconds = time.process_time() - started
    row = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    tokenizer = vqgan.load(folder, device="cpu")
    assert isinstance(tokenizer, Tokenizer), "a tokenizer's run holds one"
    seen = frames.heldout[:512]
    rebuilt = decode_grids(tokenizer, encode_frames(tokenizer, seen, silent), silent)
    moving = moving_pixels(seen, frames.baseline(median_frame, frames.heldout)[:512])
    return {
        "psnr": pixels_psnr(seen, rebuilt),
        "moving": pixels_psnr(seen[moving], rebuilt[moving]),
        "detail": row["heldout_detail"],
        "usage": row["heldout_usage"],
        "ms a step": 1000 * seconds / steps,
    }


def main() -> None:
    """Trains, measures, prints the table and writes the numbers."""
    given = arguments(__doc__).parse_args()
    frames = room_frames(32 if given.quick else 1500).without_seen()
    settings: dict[str, Any] = {"work": given.work, "frames": frames, "steps": 8 if given.quick else STEPS}
    denoiser(given.work / "denoiser", frames, 8 if given.quick else DENOISER_STEPS)
    denoiser(given.work / "untrained", frames, 1, "task.optimizer.learning_rate=1e-9")
    cells: dict[str, Callable[[Path, int], Numbers]] = {
        name: partial(train, recipe=name, **settings) for name in RECIPES
    }
    all_cells(given, cells)


if __name__ == "__main__":
    main()
