"""What a model looks at: how far its layers reach, and where the tokens of its prior look."""

import numpy as np
import torch
from jaxtyping import Int, UInt8

from vqgan.evaluation.attention import attention_figure, looks_of
from vqgan.evaluation.numbers import Number
from vqgan.evaluation.reach import (
    SHARES,
    Effects,
    pixels_that_are_moved,
    pixels_that_move,
    reach_figure,
    sides_with,
)
from vqgan.images import to_float
from vqgan.quality.seen import Seen
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.receptive_field import receptive_field

IMAGES, SIDE = 16, 256
"""Images of which receptive fields are measured, and the longest side of their middle part that is looked at."""


def spread(most: int, count: int) -> Int[np.ndarray, " n"]:
    """The numbers of at most so many of the images, evenly spread over all.

    Example:
        >>> spread(3, 9).tolist(), spread(4, 2).tolist()
        ([0, 4, 8], [0, 1])
    """
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def receptive_fields(
    tokenizer: Tokenizer, seen: Seen
) -> tuple[dict[str, Number], UInt8[np.ndarray, "R C 3"]]:
    """Which pixels move a latent in the middle, and which pixels a code there moves; numbers, and a figure."""
    factor, chosen = tokenizer.downsample_factor, spread(IMAGES, len(seen.real))
    most = max(1, SIDE // factor)
    (top, rows), (left, columns) = (
        ((size - min(size, most)) // 2, min(size, most)) for size in seen.grids.shape[1:]
    )
    grids = torch.from_numpy(seen.grids[chosen, top : top + rows, left : left + columns])
    pixels = (
        slice(first * factor, (first + size) * factor) for first, size in ((top, rows), (left, columns))
    )
    images, cell = to_float(seen.real[chosen][:, *pixels]), (rows // 2, columns // 2)
    found: dict[str, Effects] = {"encoder": pixels_that_move(tokenizer.latents, images, cell)}
    used = np.unique(seen.grids)
    if len(used) > 1:
        places = np.searchsorted(used, grids[:, cell[0], cell[1]].numpy())
        others = torch.from_numpy(used[(places + len(used) // 2) % len(used)])
        found["decoder"] = pixels_that_are_moved(tokenizer.decode, grids, cell, others)
    whole = max(images.shape[2:])
    numbers = {
        f"{name}_pixels_{100 * share:g}": Number.mean(side.clip(max=whole))
        for name, effects in found.items()
        for share, side in zip(SHARES, sides_with(effects, cell, factor), strict=True)
    }
    alone = 2 * receptive_field(tokenizer.config.autoencoder) + factor
    numbers["encoder_pixels_of_convolutions"] = Number(float(alone), 1)
    return numbers, reach_figure(found, cell, factor)


def attention(model: Synthesizer, seen: Seen, memory: int) -> UInt8[np.ndarray, "R C 3"]:
    """Where a few tokens of two images look, in some layers."""
    (rows, columns), numbers = seen.grids.shape[1:], spread(2, len(seen.real))
    places = (rows // 3, columns // 3), (rows // 2, columns // 2), (rows - 1, 2 * columns // 3)
    cells = list(dict.fromkeys(places))
    indices = torch.from_numpy(seen.grids[numbers]).to(model.tokenizer.weight.device)
    looks = looks_of(model, indices, seen.asked(numbers.tolist()), cells, memory=memory)
    return attention_figure(list(seen.rebuilt[numbers]), looks, cells)
