"""How does the quality of samples depend on temperature, top-k, top-p and the share that is given? On game frames.

Priors of one kind on one tokenizer, one for each seed. Measured of the frames that they draw: the
Frechet distance from held-out and from training frames, precision and recall among held-out ones, all in the features
of a classifier of the rooms; things that move but are no known sprite (5 % of those in rebuilt held-out frames count as
such); copies, whose codes are all those of a training frame, and near copies: nearer to a training frame, in pixels,
than 95 % of rebuilt held-out frames are. Held-out frames are also completed below their upper rows, with top-p 0.95:
PSNR of what was not given, and of what moves in it, beside that of the reconstruction; and codes that are right.

python benchmarks/settings.py RUN [RUN ...] --work FOLDER [--quick] [--json PATH] [--only NAME]

What is in FOLDER is not drawn again.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vqgan
from cells import Numbers, all_cells, arguments, room_frames, silent
from forgiving import sprites
from recipes import judge
from vqgan.classifier import Classifier
from vqgan.demo.measures import RoomFrames, decode_grids, encode_frames, median_frame, moving_pixels
from vqgan.evaluation.copies import nearest_pictures
from vqgan.evaluation.psnr import pixels_psnr
from vqgan.evaluation.sets import frechet_distance, neighbour_numbers
from vqgan.images import to_float
from vqgan.sampling import SamplingSettings
from vqgan.sampling.fill import fill_grids
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer

SETTINGS: dict[str, dict[str, Any]] = {
    **{f"temperature {value:g}": {"temperature": value} for value in (1, 0.5, 0.7, 0.85, 1.15, 1.3, 1.5)},
    **{f"top-k {value}": {"top_k": value} for value in (1, 16, 64, 256)},
    **{f"top-p {value:g}": {"top_p": value} for value in (0.8, 0.9, 0.95, 0.99)},
}
SHARES = 0.25, 0.5, 0.75
"""Of the upper rows that are given; 0 is "top-p 0.95"."""

DEMO = {"top_p": 0.95}
COUNT, NEAR, MEMORY = 512, 0.05, 1 << 31
"""Frames that are drawn; share of rebuilt held-out frames that count as near copies; bytes."""


class Measures:
    """What is measured of frames, beside held-out ones.

    Args:
        frames: Those trained on, and held-out ones.
        tokenizer: Of all priors.
        reader: The classifier of rooms.
        count: Frames of each set.
    """

    def __init__(self, frames: RoomFrames, tokenizer: Tokenizer, reader: Classifier, count: int) -> None:
        self.tokenizer, self.reader, self.train = tokenizer, reader, frames.train
        self.sprites, self.seen = sprites(frames, tokenizer), frames.heldout[:count]
        self.grids = encode_frames(tokenizer, self.seen, silent)
        self.rebuilt = decode_grids(tokenizer, self.grids, silent)
        self.known = {grid.tobytes() for grid in encode_frames(tokenizer, frames.train, silent)}
        self.empty = frames.baseline(median_frame, frames.heldout)[:count]
        self.moving = moving_pixels(self.seen, self.empty)
        self.heldout, self.trained = self.features(self.seen), self.features(frames.train[:count])
        self.near = float(np.quantile(self.nearest(self.rebuilt), NEAR))

    @torch.no_grad()
    def features(self, pictures: np.ndarray) -> Tensor:
        """The classifier's."""
        return torch.cat([self.reader.features(to_float(part)) for part in np.array_split(pictures, 8)])

    def nearest(self, pictures: np.ndarray) -> np.ndarray:
        """Root mean square difference of each from the nearest training frame."""
        found = self.train[nearest_pictures(self.train, pictures)].astype(np.float64)
        return np.sqrt(((found - pictures) ** 2).mean(axis=(1, 2, 3)))

    def numbers(self, pictures: np.ndarray, grids: np.ndarray) -> Numbers:
        """Of frames and their codes."""
        features = self.features(pictures)
        neighbours = neighbour_numbers(self.heldout, features)
        ghosts, things = self.sprites.unknown(pictures)
        return {
            "heldout": frechet_distance(features, self.heldout),
            "training": frechet_distance(features, self.trained),
            "precision": neighbours["precision"],
            "recall": neighbours["recall"],
            "ghosts": ghosts,
            "things": things,
            "copies": float(np.mean([grid.tobytes() in self.known for grid in grids])),
            "near": float((self.nearest(pictures) < self.near).mean()),
        }

    def completed(self, pictures: np.ndarray, grids: np.ndarray, rows: int) -> Numbers:
        """Of completions of the held-out frames below so many rows of codes."""
        top = rows * self.seen.shape[1] // self.grids.shape[1]
        moving, seen = self.moving[:, top:], self.seen[:, top:]
        shown = {"": pictures, "rebuilt_": self.rebuilt, "empty_": self.empty}
        found = {"codes_right": float((grids == self.grids)[:, rows:].mean())}
        for name, each in shown.items():
            found[f"{name}psnr"] = pixels_psnr(seen, each[:, top:])
            found[f"{name}moving"] = pixels_psnr(seen[moving], each[:, top:][moving])
        return found

    @torch.no_grad()
    def draw(self, model: Synthesizer, rows: int = 0, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
        """As many frames and their codes as are held out, the upper rows of which are given."""
        grids, (height, width) = torch.from_numpy(self.grids), model.config.window
        known = torch.zeros(grids.shape, dtype=torch.bool)
        known[:, :rows] = True
        prior, condition = model.steered(None, len(grids), (height, width), MEMORY)
        how: dict[str, Any] = {
            "window": model.usable_window((height, width)),
            "lengths": model.conditioner.lengths,
            "settings": SamplingSettings(**settings),
            "token_order": model.config.token_order,
            "memory": MEMORY,
        }
        drawn = fill_grids(prior, condition, torch.where(known, grids, 0), known, **how).numpy()
        return decode_grids(self.tokenizer, drawn, silent), drawn


def drawn(
    _: Path,
    seed: int,
    *,
    measures: Measures,
    models: list[Synthesizer],
    settings: dict[str, Any],
    share: float,
) -> Numbers:
    """The numbers of one setting and prior; all settings share their noise."""
    rows = round(share * measures.grids.shape[1])
    pictures, grids = measures.draw(models[seed], rows, seed=seed * len(measures.seen), **settings)
    completed = measures.completed(pictures, grids, rows) if rows else {}
    return {**measures.numbers(pictures, grids), **completed}


def real(_: Path, __: int, *, measures: Measures, pictures: np.ndarray) -> Numbers:
    """Of frames that nobody drew: what draws could reach."""
    return measures.numbers(pictures, encode_frames(measures.tokenizer, pictures, silent))


def measures_of(work: Path, tokenizer: Tokenizer, *, quick: bool) -> tuple[Measures, RoomFrames]:
    """They, with a classifier that is trained unless it is there, and the frames."""
    frames = room_frames(64 if quick else 3000).without_seen()
    judge(work / "judge", frames, *(("training.steps=4",) if quick else ()))
    reader = vqgan.load(work / "judge", device="cpu")
    assert isinstance(reader, Classifier), "a classifier's run holds one"
    return Measures(frames, tokenizer, reader, 16 if quick else COUNT), frames


def main() -> None:
    """Draws, measures, prints the table and writes the numbers."""
    parser = arguments(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    given = parser.parse_args()
    given.seeds = len(given.runs)
    models = []
    for run in given.runs:
        model = vqgan.load(run, device="cpu")
        assert isinstance(model, Synthesizer), "a prior's run holds one"
        assert not models or torch.equal(model.tokenizer.weight, models[0].tokenizer.weight), "one tokenizer"
        models.append(model)
    measures, frames = measures_of(given.work, models[0].tokenizer, quick=given.quick)
    count = len(measures.seen)
    sets = {
        "reconstructions": measures.rebuilt,
        "other held-out frames": frames.heldout[count : 2 * count],
        "training frames": frames.train[count : 2 * count],
    }
    draw = partial(drawn, measures=measures, models=models)
    cells: dict[str, Callable[[Path, int], Numbers]] = {
        **{name: partial(draw, settings=settings, share=0) for name, settings in SETTINGS.items()},
        **{f"given {share:g}": partial(draw, settings=DEMO, share=share) for share in SHARES},
        **{name: partial(real, measures=measures, pictures=each) for name, each in sets.items()},
    }
    all_cells(given, cells)


if __name__ == "__main__":
    main()
