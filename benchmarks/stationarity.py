"""When does the available context suffice? Three ways to draw more than the training's crops, on real pictures.

One tokenizer (factor 8) learns from all materials. For each material two priors with the same layers and parameters
are trained for the same processor time on crops of 128x128 pixels (16x16 tokens): one with full attention, one with a
local span. They score pictures that are held out and draw 1024x1024 pixels, 8 times the side of a crop: full attention
through the exact window and through one that is anchored every 8 tokens, the local prior as it is; with coordinates
and without.

python benchmarks/stationarity.py [--quick] [--json PATH] [--materials hubble,grass] [--work FOLDER]
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vqgan
from timing import environment
from vqgan.data import SampleConfig, open_source
from vqgan.data.atari import AtariConfig
from vqgan.evaluation.texture import latent_features
from vqgan.evaluation.texture_numbers import texture_numbers
from vqgan.images import Pixels, save_png, to_float
from vqgan.prior import to_tokens
from vqgan.sampling.plan import plan_windows
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.types import DrawnTokens, Progress

FACTOR, WINDOW, STRIDE = 8, 16, 8
SIDE, LARGEST = WINDOW * FACTOR, 48
SPANS = {"full": "null", "local": "{rows: 8, columns: 6}"}
MEASURED_SEEDS, SECONDS = 3, 80.0
SHAPE = (
    "prior.depth=3",
    "prior.width=128",
    "prior.num_heads=4",
    "training.batch_size=8",
    "training.save_every=100000",
    "training.evaluate_every=100000",
    "training.pictures=0",
)


@dataclass(frozen=True)
class Material:
    """Pictures with values 0 to 255 (H W 3).

    Attributes:
        training: What priors and tokenizer see.
        heldout: What they do not.
        is_invariant: Whether it looks alike everywhere.
        flip: Whether it may be mirrored.
        codes: How often each picture is encoded, with shifts.
    """

    training: list[Pixels]
    heldout: list[Pixels]
    is_invariant: bool
    flip: bool = True
    codes: int = 16


def halves(*names: str, is_invariant: bool) -> Material:
    """The left half of each picture to train on; the right one is held out."""
    pictures = []
    for name in names:
        source = open_source(SampleConfig(names=(name,)))
        parts = [source.read(number).pixels for number in range(len(source))]
        pictures.append(np.concatenate([parts[0], np.concatenate(parts[1:])], axis=1))
    middles = [picture.shape[1] // 2 for picture in pictures]
    left = [picture[:, :middle] for picture, middle in zip(pictures, middles, strict=True)]
    right = [picture[:, middle:] for picture, middle in zip(pictures, middles, strict=True)]
    return Material(left, right, is_invariant)


def screens(count: int) -> Material:
    """Whole game screens; those held out are of another player."""
    whole = open_source(AtariConfig(games=("MontezumaRevenge",), scale=1, rows=(6, 198), max_frames=count))
    parts = whole.part("train"), whole.part("heldout")
    training, heldout = ([part.read(n).pixels for n in range(min(count, len(part)))] for part in parts)
    return Material(
        training, heldout[:: max(1, len(heldout) // 12)][:12], is_invariant=False, flip=False, codes=8
    )


MATERIALS = {
    "hubble": lambda: halves("hubble", is_invariant=True),
    "grass": lambda: halves("grass", is_invariant=True),
    "gravel": lambda: halves("gravel", is_invariant=True),
    "brick": lambda: halves("brick", is_invariant=True),
    "screens": lambda: screens(100),
    "photographs": lambda: halves("china", "flower", is_invariant=False),
}


def train_tokenizer(out: Path, steps: int) -> Path:
    """One for all materials, each shown equally often; an interrupted run continues."""
    training = [each().training for each in MATERIALS.values()]
    shown = [pictures[n % len(pictures)] for pictures in training for n in range(24)]
    heldout = [picture for each in MATERIALS.values() for picture in each().heldout[:2]]
    if out.exists():
        return vqgan.train(None, resume=out, data=shown, eval_data=heldout, device="cpu")
    changes = [f"training.steps={steps}", "task.discriminator=null", "data.resize=null"]
    changes += ["training.pictures=0", "training.save_every=200", "training.evaluate_every=200"]
    given = {"data": shown, "eval_data": heldout}
    return vqgan.train("deepfield-tokenizer", **given, out=out, overrides=changes, device="cpu")


class Clock:
    """Processor seconds of each step of a training."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, progress: Progress) -> None:
        """Notes when a step ended."""
        if progress.phase == "prior":
            self.times.append(time.process_time())

    @property
    def step(self) -> float:
        """The median of a step; the first ones are left out."""
        return statistics.median(np.diff(self.times)[2:])


