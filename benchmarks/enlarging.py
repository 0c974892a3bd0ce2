"""Pictures larger than the training size: two published rules for crops, the window, and a local span, measured.

All use one tokenizer, and priors of equal size and equally many steps; they differ in what a token sees.

- *Crop after crop.* Part of a crop is given by its neighbours, the prior completes it. PanoLlama (Zhou et al. 2024,
  "Generating Endless and Coherent Panoramas with Next-Token-Prediction LLMs"; github.com/0606zt/PanoLlama, 5306f68)
  gives 8 of 32 columns, or 16 of 32 rows. In both directions its code gives a crop only what is to its left, unless it
  is the first of its row; that is measured by itself. (Downwards it also goes on with keys and values of rows that are
  not those above. Here what is given is read.) With half of a crop given from both sides, the rule is ``window_stride``
  of half a window.
- *Blending.* ELM (Liu et al. 2025, "Elucidating the Design Space of Language Models for Image Generation";
  github.com/Pepper-lll/LMforImageGeneration, c2f29f0) also completes crops, of which half is given. It decodes each by
  itself and fades one into the next over all pixels that they share. It goes in one direction; here in both. Blending
  crops that were drawn independently is measured beside it.
- *Ours.* The exact sliding window, windows shared by blocks of tokens, and the wavefront of a prior of local span.

Trains what is not given, about half an hour on two cores; drawing and measuring takes about as long.

    python benchmarks/enlarging.py [--tokenizer RUN] [--prior RUN] [--full-prior RUN] [--seeds N] [--pictures FOLDER]
        [--quick] [--json PATH]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

import vqgan
from timing import environment
from vqgan.data import SampleConfig, open_source
from vqgan.evaluation.texture import cut_patches, latent_features, patch_frechet, seam_ratio
from vqgan.evaluation.texture_numbers import texture_numbers
from vqgan.images import save_png, to_float
from vqgan.sampling import SamplingSettings, fill_grids
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer, decode_within

PATCH = 32
"""Pixels of a patch's side: narrower than any crop's new part, so that those midway reach no border."""

MOST = 120
"""Patches on each side of a Frechet distance at the borders and midway: as many as all pictures have."""

MEMORY = 2**31


@dataclass(frozen=True)
class Way:
    """A way to draw large pictures.

    Attributes:
        name: For the table.
        prior: ``full`` or ``local``.
        first: Pixels before the first line between crops: where new tokens begin, or the middle of what is blended.
        period: Pixels from line to line.
        draw: Tokens from a seed, in whatever form ``decode`` takes.
        decode: The picture (c H W) in [-1, 1].
    """

    name: str
    prior: str
    first: int
    period: int
    draw: Callable[[int], Tensor]
    decode: Callable[[Tensor], Tensor]


def fill(model: Synthesizer, indices: Tensor, known: Tensor, seed: int, stride: int = 1) -> Tensor:
    """Completes grids (b h w) of any size; image ``i`` takes the noise of ``seed + i``."""
    grid = (indices.shape[1], indices.shape[2])
    return fill_grids(
        model.prior,
        model.conditioner.tokens(None, len(indices), grid),
        indices,
        known,
        window=model.usable_window(grid),
        lengths=model.conditioner.lengths,
        settings=SamplingSettings(seed=seed, window_stride=stride),
        memory=MEMORY,
    )


def draw_whole(model: Synthesizer, cells: int, stride: int, seed: int) -> Tensor:
    """The tokens of one picture (1 h w)."""
    indices = torch.zeros(1, cells, cells, dtype=torch.int64)
    return fill(model, indices, indices.bool(), seed, stride)


def draw_crops(model: Synthesizer, count: int, overlap: int, seed: int, *, above: bool = True) -> Tensor:
    """Crop after crop: ``count`` x ``count`` crops of the prior's own size (r c s s).

    Those of a diagonal do not depend on each other and are drawn together.

    Args:
        model: Its window is the size of a crop.
        count: Crops in each direction.
        overlap: Columns given by the crop to the left, rows given by the one above.
        seed: Each crop takes noise of its own.
        above: False gives rows only to the first crop of each row.
    """
    side, number = model.config.window[0], seed * count**2
    crops = torch.zeros(count, count, side, side, dtype=torch.int64)
    for diagonal in range(2 * count - 1):
        rows = range(max(0, diagonal - count + 1), min(count, diagonal + 1))
        known = torch.zeros(len(rows), side, side, dtype=torch.bool)
        given = torch.zeros(len(rows), side, side, dtype=torch.int64)
        for row, crop, is_given in zip(rows, given, known, strict=True):
            column = diagonal - row
            if row and (above or not column):
                crop[:overlap], is_given[:overlap] = crops[row - 1, column, -overlap:], True
            if column:
                crop[:, :overlap], is_given[:, :overlap] = crops[row, column - 1, :, -overlap:], True
        drawn = fill(model, given, known, number)
        for row, crop in zip(rows, drawn, strict=True):
            crops[row, diagonal - row] = crop
        number += len(rows)
    return crops


def draw_independent(model: Synthesizer, count: int, seed: int) -> Tensor:
    """Crops that know nothing of each other (r c s s)."""
    indices = torch.zeros(count**2, *model.config.window, dtype=torch.int64)
    crops = fill(model, indices, indices.bool(), seed * count**2)
    return crops.unflatten(0, (count, count))


def join(crops: Tensor, overlap: int) -> Tensor:
    """One grid (1 h w) of crops (r c s s): of each what its neighbours before it do not have."""
    count, side = crops.shape[0], crops.shape[-1]
    stride = side - overlap
    grid = torch.zeros(1, *[side + (count - 1) * stride] * 2, dtype=crops.dtype)
    for row, column in product(range(count), repeat=2):
        top, left = (overlap if number else 0 for number in (row, column))
        rows, columns = (
            slice(number * stride + start, number * stride + side)
            for number, start in ((row, top), (column, left))
        )
        grid[0, rows, columns] = crops[row, column, top:, left:]
    return grid


def decode(tokenizer: Tokenizer, indices: Tensor) -> Tensor:
    """The picture of one grid."""
    return decode_within(tokenizer, indices, MEMORY)[0].clamp(-1, 1)


def decode_joined(tokenizer: Tokenizer, overlap: int, crops: Tensor) -> Tensor:
    """The picture of the crops' tokens as one grid."""
    return decode(tokenizer, join(crops, overlap))


