"""Crops with context: how many of their codes are those of the whole image, and how far pixels influence a code.

Trains `laptop-tokenizer` for 500 steps on crops of `sample:hubble` (four minutes), then encodes crops of the picture's
trained part with more and more context, and compares the codes inside with those of the whole part; again with the
norms' statistics of the whole part, and without the attention in the middle.

python benchmarks/context.py [--quick] [--json PATH]
"""

import copy
import json
import tempfile
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import vqgan
from timing import environment, parse_arguments
from vqgan.data import SampleConfig, open_source
from vqgan.images import to_float
from vqgan.nn.convolution import ChannelStatistics, SpatialAttention
from vqgan.tokenizer import Tokenizer, receptive_field

SIDE, CONTEXTS, CROPS = 128, (0, 8, 16, 32, 64, 96, 128), 64
DISTANCES = (0, 8, 16, 32, 64, 72, 128, 256)


def trained(steps: int) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        changes = [f"training.steps={steps}", "data.resize=null", "training.pictures=0"]
        run = vqgan.train(
            "laptop-tokenizer", data="sample:hubble", out=f"{folder}/run", overrides=changes, device="cpu"
        )
        model = vqgan.load(run)
    assert isinstance(model, Tokenizer)
    return model


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    tokenizer = trained(2 if arguments.quick else 500)
    rows = measured(tokenizer, 4 if arguments.quick else CROPS)
    if arguments.json is not None:
        record = {"quick": arguments.quick, "environment": environment(), **rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def measured(tokenizer: Tokenizer, crops: int) -> dict[str, Any]:
    """Shares of equal codes for each context, and of influence beyond each distance; in double precision."""
    picture = to_float(open_source(SampleConfig(names=("hubble",))).part("train").read(0).pixels)[None]
    factor, tokenizer = tokenizer.downsample_factor, tokenizer.double().requires_grad_(False)
    picture = picture[..., : picture.shape[2] // factor * factor, : picture.shape[3] // factor * factor]
    chance = np.random.Generator(np.random.Philox(0))
    places = [
        [
            int(chance.integers(max(CONTEXTS), side - SIDE - max(CONTEXTS) + 1)) // factor
            for side in picture.shape[2:]
        ]
        for _ in range(crops)
    ]
    equal = []
    for attention, held in product((True, False), (False, True)):
        variant, count = (
            _variant(tokenizer, attention=attention, held=held),
            crops if attention > held else crops // 4,
        )
        whole = variant.encode(picture)
        for context in CONTEXTS:
            shares = [_equal(variant, picture, whole, place, context) for place in places[:count]]
            inside, border = np.mean(shares, axis=0).tolist()
            row = {"attention": attention, "statistics_held": held, "context": context, "crops": count}
            equal.append({**row, "equal": inside, "equal_at_the_border": border})
            print(json.dumps(equal[-1]), flush=True)
    by_distance = np.mean([_influence(tokenizer, picture, place) for place in places[:4]], axis=0)
    beyond = [{"distance": d, "influence_beyond": float(by_distance[d + 1 :].sum())} for d in DISTANCES]
    print(json.dumps(beyond), flush=True)
    reach = receptive_field(tokenizer.config.autoencoder)
    return {"receptive_field": reach, "codes": equal, "influence": beyond}


class Held(nn.Module):
    """A norm with the statistics of the first image that it meets."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm, self.statistics = norm, ChannelStatistics(norm.num_channels)
        self.is_new = True

    def forward(self, features: Tensor) -> Tensor:
        """Keeps the shape."""
        if self.is_new:
            self.statistics.add(features)
        self.is_new = False
        return self.statistics.normed(self.norm, features)


def _variant(tokenizer: Tokenizer, *, attention: bool, held: bool) -> Tokenizer:
    """A copy without attention, or whose norms keep the statistics of the first image."""
    result = copy.deepcopy(tokenizer)
    for block in list(result.encoder.modules()):
        for name, part in block.named_children():
            if held and isinstance(part, nn.GroupNorm):
                setattr(block, name, Held(part))
            if not attention and isinstance(part, SpatialAttention):
                setattr(block, name, nn.Identity())
    return result


def _equal(
    tokenizer: Tokenizer, picture: Tensor, whole: Tensor, place: list[int], context: int
) -> tuple[float, float]:
    """Share of a crop's codes that are those of the whole picture, and of those in its outermost ring of cells."""
    factor, cells = tokenizer.downsample_factor, SIDE // tokenizer.downsample_factor
    rows, columns = (slice(first * factor - context, first * factor + SIDE + context) for first in place)
    edge = context // factor
    codes = tokenizer.encode(picture[..., rows, columns])[0, edge : edge + cells, edge : edge + cells]
    same = codes == whole[0, place[0] : place[0] + cells, place[1] : place[1] + cells]
    ring = torch.ones_like(same)
    ring[1:-1, 1:-1] = False
    return same.double().mean().item(), same[ring].double().mean().item()


def _influence(tokenizer: Tokenizer, picture: Tensor, place: list[int]) -> np.ndarray:
    """Share of the absolute gradients of a latent at each distance from its cell; 0 is the cell itself."""
    factor, image = tokenizer.downsample_factor, picture.double().requires_grad_()
    latent = tokenizer.latents(image)[0, :, place[0], place[1]]
    weights = torch.randn(len(latent), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((latent * weights).sum(), image)
    away = []
    for first, side in zip(place, picture.shape[2:], strict=True):
        pixels, start = np.arange(side), first * factor
        away.append(np.maximum(0, np.maximum(start - pixels, pixels - (start + factor - 1))))
    distance = np.maximum(away[0][:, None], away[1])
    sums = np.bincount(distance.ravel(), gradient.abs().sum(dim=(0, 1)).numpy().ravel(), max(picture.shape))
    return sums / sums.sum()


if __name__ == "__main__":
    main()
