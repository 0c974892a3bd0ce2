"""In-painting: what kept codes know of a hole, what sweeps gain over one draw in raster order, and how defects score.

Trains a small tokenizer on the six sample pictures and a prior of local span on each of `sample:brick` and
`sample:grass` (six minutes with one thread), then measures on the held-out fifths of the two pictures:

- codes (brick): how many kept codes change with what a hole holds, by distance, before and after it is filled;
- holes (brick): the likelihood of whole grids, and the step in the pixels across the borders, for margins and sweeps;
- defects (both): AUROC of the scores of tokens for pasted pieces of other pictures, and for turned pieces.

python benchmarks/inpainting.py [--quick] [--json PATH] [--runs FOLDER] [--picture PATH]
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import vqgan
from timing import environment
from vqgan.data import SampleConfig, open_source
from vqgan.data.sample import PICTURES
from vqgan.images import save_png, to_float
from vqgan.images.writing import grid
from vqgan.inpainting import _pasted, fill_holes, known_tokens
from vqgan.sampling import SamplingSettings
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import decode_within, encode_within

TEXTURES, FACTOR, MEMORY = ("brick", "grass"), 8, 2**32
SIDE, HOLE = 96, 32  # pixels
TOKENIZER = (
    "data.resize=null",
    "data.image_size=[64,64]",
    "tokenizer.autoencoder.base_channels=32",
    "tokenizer.autoencoder.middle_attention=false",
    "tokenizer.quantizer.codebook_size=256",
    "task.discriminator=null",
    "training.pictures=0",
)
PRIOR = (
    "prior.depth=3",
    "prior.width=128",
    "prior.num_heads=4",
    "prior.span.rows=6",
    "prior.span.columns=4",
    "training.batch_size=8",
    "training.pictures=0",
    "training.evaluate_images=16",
)


def trained(folder: Path, texture: str, *, quick: bool) -> Synthesizer:
    """A prior of this texture; what is in the folder already is taken."""
    first, second = folder / "tokenizer", folder / texture
    if not first.exists():
        steps = 4 if quick else 600
        vqgan.train(
            "laptop-tokenizer",
            data="sample:" + ",".join(PICTURES),
            out=first,
            overrides=[*TOKENIZER, f"training.steps={steps}"],
            device="cpu",
        )
    if not second.exists():
        steps = 4 if quick else 150
        vqgan.train(
            "deepfield-prior",
            data=f"sample:{texture}",
            out=second,
            tokenizer=first,
            overrides=[*PRIOR, f"training.steps={steps}"],
            device="cpu",
        )
    model = vqgan.load(second, device="cpu")
    assert isinstance(model, Synthesizer)
    return model


def parts(name: str) -> tuple[Tensor, Tensor]:
    """What is trained on, and the whole held-out strip, as images (1 c H W) of whole tokens."""
    source = open_source(SampleConfig(names=(name,)))
    left = to_float(source.part("train").read(0).pixels)[None]
    squares = source.part("heldout")
    strip = np.concatenate([squares.read(each).pixels for each in range(len(squares))])
    right = to_float(strip)[None]
    return tuple(
        each[..., : each.shape[2] // FACTOR * FACTOR, : each.shape[3] // FACTOR * FACTOR]
        for each in (left, right)
    )  # type: ignore[return-value]


def crops(picture: Tensor, count: int) -> Tensor:
    """Squares (n c SIDE SIDE) at random pixels."""
    chance = np.random.Generator(np.random.Philox(0))
    corners = [[int(chance.integers(side - SIDE + 1)) for side in picture.shape[2:]] for _ in range(count)]
    return torch.cat([picture[:, :, top : top + SIDE, left : left + SIDE] for top, left in corners])


def middle(count: int) -> Tensor:
    """True where pixels are kept: all but a square in the middle."""
    kept, start = torch.ones(count, SIDE, SIDE, dtype=torch.bool), (SIDE - HOLE) // 2
    kept[:, start : start + HOLE, start : start + HOLE] = False
    return kept


def changed_codes(model: Synthesizer, images: Tensor, others: Tensor) -> list[dict[str, float]]:
    """Share of kept codes, by distance from the hole in tokens, that are not those of the picture itself."""
    kept = middle(len(images))
    variants = {
        "another_content": torch.where(kept[:, None], images, others),
        "filled": fill_holes(images, kept),
    }
    plain = encode_within(model.tokenizer, images, MEMORY)
    codes = {name: encode_within(model.tokenizer, each, MEMORY) for name, each in variants.items()}
    rows = []
    for distance in range(1, (SIDE - HOLE) // 2 // FACTOR + 1):
        ring = known_tokens(kept, FACTOR, distance - 1) & ~known_tokens(kept, FACTOR, distance)
        shares = {name: float((each != plain)[ring].double().mean()) for name, each in codes.items()}
        rows.append({"distance": distance, **shares})
    return rows


def step(picture: Tensor, *, is_lower: bool) -> float:
    """Squared difference across the lower and right (or upper and left) borders of the hole, over that near by."""
    start = (SIDE - HOLE) // 2
    line, span = (start + HOLE if is_lower else start) - 1, slice(start, start + HOLE)
    across, near = 0.0, 0.0
    for turned in (picture, picture.transpose(1, 2)):
        energies = turned[:, :, span].diff(dim=1).square().mean(dim=(0, 2))
        across += float(energies[line])
        near += float(torch.cat([energies[line - 4 : line], energies[line + 1 : line + 5]]).mean())
    return across / near


def completed(model: Synthesizer, images: Tensor, margin: int, sweeps: int) -> dict[str, Tensor]:
    """The grids' log-probabilities, and the images as decoded and with what is kept."""
    kept = middle(len(images))
    settings = SamplingSettings(refine=sweeps)
    known = known_tokens(kept, FACTOR, margin)
    tokens = model._draw(fill_holes(images, kept), known, None, settings, MEMORY, None)
    start = torch.zeros(len(tokens), 1, dtype=torch.int64)
    with torch.no_grad():
        scores = model.prior.log_probability(tokens.flatten(1), start, (tokens.shape[1], tokens.shape[2]))
    decoded = decode_within(model.tokenizer, tokens, MEMORY)
    pasted = _pasted(images, decoded, kept, FACTOR)
    return {"scores": scores.sum(dim=1), "decoded": decoded, "pasted": pasted}


