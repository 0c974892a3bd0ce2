"""Do two terms of training make a prior forgive its own errors? On game frames and on digits, several seeds each.

The same prior is trained five times, with equal steps: without noise, with the original's fixed share of wrong
tokens, with annealed noise, with alignment, and with both (He et al. 2025). Measured are the loss on held-out codes,
the distance of samples from held-out images in features that were learned from the same data, and what is wrong in
samples: things that move but are no known sprite, or digits that are not the asked one.

python benchmarks/forgiving.py [--quick] [--json PATH] [--work FOLDER] [--frames TOKENIZER] [--seeds N]

``--frames`` is the run of the demo's tokenizer (``make demo``); without it only digits are measured. What is in the
folder ``--work`` is not trained again.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy import ndimage, spatial
from torch import Tensor
from torch.nn import functional as F

import vqgan
from timing import environment
from vqgan.checkpoints.load import load
from vqgan.classifier import Classifier
from vqgan.data import open_source
from vqgan.data.atari import AtariConfig, AtariSource
from vqgan.data.digits import DigitsConfig
from vqgan.demo.measures import (
    RoomFrames,
    decode_grids,
    encode_frames,
    median_frame,
    moving_pixels,
    prior_numbers,
)
from vqgan.evaluation.texture import patch_frechet
from vqgan.images import to_float, to_uint8
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer

ANNEALED = "task.token_keep_probability=1", "task.token_noise=annealed"
RECIPES = {
    "no noise": ("task.token_keep_probability=1",),
    "10 % wrong": ("task.token_keep_probability=0.9",),
    "annealed noise": ANNEALED,
    "alignment": ("task.token_keep_probability=0.9", "task.alignment=1"),
    "both": (*ANNEALED, "task.alignment=1"),
}
QUIET = "training.save_every=100000", "training.evaluate_every=100000", "training.pictures=0"
SIDE, SMALLEST, KNOWN = 20, 6, 0.95
"""Pixels of the square that is cut out around a thing and of the smallest thing that counts; the share of the things in
held-out frames, rebuilt from their codes, that count as known."""


def silent(*_: object) -> None:
    """No progress is shown."""


class Sprites:
    """Things that move: cut out before the empty room, and compared with those of the training frames."""

    def __init__(self, frames: RoomFrames, tokenizer: Tokenizer) -> None:
        rooms = np.unique(frames.train_rooms)
        self.rooms = np.stack([median_frame(frames.train[frames.train_rooms == room]) for room in rooms])

        def rebuilt(images: np.ndarray) -> np.ndarray:
            return decode_grids(tokenizer, encode_frames(tokenizer, images, silent), silent)

        known = [self.cut(images) for images in (frames.train, rebuilt(frames.train))]
        self.tree = spatial.cKDTree(np.concatenate(known))
        self.limit = float(np.quantile(self.distances(rebuilt(frames.heldout)), KNOWN))

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """One row for each thing: its difference from the room, around its middle."""
        flat = frames.reshape(len(frames), -1).astype(np.float32)
        empty = self.rooms.reshape(len(self.rooms), -1).astype(np.float32)
        lengths = (empty**2).sum(axis=1) - 2 * flat @ empty.T
        background = self.rooms[lengths.argmin(axis=1)]
        pieces, half = [], SIDE // 2
        for frame, room, moving in zip(frames, background, moving_pixels(frames, background), strict=True):
            numbered, count = ndimage.label(moving, structure=np.ones((3, 3)))
            areas = np.bincount(numbered.ravel(), minlength=count + 1)
            padded = np.pad(
                (frame.astype(np.float32) - room) * moving[..., None], ((half, half), (half, half), (0, 0))
            )
            for number in np.flatnonzero(areas[1:] >= SMALLEST) + 1:
                row, column = (round(each) for each in ndimage.center_of_mass(numbered == number))
                own = np.pad(numbered, half)[row : row + SIDE, column : column + SIDE] == number
                piece = padded[row : row + SIDE, column : column + SIDE] * own[..., None]
                pieces.append(piece.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(1, 3)).ravel())
        return np.stack(pieces) if pieces else np.zeros((0, SIDE * SIDE * 3 // 4), np.float32)

    def distances(self, frames: np.ndarray) -> np.ndarray:
        """Of each thing from the nearest known one."""
        things = self.cut(frames)
        return self.tree.query(things)[0] if len(things) else np.zeros(0)

    def ghosts(self, frames: np.ndarray) -> dict[str, float]:
        """The share of the things that are not known, and how many things a frame has."""
        distances = self.distances(frames)
        return {
            "wrong": float((distances > self.limit).mean()) if len(distances) else 0.0,
            "things": len(distances) / len(frames),
        }


class Frames:
    """Frames of a game, as the demo draws them."""

    name, preset, wrong = "frames", "demo-prior", "things that are no known sprite"

    def __init__(self, tokenizer: Path, *, quick: bool) -> None:
        self.count, self.tokenizer = 16 if quick else 512, tokenizer
        self.small = ("training.steps=4", "prior.depth=2") if quick else ()
        self.data = AtariConfig(games=("MontezumaRevenge",))
        source = open_source(self.data)
        arrays: list[Any] = []
        for part in (source.part("train"), source.part("heldout")):
            assert isinstance(part, AtariSource)
            arrays += [np.stack([part.read(index).pixels for index in range(len(part))]), part.rooms]
        self.frames = RoomFrames(*arrays).without_seen()
        model = load(tokenizer, device="cpu")
        assert isinstance(model, Tokenizer)
        self.model, self.sprites = model, Sprites(self.frames, model)
        rng = np.random.default_rng(0)
        chosen = rng.permutation(len(self.frames.heldout))[: self.count]
        grids = encode_frames(model, self.frames.heldout[chosen], silent)
        self.real = to_float(decode_grids(model, grids, silent))
        self.grids = {
            "train": encode_frames(model, self.frames.train[:64], silent),
            "heldout": encode_frames(model, self.frames.heldout, silent),
        }

    def features(self, images: Tensor) -> Tensor:
        """The tokenizer's latents, averaged over squares of three cells."""
        with torch.no_grad():
            latents = torch.cat([self.model.latents(part).float() for part in images.split(64)])
        return F.adaptive_avg_pool2d(latents, (4, 3)).flatten(1)

    def measure(self, model: Synthesizer, seed: int) -> dict[str, float]:
        """The numbers of one prior."""
        numbers = prior_numbers(model, self.grids["train"], self.grids["heldout"], None, silent)
        drawn = model.sample(len(self.real), seed=seed, top_p=0.95).clamp(-1, 1)
        distance = patch_frechet(drawn, self.real, self.features)
        ghosts = self.sprites.ghosts(to_uint8(drawn).numpy())
        return {"loss": numbers["prior_loss"], "distance": distance, **ghosts}


