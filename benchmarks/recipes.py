"""Which mistake in the recipe costs how much? Tokenizers on game frames: equal frames, steps and seeds.

The original's recipe (pixels by their absolute difference, a perceptual loss, a hinge discriminator from the middle of
the run, no care for unused codes) beside: itself with one thing that small implementations do otherwise, with all their
mistakes together, without discriminator and perceptual loss (a VQ-VAE), with other perceptual networks; and the preset
of the demo, with as many steps and with as much time. All have the layers of that preset. LPIPS needs a download, so
the perceptual network is EfficientNet-Lite0 (extra `features`).

Measured on held-out frames: PSNR; that of the pixels that move (they differ from the median of the room's frames); the
Frechet distance in the features of a classifier of the rooms that was trained on the same frames; detail (the energy
of the finest details as a share of the images'); codes in use; processor time for each step.

python benchmarks/recipes.py --work FOLDER [--quick] [--json PATH] [--picture PATH] [--seeds N] [--only NAME]

What is in FOLDER is not trained again. Run it on one thread (``OMP_NUM_THREADS=1``): the time of the last recipe is
that of a processor.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import vqgan
from cells import QUIET, Numbers, all_cells, arguments, room_frames, silent
from perceptual import denoiser
from vqgan.checkpoints import perceptual as perceptual_weights
from vqgan.checkpoints.imagenet import load_efficientnet_lite
from vqgan.classifier import Classifier
from vqgan.data.source import ArraySource
from vqgan.demo.measures import RoomFrames, decode_grids, encode_frames, median_frame, moving_pixels
from vqgan.evaluation.psnr import detail_energy, pixels_psnr
from vqgan.evaluation.sets import frechet_distance
from vqgan.images import grid, save_png, to_float
from vqgan.nn.efficientnet_lite import EfficientNetLite
from vqgan.tokenizer import Tokenizer
from vqgan.training import tokenizer_task
from vqgan.training.losses import generator_objective

STEPS, SHOWN, MEASURED = 500, 4, 1024


def original(steps: int, *, rate: float = 1e-3) -> tuple[str, ...]:
    """The original's recipe as changes of the demo's preset, whose layers it keeps."""
    return (
        "tokenizer.quantizer={normalize: false, codebook_dim: 64, loss_convention: original}",
        f"task.optimizer={{learning_rate: {rate}, betas: [0.5, 0.9], warmup_steps: 0}}",
        "task.optimizer={decay: constant, clip_norm: null}",
        "task.pixels=l1",
        "task.hard_share=0",
        "task.perceptual={weight: 1, weights: imagenet-lite}",
        f"task.discriminator={{start: {steps // 2}, discriminator_start: null, ramp_steps: 0, base_channels: 32,"
        " num_layers: 3, weight: 0.8, loss: hinge, norm: batch, r1: 0, r2: 0, reconstruction: updated}",
        "task.reseed_after=null",
        "training.ema_decay=null",
    )


def ours(steps: int) -> tuple[str, ...]:
    """The demo's preset; its discriminator joins as late in the run as there."""
    first, joins, ramp = (round(share * steps / 2900) for share in (2600, 2700, 100))
    return (f"task.discriminator={{discriminator_start: {first}, start: {joins}, ramp_steps: {ramp}}}",)


VQ_VAE = "task.discriminator=null", "task.perceptual=null", "task.pixels=l2"
RECIPES: dict[str, tuple[str, ...]] = {
    "original": (),
    "VQ-VAE": VQ_VAE,
    "leaking adversary": (),
    "product of losses": (),
    "perceptual network random": (),
    "perceptual network trained": (),
    "loss of the codes as in the paper": ("tokenizer.quantizer.loss_convention=paper",),
    "images from 0 to 1": (),
    "all mistakes": (),
    "dead codes re-seeded": ("task.reseed_after=50",),
    "no perceptual loss": ("task.perceptual=null",),
    "perceptual by a denoiser": ("task.perceptual.weights=DENOISER",),
}
"""What each changes in the original's recipe; what no setting does wrong is in ``MISTAKES``."""

OURS, OURS_IN_TIME = "our preset", "our preset, equal time"