def holes(model: Synthesizer, images: Tensor, sweeps: int) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """For margins, and with sweeps: nats that the whole grid gains over one draw, and steps at the borders.

    Also the images of one draw and of the sweeps, with what is kept.
    """
    rows, drawn = [], []
    for margin in (1, 2, 0):
        plain = None
        for number in (0,) if margin else (0, sweeps):
            start = time.perf_counter()
            found = completed(model, images, margin, number)
            plain = found["scores"] if plain is None else plain
            row: dict[str, Any] = {"margin": margin, "sweeps": number, "seconds": time.perf_counter() - start}
            row["nats_gained"] = interval(found["scores"] - plain)
            for kind in ("decoded", "pasted"):
                for name, is_lower in (("lower_right", True), ("upper_left", False)):
                    steps = torch.tensor([step(each, is_lower=is_lower) for each in found[kind]])
                    row[f"step_{name}_{kind}"] = interval(steps)
            rows.append(row)
            print(json.dumps(row), flush=True)
            if not margin:
                drawn.append(found["pasted"])
    return rows, drawn


def interval(values: Tensor) -> dict[str, float]:
    """A mean and its 95 % interval over images."""
    mean, error = float(values.double().mean()), float(values.double().std() / math.sqrt(len(values)))
    return {"mean": mean, "low": mean - 1.96 * error, "high": mean + 1.96 * error}