def train_prior(
    material: Material,
    tokenizer: Path,
    out: Path,
    kind: str,
    *,
    coordinates: bool,
    steps: int,
    seed: int,
    side: int = WINDOW * FACTOR,
) -> tuple[Synthesizer, Clock]:
    """A prior of one kind; codes of whole pictures are encoded once, the step has none."""
    clock, changes = Clock(), [*SHAPE, f"training.steps={steps}", f"prior.span={SPANS[kind]}"]
    changes += [
        f"data.image_size=[{side}, {side}]",
        f"data.flip={str(material.flip).lower()}",
        f"data.cached_codes={material.codes}",
    ]
    if coordinates:
        changes.append(f"conditioner={{kind: coordinates, num_values: 256, downsample_factor: {FACTOR}}}")
    run = vqgan.train(
        "deepfield-prior",
        data=material.training,
        eval_data=material.heldout,
        out=out,
        tokenizer=tokenizer,
        overrides=changes,
        device="cpu",
        seed=seed,
        on_progress=clock,
    )
    model = vqgan.load(run, device="cpu")
    assert isinstance(model, Synthesizer)
    return model, clock


Grids = Sequence[Tensor]


@torch.no_grad()
def whole_codes(tokenizer: Tokenizer, pictures: Sequence[Pixels]) -> Grids:
    """The codes of whole pictures (h w)."""
    grids = []
    for picture in pictures:
        image = to_float(np.ascontiguousarray(picture))
        rows, columns = (side // FACTOR * FACTOR for side in image.shape[1:])
        grids.append(tokenizer.encode(image[None, :, :rows, :columns])[0])
    return grids


@torch.no_grad()
def scores(model: Synthesizer, grid: Tensor, stride: int | None) -> Tensor:
    """Nats of each token of a large grid, given what is drawn before it: by windows, or by the span (stride None)."""
    rows, columns = grid.shape
    condition = model.conditioner.tokens(None, 1, (rows, columns))
    if stride is None:
        return -model.prior.log_probability(to_tokens(grid[None], "raster"), condition, (rows, columns)).view(
            rows, columns
        )
    is_spatial, nats = model.conditioner.is_spatial, torch.zeros(rows, columns)
    plan = plan_windows(np.zeros((rows, columns), bool), (WINDOW, WINDOW), condition=1, stride=stride)
    cells = defaultdict(list)
    for step in plan.steps:
        for reading in step:
            cells[reading.window].append((reading.row, reading.column))
    windows = list(cells)
    for start in range(0, len(windows), 64):
        part = windows[start : start + 64]
        cut = [(slice(top, top + WINDOW), slice(left, left + WINDOW)) for top, left in part]
        tokens = torch.stack([grid[each].flatten() for each in cut])
        own = condition.expand(len(part), -1)
        if is_spatial:
            own = torch.stack([condition.view(rows, columns)[each].flatten() for each in cut])
        found = -model.prior.log_probability(tokens, own, (WINDOW, WINDOW)).view(-1, WINDOW, WINDOW)
        for (top, left), window in zip(part, found, strict=True):
            for row, column in cells[top, left]:
                nats[row, column] = window[row - top, column - left]
    return nats


def likelihood(full: Synthesizer, local: Synthesizer, grids: Grids) -> dict[str, float]:
    """Mean nats a token: at the training's size (crops), and on whole pictures by position."""
    crops = [
        grid[top : top + WINDOW, left : left + WINDOW]
        for grid in grids
        for top in range(0, grid.shape[0] - WINDOW + 1, WINDOW)
        for left in range(0, grid.shape[1] - WINDOW + 1, WINDOW)
    ]
    numbers: dict[str, float] = {"crops": len(crops)}
    for name, model in (("full", full), ("local", local)):
        if not model.conditioner.is_spatial:  # with coordinates a crop is not a picture of its own
            stride = None if name == "local" else 1
            numbers[f"{name}_crops"] = float(
                torch.stack([scores(model, each, stride) for each in crops]).mean()
            )
    ways = {"exact": (full, 1), "strided": (full, STRIDE), "local": (local, None)}
    for name, (model, stride) in ways.items():
        found = [scores(model, grid, stride) for grid in grids]
        for place, chosen in PLACES.items():
            numbers[f"{name}_{place}"] = float(torch.cat([chosen(each).flatten() for each in found]).mean())
    return numbers


PLACES = {
    "corner": lambda nats: nats[:WINDOW, :WINDOW],
    "right": lambda nats: nats[:WINDOW, WINDOW:],
    "below": lambda nats: nats[WINDOW:, :WINDOW],
    "beyond": lambda nats: nats[WINDOW:, WINDOW:],
    "all": lambda nats: nats,
}
"""Parts of a large grid, by the upper left corner of the training's size."""


def draw(model: Synthesizer, side: int, stride: int = 1) -> tuple[Tensor, float]:
    """A picture, and processor seconds for each of its tokens without decoding."""
    ended, begun = 0.0, time.process_time()

    def on_progress(progress: Progress) -> None:
        nonlocal ended
        if isinstance(progress, DrawnTokens):
            ended = time.process_time()

    picture = model.sample(1, side, seed=7, window_stride=stride, on_progress=on_progress)[0]
    return picture, (ended - begun) * model.tokenizer.downsample_factor**2 / side**2


class Study:
    """One material: its pictures and what is measured on it.

    Args:
        name: Of the material.
        tokenizer: The run of the tokenizer of all materials.
        work: Where runs and pictures go.
        arguments: Of the command line.
        rows: Where results are added.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Path,
        work: Path,
        arguments: argparse.Namespace,
        rows: list[dict[str, Any]],
    ) -> None:
        self.name, self.tokenizer, self.work, self.arguments, self.rows = (
            name,
            tokenizer,
            work,
            arguments,
            rows,
        )
        self.material, judge = MATERIALS[name](), vqgan.load(tokenizer, device="cpu")
        assert isinstance(judge, Tokenizer)
        self.judge, parts = judge, (self.material.heldout, self.material.training)
        grids = whole_codes(judge, self.material.heldout)
        self.grids = [grid[:LARGEST, :LARGEST] for grid in grids][: 1 if arguments.quick else None]
        self.real, self.training = ([to_float(np.ascontiguousarray(each)) for each in part] for part in parts)

    def add(self, **values: Any) -> None:
        """Notes a result, and shows it."""
        self.rows.append({"material": self.name, "is_invariant": self.material.is_invariant, **values})
        print(json.dumps(self.rows[-1]), flush=True)

    def compared(self, picture: Tensor, rings: int | None = None) -> dict[str, float]:
        """The row of numbers of a picture beside the held-out ones."""
        features, picture = latent_features(self.judge), picture.clamp(-1, 1)
        given = (picture, self.real, self.training, features)
        rings = rings or (2 if self.arguments.quick else 3)
        return dict(texture_numbers(*given, period=STRIDE * FACTOR, step=FACTOR, rings=rings))

    def measure_real(self) -> None:
        """What real pictures give, and what the tokenizer makes of them."""
        self.add(way="real, trained on", **self.compared(self.training[0], rings=1))
        codes = whole_codes(self.judge, self.material.training[:1])[0]
        self.add(way="reconstruction", **self.compared(self.judge.decode(codes[None])[0], rings=1))

    def trained(
        self, kind: str, name: str, *, coordinates: bool, steps: int, seed: int = 0
    ) -> tuple[Synthesizer, Clock]:
        """A prior of this material."""
        out = self.work / f"{self.name}-{kind}{'-coordinates' * coordinates}-{name}"
        given = (self.material, self.tokenizer, out, kind)
        return train_prior(*given, coordinates=coordinates, steps=steps, seed=seed)

    def measure(self, *, coordinates: bool) -> None:
        """Trains both priors for the same time with each seed; scores held-out pictures, and draws with the first."""
        quick, least = self.arguments.quick, 4 if self.arguments.quick else 12
        seeds = 1 if quick or coordinates or not self.material.is_invariant else MEASURED_SEEDS
        steps = {}
        for kind in SPANS:
            _, clock = self.trained(kind, "clock", coordinates=coordinates, steps=least)
            steps[kind] = least if quick else max(least, round(self.arguments.seconds / clock.step))
        for seed in range(seeds):
            models, spent = {}, {f"{kind}_steps": float(steps[kind]) for kind in SPANS}
            for kind in SPANS:
                models[kind], clock = self.trained(
                    kind, str(seed), coordinates=coordinates, steps=steps[kind], seed=seed
                )
                spent[f"{kind}_processor_seconds"] = steps[kind] * clock.step
            found = likelihood(models["full"], models["local"], self.grids)
            self.add(seed=seed, coordinates=coordinates, **spent, **found)
            if seed == 0:
                self.draw_all(models, coordinates=coordinates)

    def draw_all(self, models: dict[str, Synthesizer], *, coordinates: bool) -> None:
        """A large picture in each way."""
        side = 256 if self.arguments.quick else 1024
        for way, (kind, stride) in WAYS.items():
            picture, seconds = draw(models[kind], side, stride)
            file = f"{self.name}-{way}{'-coordinates' * coordinates}.png"
            save_png(picture.clamp(-1, 1), self.work / file, {})
            self.add(way=way, coordinates=coordinates, seconds_per_token=seconds, **self.compared(picture))
        if self.name == "hubble" and not coordinates:
            self.draw_pixels(models["local"])

    def draw_pixels(self, codes: Synthesizer) -> None:
        """The same prior over pixels (512 colours, factor 1), trained as long; both draw 512x512 pixels."""
        quick, least = self.arguments.quick, 4 if self.arguments.quick else 12
        changes = ["data.resize=null", "training.pictures=0", *(["training.steps=3"] if quick else [])]
        material, colours = replace(self.material, codes=2), self.work / "colours"
        given = {"data": material.training, "eval_data": material.heldout}
        vqgan.train("pixels-tokenizer", **given, out=colours, overrides=changes, device="cpu")
        steps = least
        for name in ("pixels-clock", "pixels"):
            model, clock = train_prior(
                material,
                colours,
                self.work / name,
                "local",
                coordinates=False,
                steps=steps,
                seed=0,
                side=WINDOW,
            )
            steps = least if quick else max(least, round(self.arguments.seconds / clock.step))
        for name, each in (("pixels", model), ("codes", codes)):
            picture, seconds = draw(each, 128 if quick else 512)
            save_png(picture.clamp(-1, 1), self.work / f"hubble-{name}-512.png", {})
            megapixel = seconds * 1e6 / each.tokenizer.downsample_factor**2
            self.add(way=f"512x512 by {name}", seconds_per_megapixel=megapixel, **self.compared(picture, 1))


WAYS = {"exact": ("full", 1), "strided": ("full", STRIDE), "local": ("local", 1)}
"""Which prior draws, and every how many tokens its window moves."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the script runs")
    parser.add_argument("--json", type=Path, help="write rows and environment to this file")
    parser.add_argument("--materials", default=",".join(MATERIALS), help="some of them, with commas between")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="processor time of each prior's training"
    )
    parser.add_argument("--work", type=Path, help="keep runs and pictures in this folder")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        tokenizer = train_tokenizer(work / "tokenizer", 3 if arguments.quick else 600)
        rows: list[dict[str, Any]] = []
        names = [name for name in arguments.materials.split(",") if name]
        studies = [Study(each, tokenizer, work, arguments, rows) for each in names]
        for study in studies:
            study.measure_real()
        for coordinates in (False, True):
            for study in studies:
                study.measure(coordinates=coordinates)
                if arguments.json is not None:  # what is known so far: it takes hours
                    record = {"quick": arguments.quick, "environment": environment(), "rows": rows}
                    arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
