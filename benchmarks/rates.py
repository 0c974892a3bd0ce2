"""What do downsampling factors of 4, 8, 16 and 32 lose, and what do JPEG and WebP make of as many bytes?

Tokenizers of four factors with equal steps, layers of equal width (one level more for each doubling) and 1,024 codes,
trained by pixels alone: on frames of a game, and on crops of photographs out of installed packages. Measured on
held-out frames (a walk of another seed, in rooms that training saw): PSNR; that of the pixels that move (they differ
from the median of the room's training frames); and what becomes of things, which are connected moving pixels, at least
six. A thing is *visible* if at least half of its pixels differ from the empty room in the reconstruction as well. It is
*right* if what is shown in its place (a square of 20 pixels, less the empty room) is nearest to the same one of 24
kinds, k-means of the training frames' things, as the thing itself. On three held-out photographs: PSNR, SSIM, MS-SSIM
and the distance in features of EfficientNet-Lite0, beside JPEG and WebP of about as many bytes. A JPEG is counted from
the start of its scan, without tables and headers, and a WebP without the 20 bytes around its stream, which favours
both. Where the lowest quality is still too large, and where it helps, the picture is made smaller before.

python benchmarks/rates.py --work FOLDER [--quick] [--json PATH] [--picture PATH] [--seeds N] [--only NAME]

What is in FOLDER is not trained again. It needs the extras `demo`, `eval` and `features`, and scipy.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from scipy.cluster.vq import kmeans2, vq
from skimage import color

import vqgan
from cells import QUIET, Numbers, arguments, kept, measured, room_frames, silent, table, write
from vqgan.checkpoints.imagenet import load_efficientnet_lite
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.demo.measures import RoomFrames, decode_grids, encode_frames, median_frame, moving_pixels
from vqgan.evaluation.fidelity import fidelity
from vqgan.evaluation.psnr import pixels_psnr
from vqgan.evaluation.tokens import codebook_numbers
from vqgan.images import grid, read_pixels, save_png, to_float
from vqgan.nn.efficientnet_lite import EfficientNetLite
from vqgan.tokenizer import Tokenizer

FACTORS, CODES, MEASURED = (4, 8, 16, 32), 1024, 512
STEPS = {"frames": 400, "photographs": 2000}
COLUMNS = slice(8, 72)
"""The middle of the frames' 80 columns, which a factor of 32 divides."""

SKIMAGE, SKLEARN = "skimage/data", "sklearn/datasets/images"
LEARNED = {
    "china.jpg": SKLEARN,
    "flower.jpg": SKLEARN,
    "hubble_deep_field.jpg": SKIMAGE,
    "motorcycle_left.png": SKIMAGE,
    "rocket.jpg": SKIMAGE,
}
HELD_OUT = "astronaut.png", "chelsea.png", "coffee.png"
"""Files of scikit-learn and scikit-image; those held out are stored without loss."""

TILE, CROP = 128, 96
"""Pixels of a side of what photographs are cut into, and of the crops of these that training sees."""

SIDE, SMALLEST, KINDS, NOTICED = 20, 6, 24, 2.3

Pictures = np.ndarray
Format = Literal["JPEG", "WEBP"]


