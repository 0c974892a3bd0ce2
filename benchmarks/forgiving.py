"""Do terms of training make two stages forgive each other's errors? On game frames and on digits, several seeds each.

The same prior is trained with equal steps: without noise, with the original's fixed share of wrong tokens, with
annealed noise, with alignment, with both (He et al. 2025); and the fixed share and both on codes of a tokenizer in
whose training codes were replaced by near ones (Qiu et al. 2025). Measured are the loss on held-out codes; the distance
of samples from held-out images as that tokenizer rebuilds them, in features learned from the same data; what is wrong
in samples: things that move but are no known sprite (5 % of those in rebuilt held-out frames count as such), or digits
that are not the asked one; and the tokenizer's PSNR.

python benchmarks/forgiving.py --work FOLDER [--quick] [--json PATH] [--seeds N] [--only NAME]

What is in FOLDER is not trained again.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import vqgan
from cells import QUIET, Numbers, all_cells, arguments, room_frames, silent
from vqgan.checkpoints.load import load
from vqgan.classifier import Classifier
from vqgan.data import open_source
from vqgan.data.atari import AtariConfig
from vqgan.data.digits import DigitsConfig
from vqgan.demo.measures import (
    RoomFrames,
    decode_grids,
    encode_frames,
    prior_numbers,
)
from vqgan.demo.sprites import Sprites
from vqgan.evaluation.psnr import pixels_psnr
from vqgan.evaluation.texture import patch_frechet
from vqgan.images import to_float, to_uint8
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer

GAME = AtariConfig(games=("MontezumaRevenge",))
FOUR_LAYERS = "prior.depth=4", "task.optimizer.learning_rate=2e-3", "training.steps=450"
"""What the priors of frames change in their preset."""

FIXED = "task.token_noise=fixed", "task.token_keep_probability=0.9"
ANNEALED = "task.token_keep_probability=1", "task.token_noise=annealed"
RECIPES: dict[str, tuple[bool, tuple[str, ...]]] = {
    "no noise": (False, ("task.token_noise=fixed", "task.token_keep_probability=1")),
    "10 % wrong": (False, FIXED),
    "annealed noise": (False, ANNEALED),
    "alignment": (False, (*FIXED, "task.alignment=1")),
    "both": (False, (*ANNEALED, "task.alignment=1")),
    "near codes": (True, FIXED),
    "near codes and both": (True, (*ANNEALED, "task.alignment=1")),
}
"""Whether codes were replaced in the tokenizer's training, and what is changed in the prior's."""


def sprites(frames: RoomFrames, tokenizer: Tokenizer) -> Sprites:
    """What moves in the frames, and in what a tokenizer makes of them."""
    train, heldout = (
        decode_grids(tokenizer, encode_frames(tokenizer, each, silent), silent)
        for each in (frames.train, frames.heldout)
    )
    return Sprites(frames, rebuilt=train, heldout=heldout)


def trained(preset: str, folder: Path, *changes: str, data: Any = None) -> Path:
    """A run, trained unless it is there."""
    if not (folder / f"{preset.split('-')[1]}.safetensors").exists():
        vqgan.train(preset, data=data, out=folder, overrides=[*QUIET, *changes], device="cpu")
    return folder


def tokenizers(preset: str, work: Path, data: Any, *, quick: bool) -> dict[bool, tuple[Path, Tokenizer]]:
    """One that is trained as usual, and one in whose training codes are replaced by near ones."""
    steps, found = ("training.steps=4", "task.discriminator=null") if quick else (), {}
    for is_perturbed, changes in ((False, ()), (True, ("task.perturbation={}",))):
        folder = work / f"{preset}{'-near' * is_perturbed}"
        model = load(trained(preset, folder, *steps, *changes, data=data), device="cpu")
        assert isinstance(model, Tokenizer)
        found[is_perturbed] = folder, model
    return found


class Frames:
    """Frames of a game, as the demo draws them, with the codes of one tokenizer."""

    preset = "demo-prior"

    def __init__(
        self, run: Path, model: Tokenizer, judge: Tokenizer, frames: RoomFrames, *, quick: bool
    ) -> None:
        self.count, self.tokenizer, self.model, self.judge = 16 if quick else 512, run, model, judge
        self.small = ("training.steps=4", "prior.depth=2") if quick else FOUR_LAYERS
        self.data, self.sprites = GAME, sprites(frames, model)
        chosen = np.random.default_rng(0).permutation(len(frames.heldout))[: self.count]
        rebuilt = decode_grids(model, encode_frames(model, frames.heldout[chosen], silent), silent)
        self.real, self.psnr = to_float(rebuilt), pixels_psnr(frames.heldout[chosen], rebuilt)
        self.train = encode_frames(model, frames.train[:64], silent)
        self.heldout = encode_frames(model, frames.heldout, silent)

    def features(self, images: Tensor) -> Tensor:
        """The judge's latents, averaged over squares of three cells."""
        with torch.no_grad():
            latents = torch.cat([self.judge.latents(part).float() for part in images.split(64)])
        return F.adaptive_avg_pool2d(latents, (4, 3)).flatten(1)

    def measure(self, model: Synthesizer, seed: int) -> Numbers:
        """The numbers of one prior."""
        numbers = prior_numbers(model, self.train, self.heldout, None, silent)
        drawn = model.sample(len(self.real), seed=seed, top_p=0.95).clamp(-1, 1)
        distance = patch_frechet(drawn, self.real, self.features)
        wrong, things = self.sprites.unknown(to_uint8(drawn).numpy())
        found = {"wrong": wrong, "things": things, "psnr": self.psnr}
        return {"loss": numbers["prior_loss"], "distance": distance, **found}


