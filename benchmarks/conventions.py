"""Why do two people's numbers of one model differ? Each known cause alone, on the tokenizer of the demo.

One tokenizer and one prior, held-out screens of the game, and one thing done in two usual ways at a time: which images
are the reference, how many, which crop, which kernel resizes, which file format, which precision, what counts as a
code in use. Distances are Frechet distances in the features of a classifier of the rooms, trained here on the training
frames. The last column says in how many of ten random halves of the images the second value is larger.

python benchmarks/conventions.py --demo runs/demo --work FOLDER [--quick] [--json PATH]
"""

import argparse
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import vqgan
from cells import room_frames, silent
from recipes import judge
from timing import environment
from vqgan.classifier import Classifier
from vqgan.data import open_source
from vqgan.data.atari import AtariConfig
from vqgan.demo.measures import decode_grids, encode_frames
from vqgan.evaluation.psnr import pixels_psnr
from vqgan.evaluation.sets import frechet_distance
from vqgan.images import to_float, to_uint8
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer

HALVES, SIZE, CROP = 10, (96, 80), 72
"""Random halves of the images; rows and columns of the demo's frames; side of the crops."""

Pictures = np.ndarray
Measure = Callable[[np.ndarray], float]
"""Of the images of these numbers."""


@dataclass
class Row:
    """One thing that is done in two ways.

    Attributes:
        what: It.
        first: One way.
        second: The other.
        values: What each gives for all images.
        larger: Of the halves, in which the second value is larger.
    """

    what: str
    first: str
    second: str
    values: tuple[float, float]
    larger: int


def resized(pictures: Pictures, kernel: Image.Resampling, size: tuple[int, int] = SIZE) -> Pictures:
    """Pictures brought to rows and columns."""
    small = (Image.fromarray(each).resize(size[::-1], kernel) for each in pictures)
    return np.stack([np.asarray(each) for each in small])


def as_jpeg(pictures: Pictures, quality: int) -> Pictures:
    """Pictures that were saved and read again."""
    found = []
    for each in pictures:
        file = io.BytesIO()
        Image.fromarray(each).save(file, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(file)))
    return np.stack(found)