def pieces(texture: str, strip: Tensor, count: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Strips with a defect: its kind, the pixels, and where it is (H W)."""
    chance, others = np.random.Generator(np.random.Philox(1)), [name for name in PICTURES if name != texture]
    foreign = {name: parts(name)[0] for name in others}
    for number in range(2 * count):
        kind, side = ("another picture", "turned")[number % 2], int(chance.integers(24, 41))
        source = foreign[others[number // 2 % len(others)]] if number % 2 == 0 else strip
        (top, left), (row, column) = (
            [int(chance.integers(length - side + 1)) for length in picture.shape[2:]]
            for picture in (strip, source)
        )
        piece = source[:, :, row : row + side, column : column + side]
        damaged, mask = strip.clone(), torch.zeros(strip.shape[2:])
        damaged[:, :, top : top + side, left : left + side] = (
            piece if number % 2 == 0 else piece.rot90(1, (2, 3))
        )
        mask[top : top + side, left : left + side] = 1
        yield kind, damaged, mask


def defects(model: Synthesizer, texture: str, count: int) -> list[dict[str, Any]]:
    """AUROC of tokens mostly inside a defect against those outside, of their own nats and of the mean of 3x3."""
    strip, found = parts(texture)[1], {}
    for kind, damaged, mask in pieces(texture, strip, count):
        with torch.no_grad():
            nats = -model.log_probability(damaged).view(1, 1, *(side // FACTOR for side in mask.shape))
        smooth = F.avg_pool2d(nats, 3, stride=1, padding=1, count_include_pad=False)
        share = F.avg_pool2d(mask[None, None], FACTOR)
        is_clear = (share == 0) | (share >= 0.5)
        for name, scores in (("token", nats), ("mean of 3x3", smooth)):
            found.setdefault((kind, name), []).append((scores[is_clear], share[is_clear] > 0))
    rows = []
    for (kind, name), pairs in found.items():
        each = torch.tensor([auroc(*pair) for pair in pairs])
        pooled = auroc(*(torch.cat(part) for part in zip(*pairs, strict=True)))
        row = {
            "defect": kind,
            "score": name,
            "strips": len(pairs),
            "auroc_pooled": pooled,
            "auroc": interval(each),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def auroc(scores: Tensor, is_defect: Tensor) -> float:
    """Share of pairs of a defective and a sound token in which the defective one has the higher score."""
    order = scores.double().argsort()
    ranks = torch.empty(len(scores), dtype=torch.float64)
    ranks[order] = torch.arange(1, len(scores) + 1, dtype=torch.float64)
    count = int(is_defect.sum())
    return float((ranks[is_defect].sum() - count * (count + 1) / 2) / (count * (len(scores) - count)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the script runs")
    parser.add_argument("--json", type=Path, help="write rows and environment to this file")
    parser.add_argument("--runs", type=Path, help="keep the runs here, and take those that are there already")
    parser.add_argument(
        "--picture", type=Path, help="write the hole, one draw and the refined one to this file"
    )
    given = parser.parse_args()
    count, sweeps = (2, 1) if given.quick else (8, 2)
    record: dict[str, Any] = {"quick": given.quick, "environment": environment()}
    with tempfile.TemporaryDirectory() as folder:
        for texture in TEXTURES:
            model = trained(given.runs or Path(folder), texture, quick=given.quick)
            record[texture] = {"defects": defects(model, texture, 2 if given.quick else 12)}
            if texture == TEXTURES[0]:
                images = crops(parts(texture)[1], count)
                others = crops(parts("gravel")[0], count)
                record[texture]["codes"] = changed_codes(model, images, others)
                print(json.dumps(record[texture]["codes"]), flush=True)
                record[texture]["holes"], drawn = holes(model, images, sweeps)
                if given.picture is not None:
                    rows = torch.cat([torch.where(middle(count)[:, None], images, 0.0), *drawn])
                    large = rows.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
                    save_png(
                        grid(large.unflatten(0, (3, count))[:, :4].flatten(0, 1), columns=4), given.picture
                    )
            if given.json is not None:
                given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