def photograph(name: str, folder: str = SKIMAGE) -> Pictures:
    """A picture (H, W, 3) of an installed package, cut to multiples of the largest factor."""
    module, inside = folder.split("/", 1)
    spec = find_spec(module)
    assert spec is not None, "an extra brings it"
    assert spec.origin is not None, "it has a folder"
    pixels = read_pixels(Path(spec.origin).parent / inside / name, 3)
    height, width = (side // FACTORS[-1] * FACTORS[-1] for side in pixels.shape[:2])
    return pixels[:height, :width]


def tiles() -> Pictures:
    """What training sees of photographs, cut out of each side by side."""
    found = []
    for picture in (photograph(name, folder) for name, folder in LEARNED.items()):
        for row in range(0, picture.shape[0] - TILE + 1, TILE):
            columns = range(0, picture.shape[1] - TILE + 1, TILE)
            found += [picture[row : row + TILE, column : column + TILE] for column in columns]
    return np.stack(found)


def game() -> RoomFrames:
    """Frames whose sides all factors divide; held-out ones only of rooms that training saw."""
    frames = room_frames(100_000).without_seen()
    known = np.isin(frames.heldout_rooms, frames.train_rooms)
    frames = replace(frames, heldout=frames.heldout[known], heldout_rooms=frames.heldout_rooms[known])
    return replace(frames, train=frames.train[:, :, COLUMNS], heldout=frames.heldout[:, :, COLUMNS])


def train(
    folder: Path,
    seed: int,
    *,
    factor: int,
    data: Pictures,
    steps: int,
    size: tuple[int, int],
    changes: Sequence[str] = (),
) -> Tokenizer:
    """A tokenizer of one factor, trained; ``changes`` are of the demo's preset."""
    levels = [1] * round(math.log2(factor) - 1)
    overrides = [
        f"tokenizer.autoencoder={{channel_multipliers: {levels}, middle_attention: false}}",
        f"training={{steps: {steps}, batch_size: {round(4 * 96 * 64 / math.prod(size))}, evaluate_every: 100000}}",
        "task.discriminator=null",
        "task.reseed_after=50",
        f"data={{image_size: {list(size)}, crop: random, resize: null}}",
        *QUIET,
        *changes,
    ]
    given: dict[str, Any] = {"data": data, "eval_data": data[:16], "seed": seed, "device": "cpu"}
    vqgan.train("demo-tokenizer", out=folder, overrides=overrides, **given)
    return opened(folder)


def opened(run: Path) -> Tokenizer:
    """The tokenizer of a run."""
    tokenizer = vqgan.load(run, device="cpu")
    assert isinstance(tokenizer, Tokenizer), "a tokenizer's run holds one"
    return tokenizer


def tokenizer_of(folder: Path, seed: int, **settings: Any) -> Tokenizer:
    """The tokenizer that was trained for this cell, or is trained now."""
    for run in folder.parent.glob("*"):
        if RunFolder(run).numbers()[-1:] == [settings["steps"]]:  # it was not stopped
            return opened(run)
    return train(folder, seed, **settings)


def visible(picture: Pictures, other: Pictures) -> float:
    """The share of pixels whose colour differs by more than 2.3 in CIELAB, a just noticeable difference."""
    return float((color.deltaE_cie76(*(color.rgb2lab(each) for each in (picture, other))) > NOTICED).mean())


class Thing(NamedTuple):
    """What moves in a frame.

    Attributes:
        frame: Its number.
        where: Its pixels (H, W).
        square: The pixels around its middle, less the empty room.
    """

    frame: int
    where: np.ndarray
    square: np.ndarray


def square(frame: Pictures, room: Pictures, where: np.ndarray) -> np.ndarray:
    """What a frame shows around the middle of these pixels, less the empty room."""
    row, column = (round(each) for each in ndimage.center_of_mass(where))
    padded = np.pad(frame.astype(np.float32) - room, ((SIDE // 2,) * 2, (SIDE // 2,) * 2, (0, 0)))
    return padded[row : row + SIDE, column : column + SIDE].ravel()


def things(frames: Pictures, rooms: Pictures) -> Iterator[Thing]:
    """Connected moving pixels, at least six."""
    for number, moving in enumerate(moving_pixels(frames, rooms)):
        numbered, count = ndimage.label(moving, structure=np.ones((3, 3)))
        for each in range(1, count + 1):
            where = numbered == each
            if where.sum() >= SMALLEST:
                yield Thing(number, where, square(frames[number], rooms[number], where))


class Game:
    """Held-out frames and the things in them.

    Args:
        frames: Of :func:`game`.
        count: How many are measured.
    """

    def __init__(self, frames: RoomFrames, count: int) -> None:
        self.train = frames.train
        chosen = np.random.default_rng(0).permutation(len(frames.heldout))[:count]
        self.frames = frames.heldout[chosen]
        self.rooms = frames.baseline(median_frame, frames.heldout)[chosen]
        self.moving = moving_pixels(self.frames, self.rooms)
        self.things = [*things(self.frames, self.rooms)]
        seen = np.random.default_rng(1).permutation(len(frames.train))[:count]
        own = replace(frames, heldout=frames.train, heldout_rooms=frames.train_rooms)
        empty = own.baseline(median_frame, frames.train)[seen]
        known = np.stack([each.square for each in things(frames.train[seen], empty)])
        self.kinds = kmeans2(known, min(KINDS, len(known)), seed=0, minit="++")[0]

    def numbers(self, rebuilt: Pictures) -> Numbers:
        """What is left of the frames and of the things."""
        shown = moving_pixels(rebuilt, self.rooms)
        seen = [shown[each.frame][each.where].mean() >= 0.5 for each in self.things]
        places = [square(rebuilt[each.frame], self.rooms[each.frame], each.where) for each in self.things]
        kinds, found = (
            vq(np.stack(each), self.kinds)[0] for each in ([each.square for each in self.things], places)
        )
        return {
            "psnr": pixels_psnr(self.frames, rebuilt),
            "moving": pixels_psnr(self.frames[self.moving], rebuilt[self.moving]),
            "visible": float(np.mean(seen)),
            "right": float((kinds == found).mean()),
        }

    def cell(self, folder: Path, seed: int, **settings: Any) -> Numbers:
        """One tokenizer; ``settings`` are of :func:`train`."""
        tokenizer = tokenizer_of(folder, seed, data=self.train, size=(96, 64), **settings)
        grids = encode_frames(tokenizer, self.frames, silent)
        codes = codebook_numbers(grids, tokenizer.codebook_size)
        pixels = self.frames[0, ..., 0].size
        return {
            "bits a pixel": codes["bits_per_image"].value / pixels,
            "by frequencies": codes["entropy_bits_per_image"].value / pixels,
            "usage": codes["usage"].value,
            **self.numbers(decode_grids(tokenizer, grids, silent)),
        }


def encoded(
    picture: Pictures, form: Format, quality: int, shrunk: int = 1, **more: int
) -> tuple[int, Pictures]:
    """How many bytes count, and what is read again; made smaller before by a whole number, and larger again after."""
    image, file = Image.fromarray(picture), io.BytesIO()
    settings = {"optimize": True, **more} if form == "JPEG" else {"method": 6}
    image.reduce(shrunk).save(file, form, quality=quality, **settings)
    data = file.getvalue()
    size = len(data) - data.index(b"\xff\xda") if form == "JPEG" else len(data) - 20
    again = Image.open(file).convert("RGB")
    return size, np.array(again if shrunk == 1 else again.resize(image.size, Image.Resampling.BICUBIC))


def nearest(
    picture: Pictures, form: Format, size: float, shrunk: int = 1, **more: int
) -> tuple[int, Pictures]:
    """The quality whose number of bytes is nearest, by halving."""
    low, high = 1, 100
    while high - low > 1:
        middle = (low + high) // 2
        bytes_of_it = encoded(picture, form, middle, shrunk, **more)[0]
        low, high = (middle, high) if bytes_of_it < size else (low, middle)
    both = (encoded(picture, form, each, shrunk, **more) for each in (low, high))
    return min(both, key=lambda found: abs(found[0] - size))


def best(picture: Pictures, form: Format, size: float) -> tuple[int, Pictures]:
    """Of all sizes of the picture whose bytes fit, within a tenth, that with the least error."""
    found = [nearest(picture, form, size, shrunk) for shrunk in (1, 2, 4, 8, 16)]
    fitting = [each for each in found if each[0] <= 1.1 * size] or found[-1:]
    return max(fitting, key=lambda each: pixels_psnr(picture, each[1]))


class Photographs:
    """The held-out photographs, and what training sees.

    Args:
        network: What compares features.
    """

    def __init__(self, network: EfficientNetLite) -> None:
        self.train, self.network = tiles(), network
        self.pictures = [photograph(name) for name in HELD_OUT]

    def numbers(self, shown: list[tuple[float, Pictures]]) -> Numbers:
        """The mean over the photographs, of each the bytes and what became of it."""
        rows = []
        for picture, (size, other) in zip(self.pictures, shown, strict=True):
            values = {name: each.value for name, each in fidelity(picture[None], other[None]).items()}
            with torch.no_grad():
                apart = self.network.distance(to_float(picture[None]), to_float(other[None]))
            bits = 8 * size / picture[..., 0].size
            rows.append(
                {"bits a pixel": bits, **values, "features": float(apart), "seen": visible(picture, other)}
            )
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def cell(self, folder: Path, seed: int, *, factor: int, steps: int) -> Numbers:
        """One tokenizer."""
        tokenizer = tokenizer_of(folder, seed, factor=factor, data=self.train, steps=steps, size=(CROP, CROP))
        grids = [encode_frames(tokenizer, picture[None], silent) for picture in self.pictures]
        shown = [
            (
                codebook_numbers(codes, CODES)["bits_per_image"].value / 8,
                decode_grids(tokenizer, codes, silent)[0],
            )
            for codes in grids
        ]
        together = np.concatenate([codes.ravel() for codes in grids])[None, None]
        frequencies = codebook_numbers(together, CODES)["entropy_bits_per_image"].value
        whole = sum(picture[..., 0].size for picture in self.pictures)
        return {**self.numbers(shown), "by frequencies": frequencies / whole}

    def codec(self, _: Path, __: int, *, find: Callable[[Pictures], tuple[int, Pictures]]) -> Numbers:
        """One format."""
        return self.numbers([find(picture) for picture in self.pictures])


FINDERS: dict[str, Callable[[Pictures], tuple[int, Pictures]]] = {
    **{
        f"{name} f{factor}": partial(
            lambda picture, find, form, factor: find(
                picture, form, 10 / 8 * picture[..., 0].size / factor**2
            ),
            find=find,
            form=form,
            factor=factor,
        )
        for factor in FACTORS
        for name, find, form in (
            ("JPEG", nearest, "JPEG"),
            ("JPEG smaller", best, "JPEG"),
            ("WebP", best, "WEBP"),
        )
    },
    **{
        f"JPEG, {share} %{colours}": partial(
            lambda picture, share, **more: nearest(picture, "JPEG", share / 100 * picture.size, **more),
            share=share,
            **more,
        )
        for share in (20, 10, 5)
        for colours, more in (("", {}), (" whole colours", {"subsampling": 0}))
    },
}
"""By name; a share is that of the pixels' bytes."""


def show(path: Path, work: Path, photographs: Photographs) -> None:
    """Draws a part of a photograph; right of it, by factor, what tokenizers, JPEG and WebP leave of it."""
    part, picture = (slice(60, 188), slice(120, 248)), photographs.pictures[1]
    rows = []
    for name, find in (("photographs", None), ("JPEG smaller", FINDERS), ("WebP", FINDERS)):
        rows.append(picture[part])
        for factor in FACTORS:
            if find is not None:
                rows.append(find[f"{name} f{factor}"](picture)[1][part])
                continue
            run = sorted(work.glob(f"{name}_f{factor}-0/*/tokenizer.safetensors"))[-1]
            tokenizer = vqgan.load(run, device="cpu")
            assert isinstance(tokenizer, Tokenizer), "a tokenizer's run holds one"
            rows.append(
                decode_grids(tokenizer, encode_frames(tokenizer, picture[None], silent), silent)[0][part]
            )
    info = {"rows": "tokenizers, JPEG, WebP", "columns": f"the photograph, {', '.join(map(str, FACTORS))}"}
    save_png(grid(to_float(np.stack(rows)), columns=1 + len(FACTORS)), path, info)


def main() -> None:
    """Trains, measures, prints two tables, and writes the numbers and a picture."""
    parser = arguments(__doc__)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    found: dict[str, dict[str, list[Numbers]]] = {}
    groups = [group for group in ("frames", "photographs") if group.startswith(given.only)]
    photographs = Photographs(load_efficientnet_lite())
    for group in groups:
        steps = 4 if given.quick else STEPS[group]
        part = Game(game(), 64 if given.quick else MEASURED) if group == "frames" else photographs
        cells = {f"{group} f{factor}": partial(part.cell, factor=factor, steps=steps) for factor in FACTORS}
        rows: dict[str, list[Numbers]] = {name: [] for name in cells}
        for seed in range(1 if given.quick else given.seeds):
            for name, cell in cells.items():
                rows[name].append(measured(given.work, name, seed, cell))
        if isinstance(part, Game):
            rows["the empty rooms"] = [part.numbers(part.rooms)]
        else:
            for name, find in FINDERS.items():
                rows[name] = [measured(given.work, name, 0, partial(part.codec, find=find))]
        found[group] = rows
        print(table(rows), flush=True)
    write(given, kept(given) | found)
    if given.picture is not None:
        show(given.picture, given.work, photographs)


if __name__ == "__main__":
    main()