class Digits:
    """Handwritten digits, each drawn as asked."""

    name, preset, wrong = "digits", "digits-prior", "digits that are not the asked one"

    def __init__(self, work: Path, *, quick: bool) -> None:
        self.count, self.small = (20, ("training.steps=4",)) if quick else (1000, ())
        self.data = DigitsConfig()
        steps = ["training.steps=4"] if quick else []
        for stage in ("tokenizer", "classifier"):
            if not (work / stage / f"{stage}.safetensors").exists():
                vqgan.train(f"digits-{stage}", out=work / stage, overrides=[*steps, "training.pictures=0"])
        self.tokenizer = work / "tokenizer"
        tokenizer, reader = (load(work / each, device="cpu") for each in ("tokenizer", "classifier"))
        assert isinstance(tokenizer, Tokenizer)
        assert isinstance(reader, Classifier)
        self.model, self.reader = tokenizer, reader
        part = open_source(self.data).part("heldout")
        items = [part.read(index) for index in range(len(part))]
        self.heldout = np.stack([item.pixels for item in items])
        self.classes = np.array([item.class_index for item in items])
        whole = open_source(self.data)
        real = np.stack([whole.read(index).pixels for index in range(min(self.count, len(whole)))])
        self.real = to_float(decode_grids(tokenizer, encode_frames(tokenizer, real, silent), silent))

    def features(self, images: Tensor) -> Tensor:
        """What the classifier's last layer sees."""
        with torch.no_grad():
            return self.reader.features(images)

    def measure(self, model: Synthesizer, seed: int) -> dict[str, float]:
        """The numbers of one prior."""
        grids = encode_frames(self.model, self.heldout, silent)
        numbers = prior_numbers(model, grids, grids, self.classes, silent)
        asked = [number % 10 for number in range(len(self.real))]
        drawn = model.sample(len(self.real), condition={"class": asked}, seed=seed).clamp(-1, 1)
        with torch.no_grad():
            read = self.reader.logits(drawn).argmax(dim=1)
        return {
            "loss": numbers["prior_loss"],
            "distance": patch_frechet(drawn, self.real, self.features),
            "wrong": float((read != torch.tensor(asked)).float().mean()),
        }


def measured(data: Frames | Digits, recipe: str, seed: int, work: Path) -> dict[str, float]:
    """Trains and measures one prior, or reads what was measured."""
    folder = work / f"{data.name}-{recipe.replace(' ', '_')}-{seed}"
    if (folder / "numbers.json").exists():
        found: dict[str, float] = json.loads((folder / "numbers.json").read_text())
        return found
    started = time.perf_counter()
    if not (folder / "prior.safetensors").exists():
        changes = [*QUIET, *data.small, *RECIPES[recipe]]
        given: dict[str, Any] = {"data": data.data, "tokenizer": data.tokenizer, "seed": seed}
        vqgan.train(data.preset, out=folder, overrides=changes, **given)
    seconds = time.perf_counter() - started
    model = load(folder, device="cpu")
    assert isinstance(model, Synthesizer)
    numbers = {**data.measure(model, seed), "seconds": seconds}
    (folder / "numbers.json").write_text(json.dumps(numbers))
    print(data.name, recipe, seed, {key: round(value, 4) for key, value in numbers.items()}, flush=True)
    return numbers


def table(data: Frames | Digits, results: dict[str, list[dict[str, float]]]) -> str:
    """Mean and range of each number over the seeds."""
    names = list(next(iter(results.values()))[0])
    lines = [f"| {data.name} | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for recipe, rows in results.items():
        cells = []
        for name in names:
            values = [row[name] for row in rows]
            cells.append(f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        lines.append(f"| {recipe} | {' | '.join(cells)} |")
    return "\n".join([*lines, f"wrong: {data.wrong}"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, measures, prints the tables and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(arguments)
    with TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        sets: list[Frames | Digits] = [Digits(work, quick=given.quick)]
        if given.frames is not None:
            sets.insert(0, Frames(given.frames, quick=given.quick))
        numbers: dict[str, dict[str, list[dict[str, float]]]] = {each.name: {} for each in sets}
        for seed in range(1 if given.quick else given.seeds):
            for data in sets:
                for recipe in RECIPES:
                    rows = numbers[data.name].setdefault(recipe, [])
                    rows.append(measured(data, recipe, seed, work))
    for data in sets:
        print(table(data, numbers[data.name]))
    if given.json is not None:
        record = {"quick": given.quick, "environment": environment(), "numbers": numbers}
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