def decode_blended(tokenizer: Tokenizer, overlap: int, crops: Tensor) -> Tensor:
    """Crops decoded one by one, faded into each other over what they share."""
    images = decode_within(tokenizer, crops.flatten(0, 1), MEMORY).clamp(-1, 1)
    return blend(images.unflatten(0, crops.shape[:2]), overlap * tokenizer.downsample_factor)


def blend(images: Tensor, overlap: int) -> Tensor:
    """One picture (c H W) of images (r c k S S) with linear weights, over at most half a side of pixels."""
    count, side = images.shape[0], images.shape[-1]
    stride = side - overlap
    weights = torch.ones(count, side)
    weights[1:, :overlap] *= torch.linspace(0, 1, overlap)
    weights[:-1, -overlap:] *= torch.linspace(1, 0, overlap)
    picture = torch.zeros(images.shape[2], *[side + (count - 1) * stride] * 2)
    for row, column in product(range(count), repeat=2):
        top, left = row * stride, column * stride
        weight = weights[row][:, None] * weights[column]
        picture[:, top : top + side, left : left + side] += images[row, column] * weight
    return picture


def ways(local: Synthesizer, full: Synthesizer, cells: int) -> Iterator[Way]:
    """All ways to draw ``cells`` x ``cells`` tokens; crops of both strides must fit."""
    side, factor, tokenizer = full.config.window[0], full.tokenizer.downsample_factor, full.tokenizer
    quarter, half = side // 4, side // 2
    few, many = ((cells - side) // (side - overlap) + 1 for overlap in (quarter, half))
    assert all(
        side + (count - 1) * (side - overlap) == cells for count, overlap in ((few, quarter), (many, half))
    )
    wide, narrow = (side - quarter) * factor, (side - half) * factor
    for prior, model in (("full", full), ("local", local)):
        crops = partial(draw_crops, model, few, quarter)
        joined = partial(decode_joined, tokenizer, quarter)
        yield Way("crop after crop, a quarter given", prior, side * factor, wide, crops, joined)
        leftward = partial(crops, above=False)
        yield Way("the same, only from the left", prior, side * factor, wide, leftward, joined)
        crops = partial(draw_crops, model, many, half)
        joined, faded = (partial(each, tokenizer, half) for each in (decode_joined, decode_blended))
        yield Way("crop after crop, half given", prior, side * factor, narrow, crops, joined)
        yield Way("the same tokens, blended", prior, narrow + half * factor // 2, narrow, crops, faded)
        yield Way(
            "independent crops, a quarter blended",
            prior,
            wide + quarter * factor // 2,
            wide,
            partial(draw_independent, model, few),
            partial(decode_blended, tokenizer, quarter),
        )
    whole = partial(decode, tokenizer)
    for stride in (half, quarter):
        lines = (side * factor, stride * factor)
        yield Way(f"window, stride {stride}", "full", *lines, partial(draw_whole, full, cells, stride), whole)
    yield Way("window, exact", "full", narrow, narrow, partial(draw_whole, full, cells, 1), whole)
    yield Way("wavefront", "local", narrow, narrow, partial(draw_whole, local, cells, 1), whole)


def cut_by_border(picture: Tensor, first: int, period: int) -> tuple[Tensor, Tensor]:
    """Patches on the lines between crops, and midway between them.

    Those on lines are centred on one line, and midway between two of the other direction.
    """
    lines, middles = [], []
    for side in picture.shape[1:]:
        found = list(range(first, side - period + 1, period))
        lines.append(found)
        middles.append([found[0] - period // 2, *(line + period // 2 for line in found)])
    reach = PATCH // 2

    def cut(rows: list[int], columns: list[int]) -> list[Tensor]:
        places = [
            (y, x)
            for y, x in product(rows, columns)
            if min(y, x) >= reach and y + reach <= picture.shape[1] and x + reach <= picture.shape[2]
        ]
        return [picture[:, y - reach : y + reach, x - reach : x + reach] for y, x in places]

    at_lines = cut(lines[0], middles[1]) + cut(middles[0], lines[1])
    return torch.stack(at_lines), torch.stack(cut(*middles))


@dataclass(frozen=True)
class Measure:
    """What pictures are compared with.

    Attributes:
        tokenizer: For features.
        heldout: A picture that no model has seen.
        training: The picture that they have learned from.
    """

    tokenizer: Tokenizer
    heldout: Tensor
    training: Tensor

    def numbers(
        self, picture: Tensor, first: int, period: int, real: Tensor | None = None
    ) -> dict[str, float]:
        """All measures of a picture, with patches of ``PATCH`` pixels.

        Seams are the lines between crops, compared with all other lines between cells: a tokenizer may show its cells.
        """
        real, features = self.heldout if real is None else real, latent_features(self.tokenizer)
        found = dict(texture_numbers(picture, [real], [self.training], features, size=PATCH, rings=1))
        del found["frechet_ring_0"]  # there is one ring, so it is the distance of all patches
        ratios = seam_ratio(picture, period, (first % period,) * 2, step=self.tokenizer.downsample_factor)
        for name, ratio in zip(("rows", "columns"), ratios, strict=True):
            found |= {f"seam_{name}": ratio.value, f"seam_{name}_error": ratio.error}
        sets = [*cut_by_border(picture, first, period), cut_patches(real, PATCH)]
        count = min(MOST, *map(len, sets))
        at_lines, midway, compared = (
            each[torch.linspace(0, len(each) - 1, count).round().long()] for each in sets
        )
        found["frechet_at_borders"] = patch_frechet(at_lines, compared, features)
        found["frechet_midway"] = patch_frechet(midway, compared, features)
        found["contrast"] = float(picture.std()) * 127.5
        return found | {"patches_at_borders": count}


def real_rows(measure: Measure, period: int) -> list[dict[str, object]]:
    """What real pictures give: those held out, beside those trained on, and the latter as the tokenizer has them."""
    tokenizer, training = measure.tokenizer, measure.training
    with torch.no_grad():
        decoded = decode(tokenizer, tokenizer.encode(training[None]))
    held_out = measure.numbers(measure.heldout, period, period, training)
    patches = measure.numbers(training, period, period)  # the held-out part has too few on lines of crops
    for name in ("frechet_at_borders", "frechet_midway", "patches_at_borders"):
        held_out[name] = patches[name]
    return [
        {"way": "real, held out", **held_out},
        {"way": "real, through the tokenizer", **measure.numbers(decoded, period, period)},
    ]


def trained(arguments: argparse.Namespace, folder: Path) -> tuple[Synthesizer, Synthesizer]:
    """The priors of local span and of full attention, on the same tokenizer."""
    first, second = ["training.pictures=0"], ["training.pictures=0"]
    if arguments.quick:
        first += ["training.steps=2"]
        second += ["training.steps=2", "prior.depth=1", "prior.width=64", "data.cached_codes=1"]
    tokenizer = arguments.tokenizer
    if tokenizer is None and not (arguments.prior and arguments.full_prior):
        tokenizer = vqgan.train(
            "deepfield-tokenizer", out=folder / "tokenizer", overrides=first, device="cpu"
        )
    models = []
    for given, name, span in (
        (arguments.prior, "local", []),
        (arguments.full_prior, "full", ["prior.span=null"]),
    ):
        run = given or vqgan.train(
            "deepfield-prior",
            tokenizer=tokenizer,
            out=folder / name,
            overrides=[*second, *span],
            device="cpu",
        )
        model = vqgan.load(run, device="cpu")
        assert isinstance(model, Synthesizer)
        models.append(model.eval())
    local, full = models
    assert local.config.prior.span is not None
    assert full.config.prior.span is None
    weights = [model.tokenizer.state_dict() for model in models]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    return local, full


def measured(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """A row for each seed and way; all ways take turns."""
    with tempfile.TemporaryDirectory() as folder:
        local, full = trained(arguments, Path(folder))
    source = open_source(SampleConfig(names=("hubble",)))
    parts = [source.part("heldout").read(number).pixels for number in range(len(source.part("heldout")))]
    heldout = torch.cat([to_float(part) for part in parts], dim=1)
    training = to_float(source.part("train").read(0).pixels)
    measure = Measure(full.tokenizer, heldout, training)
    side, factor = full.config.window[0], full.tokenizer.downsample_factor
    rows = real_rows(measure, side // 2 * factor)
    for row in rows:
        print(json.dumps(row), flush=True)
    drawn: dict[object, tuple[Tensor, float, float]] = {}  # the last tokens: two ways may share them
    for seed, way in product(range(arguments.seeds), ways(local, full, 40 if arguments.quick else 136)):
        key = (seed, way.draw)
        if key not in drawn:
            begun = time.perf_counter(), time.process_time()
            tokens = way.draw(seed)
            drawn = {key: (tokens, time.perf_counter() - begun[0], time.process_time() - begun[1])}
        tokens, seconds, busy = drawn[key]
        picture = way.decode(tokens)
        cells = picture[0].numel() // factor**2
        row: dict[str, object] = {"way": way.name, "prior": way.prior, "seed": seed}
        row |= {"pixels": list(picture.shape[1:]), "line": way.first, "period": way.period}
        row |= {"tokens_per_second": cells / seconds, "tokens_per_processor_second": cells / busy}
        row |= measure.numbers(picture, way.first, way.period)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if arguments.pictures is not None:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            name = f"{way.prior} {way.name} {seed}".replace(",", "").replace(" ", "-")
            save_png(picture, arguments.pictures / f"{name}.png")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, help="a trained run of `deepfield-tokenizer`")
    parser.add_argument("--prior", type=Path, help="a trained run of `deepfield-prior` on it")
    parser.add_argument("--full-prior", type=Path, help="the same with `prior.span=null`")
    parser.add_argument("--seeds", type=int, default=2, help="pictures of each way")
    parser.add_argument("--pictures", type=Path, help="write the pictures into this folder")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the script runs")
    parser.add_argument("--json", type=Path, help="write rows and environment to this file")
    arguments = parser.parse_args()
    if bool(arguments.prior) != bool(arguments.full_prior) and not arguments.tokenizer:
        parser.error("one prior is given, so the tokenizer of both must be: `--tokenizer RUN`")
    rows = measured(arguments)
    if arguments.json is not None:
        record = {"quick": arguments.quick, "environment": environment(), "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