def middle(pictures: Pictures) -> Pictures:
    """The square in the middle."""
    row, column = ((side - CROP) // 2 for side in SIZE)
    return pictures[:, row : row + CROP, column : column + CROP]


class Model:
    """The tokenizer, and what its judge sees in pictures."""

    def __init__(self, run: Path, reader: Classifier, precision: str = "fp32") -> None:
        tokenizer = vqgan.load(run, device="cpu", precision=precision)
        assert isinstance(tokenizer, Tokenizer), "a tokenizer's run holds one"
        self.run, self.tokenizer, self.reader = run, tokenizer, reader

    def rebuilt(self, pictures: Pictures) -> Pictures:
        """What becomes of pictures."""
        return decode_grids(self.tokenizer, encode_frames(self.tokenizer, pictures, silent), silent)

    @torch.no_grad()
    def features(self, pictures: Pictures) -> Tensor:
        """The judge's features of pictures of any size."""
        parts = np.array_split(pictures, max(1, len(pictures) // 64))
        return torch.cat([self.reader.features(to_float(part)) for part in parts])

    def distance(self, pictures: Pictures, others: Pictures) -> Measure:
        """The Frechet distance of two sets whose images belong together."""
        ours, theirs = self.features(pictures), self.features(others)
        return lambda chosen: frechet_distance(ours[chosen], theirs[chosen])

    def distance_from_all(self, pictures: Pictures, others: Pictures) -> Measure:
        """The Frechet distance of some of the pictures from all others."""
        ours, theirs = self.features(pictures), self.features(others)
        return lambda chosen: frechet_distance(ours[chosen], theirs)


def compare(what: str, first: tuple[str, Measure], second: tuple[str, Measure], count: int) -> Row:
    """Both ways for all images, and for halves of them."""
    draws, larger = np.random.default_rng(0), 0
    for _ in range(HALVES):
        half = draws.permutation(count)[: count // 2]
        larger += second[1](half) > first[1](half)
    whole = np.arange(count)
    return Row(what, first[0], second[0], (first[1](whole), second[1](whole)), int(larger))


def rows(model: Model, prior: Synthesizer, screens: Pictures, train: Pictures) -> Iterator[Row]:
    """All of them; ``screens`` are held out and twice as large in rows and columns as what the model sees."""
    kernels, count = Image.Resampling, len(screens)
    real = resized(screens, kernels.BOX)
    rebuilt = model.rebuilt(real)
    plain = "of the same images", model.distance(rebuilt, real)
    yield compare(
        "reference", plain, ("of the training images", model.distance_from_all(rebuilt, train)), count
    )
    own = np.resize(np.arange(len(train)), count)
    seen = "of training images", model.distance(model.rebuilt(train[own]), train[own])
    yield compare("images that are rebuilt", seen, ("of held-out images", plain[1]), count)

    crops = middle(rebuilt)
    whole = resized(real, kernels.BILINEAR, (CROP, CROP))
    yield compare(
        "crop of the reference",
        ("the same", model.distance(crops, middle(real))),
        ("whole images, made as small", model.distance(crops, whole)),
        count,
    )
    for name, kernel in (("bicubic", kernels.BICUBIC), ("nearest", kernels.NEAREST)):
        other = resized(screens, kernel)
        again = model.rebuilt(other)
        answers = ("averages, as in training", plain[1]), (name, model.distance(again, other))
        yield compare("kernel that resizes all images", *answers, count)
        fidelity = (
            (lambda chosen: pixels_psnr(real[chosen], rebuilt[chosen])),
            (lambda chosen, other=other, again=again: pixels_psnr(other[chosen], again[chosen])),
        )
        yield compare("the same, PSNR", ("averages", fidelity[0]), (name, fidelity[1]), count)
        answers = ("the same", plain[1]), (name, model.distance(rebuilt, other))
        yield compare("kernel of the reference alone", *answers, count)
    answers = ("PNG", plain[1]), ("JPEG, quality 90", model.distance(as_jpeg(rebuilt, 90), real))
    yield compare("file of the reconstructions", *answers, count)
    drawn = np.concatenate(
        [to_uint8(prior.sample(min(64, count - start), seed=start)).numpy() for start in range(0, count, 64)]
    )
    samples = "samples, from held-out images", model.distance(drawn, real)
    yield compare("rFID beside gFID", ("reconstructions", plain[1]), samples, count)
    for name, all_of_them in (("rebuilt", plain[1]), ("drawn", samples[1])):

        def of_few(chosen: np.ndarray, measure: Measure = all_of_them) -> float:
            return measure(chosen[: len(chosen) // 4])

        yield compare(f"number of {name} images", ("all", all_of_them), ("a quarter", of_few), count)
    grids = encode_frames(model.tokenizer, real, silent)
    size = model.tokenizer.codebook_size

    def used(of: int) -> Measure:
        return lambda chosen: len(np.unique(grids[chosen[:of]])) / size

    yield compare("codes in use", ("of a batch of 16", used(16)), ("of all images", used(count)), count)
    coarse = Model(model.run, model.reader, "bf16").rebuilt(real)
    yield compare("precision", ("fp32", plain[1]), ("bf16", model.distance(coarse, real)), count)


def main() -> None:
    """Measures, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    frames = room_frames(64 if given.quick else 3000)
    judge(given.work / "judge", frames, *(("training.steps=4",) if given.quick else ()))
    part = open_source(AtariConfig(games=("MontezumaRevenge",), scale=1, rows=(6, 198))).part("heldout")
    chosen = np.random.default_rng(0).permutation(len(part))[: 64 if given.quick else 2000]
    screens = np.stack([part.read(int(index)).pixels for index in chosen])
    prior, reader = (vqgan.load(path, device="cpu") for path in (given.demo / "prior", given.work / "judge"))
    assert isinstance(prior, Synthesizer), "a prior's run holds one"
    assert isinstance(reader, Classifier), "a classifier's run holds one"
    model = Model(given.demo / "tokenizer", reader)
    found = []
    for row in rows(model, prior, screens, frames.train):
        found.append(row)
        first, second = row.values
        print(
            f"| {row.what} | {row.first} | {first:.4g} | {row.second} | {second:.4g} | {row.larger} |",
            flush=True,
        )
    if given.json is not None:
        record = {"quick": given.quick, "environment": environment(), "images": len(screens)}
        record |= {"halves": HALVES, "rows": [asdict(row) for row in found]}
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
