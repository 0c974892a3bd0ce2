"""Which codebook stays in use, with few codes and with many? On game frames and on photographs, several seeds each.

The same small VQ-VAE (a token for 4 x 4 pixels, no discriminator) is trained with each quantizer and equal steps.
Measured on held-out pictures, each in four positions: the share of codes that occur, their perplexity, and PSNR.

python benchmarks/codebooks.py --work FOLDER [--quick] [--json PATH] [--seeds N] [--only NAME]

A cell takes about a minute on one core, all of them with 3 seeds an hour and a quarter. What is in FOLDER is not
trained again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vqgan
from cells import QUIET, Numbers, all_cells, arguments, frames
from vqgan.checkpoints.load import load
from vqgan.data import open_source
from vqgan.data.sample import PICTURES, SampleConfig
from vqgan.evaluation.psnr import psnr
from vqgan.images import to_float, to_uint8
from vqgan.tokenizer import Tokenizer, codebook_usage, crop_to_multiple

BASE = (
    "tokenizer.autoencoder.channel_multipliers=[1]",
    "tokenizer.autoencoder.base_channels=64",  # 32 are one for each group of the norm
    "task.discriminator=null",
    "task.hard_share=0",
    "task.reseed_after=null",
    "task.optimizer.learning_rate=1e-3",
    "training.ema_decay=null",
    "training.evaluate_every=100000",
    "data.crop=random",
    "data.resize=null",
    *QUIET,
)
RESEED = "task.reseed_after=50"
SETTINGS: dict[str, tuple[str, ...]] = {
    "plain": ("kind: vector, normalize: false",),
    "re-seeded": ("kind: vector, normalize: false", RESEED),
    "length 1": ("kind: vector, normalize: true", RESEED),
    "means": ("kind: vector, normalize: false", RESEED, "task.codebook_decay=0.99"),
    "sim": ("kind: sim",),
    "sim rotated": ("kind: sim, gradient: rotation",),
}
"""The quantizer, and what else is changed."""

SIZES = 1024, 16384
SHIFTS = (0, 0), (0, 2), (2, 0), (2, 2)


def train(
    folder: Path, seed: int, *, setting: str, codes: int, data: tuple[Any, Sequence[np.ndarray]], steps: int
) -> Numbers:
    """One run, and what its codes are on held-out pictures."""
    quantizer, *changes = SETTINGS[setting]
    quantizer = f"tokenizer.quantizer={{{quantizer}, codebook_size: {codes}, codebook_dim: 16}}"
    shape = () if isinstance(data[0], np.ndarray) else ("data.image_size=[96,80]",)
    vqgan.train(
        "demo-tokenizer",
        data=data[0],
        out=folder,
        overrides=[*BASE, quantizer, f"training.steps={steps}", *shape, *changes],
        seed=seed,
        device="cpu",
    )
    model = load(folder, device="cpu")
    assert isinstance(model, Tokenizer)
    counts, error, values = torch.zeros(codes, dtype=torch.int64), 0.0, 0
    for picture in data[1]:
        for row, column in SHIFTS:
            whole = to_float(picture[None, row:, column:])
            images = crop_to_multiple(whole, model.downsample_factor)
            with torch.no_grad():
                indices = model.encode(images)
                again = model.decode(indices)
            counts += torch.bincount(indices.flatten(), minlength=codes)
            ours, theirs = (to_uint8(each).double() for each in (images, again))
            error += float((ours - theirs).square().sum())
            values += images.numel()
    usage, perplexity = codebook_usage(counts)
    numbers = {"usage": float(usage), "perplexity": float(perplexity), "psnr": psnr(error, values)}
    return {**numbers, "tokens": float(counts.sum())}


def main() -> None:
    """Trains, measures, prints the table and writes the numbers."""
    given = arguments(__doc__).parse_args()
    seen, unseen = frames(16 if given.quick else 1500)
    photographs = SampleConfig(names=tuple(PICTURES))
    part = open_source(photographs).part("heldout")
    pictures = [part.read(index).pixels for index in range(len(part))]
    held_out = {"frames": list(unseen[:256]), "photographs": pictures[:2] if given.quick else pictures}
    images = {"frames": seen, "photographs": photographs}
    steps = 4 if given.quick else 400
    cells: dict[str, Callable[[Path, int], Numbers]] = {}
    for codes in SIZES:
        for name, own in images.items():
            for setting in SETTINGS:
                settings: dict[str, Any] = {"setting": setting, "codes": codes, "steps": steps}
                cells[f"{name} {codes} {setting}"] = partial(train, data=(own, held_out[name]), **settings)
    all_cells(given, cells)


if __name__ == "__main__":
    main()