def objective(
    images: Tensor,
    *,
    distance: Callable[[Tensor], Tensor],
    auxiliary: Tensor,
    discriminator: Callable[[Tensor], Tensor] | None = None,
    leaks: bool = False,
    multiplies: bool = False,
    **rest: Any,
) -> Any:
    """The generator's objective with mistakes.

    Args:
        images: As of :func:`generator_objective`, like all others.
        distance: Of the reconstruction.
        auxiliary: The quantizer's loss.
        discriminator: Once it counts.
        leaks: The discriminator's own loss of the reconstruction reaches the tokenizer: nothing is detached.
        multiplies: Reconstruction loss times quantizer's loss, where the sum belongs: ``d(pq) = p dq + q dp``.
        rest: Passed on.
    """
    own = distance
    if multiplies:
        whole, factor = distance(images).detach(), auxiliary.detach()
        auxiliary = auxiliary * whole

        def own(shown: Tensor) -> Tensor:
            return distance(shown) * factor

    if leaks and isinstance(discriminator, nn.Module):
        fixed = {name: each.detach() for name, each in discriminator.named_parameters()}
        auxiliary = auxiliary + 0.5 * F.relu(1 + functional_call(discriminator, fixed, images)).mean()
    return generator_objective(images, distance=own, auxiliary=auxiliary, discriminator=discriminator, **rest)


class Trained(EfficientNetLite):
    """A perceptual network among the trained weights: it learns to see no difference."""

    def __init__(self) -> None:
        super().__init__()
        self.load_state_dict(load_efficientnet_lite().state_dict())
        self.optimizer = torch.optim.Adam(self.parameters(), 1e-3, (0.5, 0.9))

    def distance(self, images: Tensor, others: Tensor) -> Tensor:
        """As the frozen one's, after a step down."""
        if torch.is_grad_enabled():
            self.requires_grad_(True)
            self.optimizer.zero_grad()
            super().distance(images, others.detach()).mean().backward()
            self.optimizer.step()
            self.requires_grad_(False)
        return super().distance(images, others)


MISTAKES: dict[str, tuple[dict[str, bool], Callable[[], EfficientNetLite]]] = {
    "leaking adversary": ({"leaks": True}, load_efficientnet_lite),
    "product of losses": ({"multiplies": True}, load_efficientnet_lite),
    "perceptual network random": ({}, EfficientNetLite),
    "perceptual network trained": ({}, Trained),
    "all mistakes": ({"leaks": True, "multiplies": True}, EfficientNetLite),
}
"""What no setting does wrong: in the objective, and which network compares."""

FROM_ZERO = "images from 0 to 1", "all mistakes"