class Digits:
    """Handwritten digits, each drawn as asked, with the codes of one tokenizer."""

    preset = "digits-prior"

    def __init__(self, run: Path, model: Tokenizer, reader: Classifier, *, quick: bool) -> None:
        self.tokenizer, self.model, self.reader, self.data = run, model, reader, DigitsConfig()
        self.count, self.small = (20, ("training.steps=4",)) if quick else (1000, ())
        whole = open_source(self.data)
        part = whole.part("heldout")
        items = [part.read(index) for index in range(len(part))]
        self.classes = np.array([item.class_index for item in items])
        seen = np.stack([item.pixels for item in items])
        self.grids = encode_frames(model, seen, silent)
        self.psnr = pixels_psnr(seen, decode_grids(model, self.grids, silent))
        real = np.stack([whole.read(index).pixels for index in range(min(self.count, len(whole)))])
        self.real = to_float(decode_grids(model, encode_frames(model, real, silent), silent))

    def features(self, images: Tensor) -> Tensor:
        """What the classifier's last layer sees."""
        with torch.no_grad():
            return self.reader.features(images)

    def measure(self, model: Synthesizer, seed: int) -> Numbers:
        """The numbers of one prior."""
        numbers = prior_numbers(model, self.grids, self.grids, self.classes, silent)
        asked = [number % 10 for number in range(len(self.real))]
        drawn = model.sample(len(self.real), condition={"class": asked}, seed=seed).clamp(-1, 1)
        with torch.no_grad():
            read = self.reader.logits(drawn).argmax(dim=1)
        wrong = float((read != torch.tensor(asked)).float().mean())
        distance = patch_frechet(drawn, self.real, self.features)
        return {"loss": numbers["prior_loss"], "distance": distance, "wrong": wrong, "psnr": self.psnr}


def cell(folder: Path, seed: int, *, data: Frames | Digits, changes: tuple[str, ...]) -> Numbers:
    """Trains and measures one prior."""
    overrides = [*QUIET, "training.evaluate_every=100000", *data.small, *changes]
    given: dict[str, Any] = {"data": data.data, "tokenizer": data.tokenizer, "seed": seed, "device": "cpu"}
    vqgan.train(data.preset, out=folder, overrides=overrides, **given)
    model = load(folder, device="cpu")
    assert isinstance(model, Synthesizer)
    return data.measure(model, seed)


def main() -> None:
    """Trains, measures, prints the table and writes the numbers."""
    given = arguments(__doc__).parse_args()
    found = dict[str, dict[bool, Frames | Digits]]()
    if "frames".startswith(given.only[:6]):
        both = tokenizers("demo-tokenizer", given.work, GAME, quick=given.quick)
        frames = room_frames(100_000).without_seen()
        plain = both[False][1]
        found["frames"] = {key: Frames(*each, plain, frames, quick=given.quick) for key, each in both.items()}
    if "digits".startswith(given.only[:6]):
        steps = ("training.steps=4",) if given.quick else ()
        reader = load(trained("digits-classifier", given.work / "digits-classifier", *steps), device="cpu")
        assert isinstance(reader, Classifier)
        both = tokenizers("digits-tokenizer", given.work, None, quick=given.quick)
        found["digits"] = {key: Digits(*each, reader, quick=given.quick) for key, each in both.items()}
    cells: dict[str, Callable[[Path, int], Numbers]] = {
        f"{name} {recipe}": partial(cell, data=found[name][is_perturbed], changes=changes)
        for name in found
        for recipe, (is_perturbed, changes) in RECIPES.items()
    }
    all_cells(given, cells)


if __name__ == "__main__":
    main()
