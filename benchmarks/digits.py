"""Does a prior draw the digits that it is asked for? Both stages from nothing on the CPU, several seeds.

Each seed trains a tokenizer, a judge and two priors of handwritten digits, one of full attention and one of local span.
Every fifth digit of each class is held out from all of them. The judge is a classifier of another seed that learns from
real digits alone. Drawn digits are measured beside those of the training, held-out ones, their reconstructions and the
mean picture of each class:

- `right`: the share that the judge reads as asked, with its interval of 95 % (Wilson); `nearest mean`: the share whose
  nearest class mean is that of the asked class; `unfiltered`: as `right`, drawn without `top_p`
- `copies`: the share that is nearer to a training digit than 99 % of the held-out ones are
- `spread`: between two of one class, and `reach`: from each held-out digit to the nearest of the set, mean root mean
  square differences, of 255. They tell a prior that draws one fine digit of each class from one that draws all.
- seconds of the processor, and minutes of tokenizer, prior and drawing together, also by the clock

python benchmarks/digits.py --work FOLDER [--quick] [--json PATH] [--seeds N] [--only NAME]

A seed takes five minutes on one core. What is in FOLDER is not trained again; it also gets a picture, `digits.png`.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist, pdist
from torch.nn import functional as F

import vqgan
from cells import QUIET, Numbers, all_cells, arguments
from vqgan.classifier import Classifier
from vqgan.data.digits import open_digits
from vqgan.data.source import ArraySource
from vqgan.evaluation.numbers import Number
from vqgan.images import save_png, to_float, to_uint8
from vqgan.images.writing import grid
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer

REAL = "training digits", "held-out digits", "rebuilt", "class means"
"""Sets of pictures that no prior drew."""

RECIPES = {
    "full attention": (),
    "local span": ("prior.positions=rotary", "prior.span={rows: 2, columns: 2}"),
}
"""What each prior's preset is changed by."""

TOP_P = 0.95
"""How digits are drawn, but for `unfiltered`."""

JUDGE, HELD_OUT = 1000, 5
"""What a judge's seed has more than the others', and every which digit of a class is held out."""

SHOWN, GAP, SCALE = 8, 4, 4
"""Digits of a class in a picture, pixels between the sets, and how many times each is repeated."""


def digits() -> ArraySource:
    """All digits; of each class every fifth is held out, so that each part has all classes."""
    whole = open_digits()
    assert whole.classes is not None, "digits are classes"
    place = np.zeros(len(whole), np.int64)
    for each in range(10):
        place[whole.classes == each] = np.arange((whole.classes == each).sum())
    return replace(whole, held_out=place % HELD_OUT == 0)


def distances(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root mean square difference of each picture (n H W c) and each other one (k H W c): (n k)."""
    first, second = (each.reshape(len(each), -1).astype(np.float64) for each in (pictures, others))
    return np.asarray(cdist(first, second)) / np.sqrt(first.shape[1])


def spread(pictures: np.ndarray, classes: np.ndarray) -> float:
    """Mean of the root mean square difference of two pictures of one class, over the classes; 0 for single ones."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float64)
    pairs = [pdist(flat[classes == each]) for each in np.unique(classes)]
    return float(np.mean([found.mean() if len(found) else 0.0 for found in pairs])) / flat.shape[1] ** 0.5


def confusion(asked: np.ndarray, read: np.ndarray) -> list[list[int]]:
    """How many of each asked digit (rows) were read as each (columns)."""
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (asked, read), 1)
    return [[int(each) for each in row] for row in counts]


def trained(folder: Path, preset: str, *, changes: tuple[str, ...], **given: Any) -> tuple[Any, Numbers]:
    """A model, trained unless it is there, and what its training took."""
    path = folder / "seconds.json"
    if not path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        wall, own = time.perf_counter(), time.process_time()
        vqgan.train(preset, out=folder, overrides=[*QUIET, *changes], device="cpu", **given)
        took = {"clock": time.perf_counter() - wall, "own": time.process_time() - own}
        path.write_text(json.dumps(took), encoding="utf-8")
    return vqgan.load(folder, device="cpu"), json.loads(path.read_text(encoding="utf-8"))


def kept_at(work: Path, name: str, seed: int) -> Path:
    """Where a set of pictures lies with what was asked and read."""
    return work / f"{name.replace(' ', '_')}-{seed}.npz"