def train(folder: Path, seed: int, *, recipe: str, work: Path, frames: RoomFrames, steps: int) -> Numbers:
    """One run, and what its reconstructions are."""
    if recipe == OURS_IN_TIME:
        each = (json.loads((work / f"{name}-{seed}.json").read_text()) for name in ("original", "our_preset"))
        theirs, own = (numbers["ms a step"] for numbers in each)
        steps = round(steps * theirs / own)
    changes = ours(steps) if recipe in (OURS, OURS_IN_TIME) else (*original(steps), *RECIPES[recipe])
    overrides = [each.replace("DENOISER", str((work / "denoiser").resolve())) for each in changes]
    overrides += [f"training.steps={steps}", "training.evaluate_every=100000", *QUIET]
    squeezed = (lambda pixels: 128 + pixels // 2) if recipe in FROM_ZERO else lambda pixels: pixels
    wrong, network = MISTAKES.get(recipe, ({}, load_efficientnet_lite))
    started = time.process_time()
    with (
        patch.object(tokenizer_task, "generator_objective", partial(objective, **wrong)),
        patch.object(perceptual_weights, "load_efficientnet_lite", network),
    ):
        given: dict[str, Any] = {"data": squeezed(frames.train), "eval_data": squeezed(frames.heldout)}
        vqgan.train("demo-tokenizer", out=folder, overrides=overrides, seed=seed, device="cpu", **given)
    milliseconds = 1000 * (time.process_time() - started) / steps
    seen = frames.heldout[:MEASURED]
    rebuilt, grids = rebuild(folder, seen, recipe)
    moving = moving_pixels(seen, frames.baseline(median_frame, frames.heldout)[: len(seen)])
    model = vqgan.load(work / "judge", device="cpu")
    assert isinstance(model, Classifier), "a classifier's run holds one"

    def features(pictures: np.ndarray) -> Tensor:
        with torch.no_grad():
            return torch.cat([model.features(to_float(part)) for part in np.array_split(pictures, 16)])

    energy = [float(detail_energy(torch.from_numpy(each).movedim(3, 1).double())) for each in (rebuilt, seen)]
    return {
        "psnr": pixels_psnr(seen, rebuilt),
        "moving": pixels_psnr(seen[moving], rebuilt[moving]),
        "distance": frechet_distance(features(rebuilt), features(seen)),
        "detail": energy[0] / energy[1],
        "usage": len(np.unique(grids)) / 1024,
        "ms a step": milliseconds,
        "steps": float(steps),
    }


def rebuild(folder: Path, seen: np.ndarray, recipe: str) -> tuple[np.ndarray, np.ndarray]:
    """What a run's tokenizer makes of frames, and their codes."""
    tokenizer = vqgan.load(folder, device="cpu")
    assert isinstance(tokenizer, Tokenizer), "a tokenizer's run holds one"
    grids = encode_frames(tokenizer, 128 + seen // 2 if recipe in FROM_ZERO else seen, silent)
    rebuilt = decode_grids(tokenizer, grids, silent)
    if recipe in FROM_ZERO:
        rebuilt = np.clip(2 * rebuilt.astype(np.int16) - 255, 0, 255).astype(np.uint8)
    return rebuilt, grids


def judge(folder: Path, frames: RoomFrames, *changes: str) -> None:
    """Trains the classifier of rooms, unless it is there."""
    rooms, numbers = np.unique(frames.train_rooms, return_inverse=True)
    if not (folder / "classifier.safetensors").exists():
        source = ArraySource(
            name="rooms", images=frames.train, classes=numbers, class_names=tuple(map(str, rooms))
        )
        vqgan.train("demo-classifier", data=source, out=folder, overrides=[*QUIET, *changes], device="cpu")


def show(path: Path, work: Path, frames: RoomFrames) -> None:
    """Draws held-out frames in which much moves, and below them what each recipe makes of them with the first seed."""
    seen = frames.heldout[:MEASURED]
    moving = moving_pixels(seen, frames.baseline(median_frame, frames.heldout)[:MEASURED]).sum(axis=(1, 2))
    chosen = np.argsort(-moving, kind="stable")[: 20 * SHOWN : 20]
    rows = [seen[chosen]]
    for recipe in (*RECIPES, OURS, OURS_IN_TIME):
        found = sorted(work.glob(f"{recipe.replace(' ', '_')}-0/*/tokenizer.safetensors"))
        rows.append(rebuild(found[-1].parent, seen[chosen], recipe)[0])
    pictures = np.concatenate(rows).repeat(2, axis=1).repeat(2, axis=2)
    save_png(
        grid(to_float(pictures), columns=SHOWN),
        path,
        {"rows": ", ".join(("frames", *RECIPES, OURS, OURS_IN_TIME))},
    )


def main() -> None:
    """Trains, measures, prints the table, and writes the numbers and a picture."""
    parser = arguments(__doc__)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    frames, steps = room_frames(64 if given.quick else 3000).without_seen(), 8 if given.quick else STEPS
    short = ("training.steps=4",) if given.quick else ()
    denoiser(given.work / "denoiser", frames, 8 if given.quick else 400)
    judge(given.work / "judge", frames, *short)
    settings: dict[str, Any] = {"work": given.work, "frames": frames, "steps": steps}
    names = (*RECIPES, OURS, OURS_IN_TIME)
    cells: dict[str, Callable[[Path, int], Numbers]] = {
        name: partial(train, recipe=name, **settings) for name in names
    }
    all_cells(given, cells)
    if given.picture is not None:
        show(given.picture, given.work, frames)


if __name__ == "__main__":
    main()