class Seed:
    """What the cells of a seed share.

    Args:
        work: Where tokenizer and judge are trained, and where what was judged is kept.
        seed: Of the tokenizer and the priors.
        quick: Whether they are trained for a few steps only.
    """

    def __init__(self, work: Path, seed: int, *, quick: bool) -> None:
        self.work, self.seed, self.source = work, seed, digits()
        self.few = ("training.steps=4",) if quick else ()
        images, classes, held_out = self.source.images, self.source.classes, self.source.held_out
        assert classes is not None
        assert held_out is not None
        self.train, self.heldout = ((images[part], classes[part]) for part in (~held_out, held_out))
        pixels, labels = self.train
        self.asked = labels[:100] if quick else labels
        self.means = np.stack([pixels[labels == each].mean(axis=0) for each in range(10)])
        self.usual = np.quantile(distances(self.heldout[0], pixels).min(axis=1), 0.01)
        how: dict[str, Any] = {"changes": self.few, "data": self.source}
        tokenizer, self.took = trained(work / f"tokenizer-{seed}", "digits-tokenizer", seed=seed, **how)
        judge, _ = trained(work / f"judge-{seed}", "digits-classifier", seed=JUDGE + seed, **how)
        assert isinstance(tokenizer, Tokenizer)
        assert isinstance(judge, Classifier)
        self.tokenizer, self.judge = tokenizer, judge

    def real(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A set of pictures that no prior drew, and their classes."""
        match name:
            case "training digits":
                return self.train
            case "held-out digits":
                return self.heldout
            case "rebuilt":
                pictures, classes = self.heldout
                rebuilt = self.tokenizer.decode(self.tokenizer.encode(to_float(pictures)))
                return to_uint8(rebuilt).numpy(), classes
            case _:
                return np.rint(self.means).astype(np.uint8), np.arange(10)

    @torch.no_grad()
    def read(self, pictures: np.ndarray) -> np.ndarray:
        """The digit that the judge sees in each picture."""
        return self.judge(to_float(pictures)).argmax(dim=1).numpy()

    def measure(self, name: str, pictures: np.ndarray, asked: np.ndarray) -> Numbers:
        """The numbers of a set of pictures (n H W c) of the asked classes; both are kept with what was read."""
        read = self.read(pictures)
        np.savez(kept_at(self.work, name, self.seed), pictures=pictures, asked=asked, read=read)
        right = Number.share((read == asked).astype(np.float64))
        low, high = right.interval or (0.0, 1.0)
        nearest = distances(pictures, self.train[0]).min(axis=1)
        return {
            "right": right.value,
            "low": low,
            "high": high,
            "nearest mean": float((distances(pictures, self.means).argmin(axis=1) == asked).mean()),
            "copies": float(((nearest == 0) | (nearest < self.usual)).mean()),
            "spread": spread(pictures, asked),
            "reach": float(distances(self.heldout[0], pictures).min(axis=1).mean()),
        }

    def drawn(self, name: str) -> Numbers:
        """The numbers of a prior that draws as many digits as it has learned, and what all took."""
        folder = kept_at(self.work, name, self.seed).with_suffix("")
        given = {"tokenizer": self.work / f"tokenizer-{self.seed}", "data": self.source, "seed": self.seed}
        prior, took = trained(folder, "digits-prior", changes=(*self.few, *RECIPES[name]), **given)
        assert isinstance(prior, Synthesizer), "a prior's run holds a synthesizer"
        draw = partial(prior.sample, len(self.asked), condition={"class": self.asked.tolist()})
        unfiltered = self.read(to_uint8(draw()).numpy()) == self.asked
        wall, own = time.perf_counter(), time.process_time()
        pictures = draw(top_p=TOP_P)
        wall, own = time.perf_counter() - wall, time.process_time() - own
        parts = {"tokenizer s": self.took["own"], "prior s": took["own"], "drawing s": own}
        return {
            **self.measure(name, to_uint8(pictures).numpy(), self.asked),
            "unfiltered": float(unfiltered.mean()),
            "loss": json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["heldout_loss"],
            **parts,
            "minutes": sum(parts.values()) / 60,
            "by the clock": (self.took["clock"] + took["clock"] + wall) / 60,
        }


def save_picture(path: Path, *sets: Mapping[str, np.ndarray]) -> None:
    """A row for each class: the first digits of each set, the sets side by side."""
    sides = []
    for found in sets:
        rows = [found["pictures"][found["asked"] == each][:SHOWN] for each in range(10)]
        sides.append(grid(to_float(np.concatenate(rows)), SHOWN, pad=1))
    whole = torch.cat([F.pad(side, (0, GAP), value=1.0) for side in sides], dim=2)[..., :-GAP]
    save_png(whole.repeat_interleave(SCALE, dim=1).repeat_interleave(SCALE, dim=2), path)


def main() -> None:
    """Trains, measures, prints the table and the confusions, draws the picture and writes the numbers."""
    given = arguments(__doc__).parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    seeds = cache(partial(Seed, given.work, quick=given.quick))

    def real(_: Path, seed: int, *, name: str) -> Numbers:
        return seeds(seed).measure(name, *seeds(seed).real(name))

    def drawn(_: Path, seed: int, *, name: str) -> Numbers:
        return seeds(seed).drawn(name)

    cells: dict[str, Callable[[Path, int], Numbers]] = {name: partial(real, name=name) for name in REAL}
    cells |= {name: partial(drawn, name=name) for name in RECIPES}
    is_begun = given.json is not None and given.json.exists()
    before = json.loads(given.json.read_text(encoding="utf-8")) if is_begun else {}
    confusions = before.get("confusion", {}) if before.get("quick") == given.quick else {}
    kept = {}
    for name, rows in all_cells(given, cells).items():
        paths = [kept_at(given.work, name, seed) for seed in range(len(rows))]
        if not all(path.exists() for path in paths):
            continue  # measured before, in another folder
        sets = [np.load(path) for path in paths]
        kept[name] = sets[0]
        asked, read = (np.concatenate([each[key] for each in sets]) for key in ("asked", "read"))
        confusions[name] = confusion(asked, read)
        print(f"{name}: rows asked, columns read", *confusions[name], sep="\n")
    if "held-out digits" in kept and "full attention" in kept:
        save_picture(given.work / "digits.png", kept["held-out digits"], kept["full attention"])
    if given.json is not None:
        record = json.loads(given.json.read_text(encoding="utf-8")) | {"confusion": confusions}
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
