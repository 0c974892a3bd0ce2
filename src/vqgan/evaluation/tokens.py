"""What codes do: how many are in use, what each draws, and how well tables of frequencies predict them."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from vqgan.evaluation.fidelity import Pictures
from vqgan.evaluation.numbers import Number
from vqgan.tokenizer import codebook_usage

Grids = Int[np.ndarray, "n h w"]
TrainGrids = Int[np.ndarray, "k h w"]

Context = Callable[[Grids], Int[np.ndarray, "n t"]]
"""Gives each token of grids, row after row, a number of what a table may know of it; from 0."""

_RARE = 2.0
"""How many occurrences of a context weigh as much as the shorter context that it extends."""


def codebook_numbers(grids: Grids, codebook_size: int) -> dict[str, Number]:
    """Use of a codebook, counted over all grids together: a batch or a queue of recent ones would hold fewer codes.

    Args:
        grids: Codes.
        codebook_size: Number of codes.

    Returns:
        The share of codes that occur, their perplexity, how many never occur, and the bits of a code if all have the
        length of the rarest, or if their frequencies are known.
    """
    counts = torch.from_numpy(np.bincount(grids.ravel(), minlength=codebook_size))
    usage, perplexity = (float(each) for each in codebook_usage(counts))
    cells = grids.shape[1] * grids.shape[2]
    return {
        "usage": Number(usage, grids.size),
        "perplexity": Number(perplexity, grids.size),
        "dead_codes": Number(float((counts == 0).sum()), grids.size),
        "bits_per_image": Number(float(cells * math.ceil(math.log2(codebook_size))), len(grids)),
        "entropy_bits_per_image": Number(cells * math.log2(max(1.0, perplexity)), len(grids)),
    }


def by_position(grids: Grids) -> Int[np.ndarray, "n t"]:
    """The number of the cell."""
    return np.broadcast_to(np.arange(grids[0].size), (len(grids), grids[0].size))


def by_previous(grids: Grids) -> Int[np.ndarray, "n t"]:
    """The code before, counted from 1; 0 at the start of an image."""
    return np.pad(grids.reshape(len(grids), -1) + 1, ((0, 0), (1, 0)))[:, :-1]


def by_above_and_previous(grids: Grids) -> Int[np.ndarray, "n t"]:
    """The codes before and above, as one number; above the first row there is none."""
    above = np.pad(grids.astype(np.int64) + 1, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    return by_previous(grids).astype(np.int64) * (1 << 32) + above.reshape(len(grids), -1)


def table_loss(train: TrainGrids, grids: Grids, codebook_size: int, *contexts: Context) -> float:
    """Nats per token of tables of how often each code stood in each context.

    The first table adds one to each count. A further one, of a context that extends the one before, adds two
    occurrences that are spread as the table before has them.

    Args:
        train: From which the tables are made.
        grids: The codes to predict.
        codebook_size: Number of codes.
        *contexts: What the tables know, the least first; without any, all codes are equally probable.
    """
    codes, known = (each.reshape(len(each), -1) for each in (grids, train))
    probability = np.full(codes.shape, 1 / codebook_size)
    weight = float(codebook_size)
    for context in contexts:
        both = np.concatenate([context(train), context(grids)])
        places = np.unique(both, return_inverse=True)[1].reshape(both.shape)
        before, now = np.split(places, [len(train)])
        pairs, wanted = (place * codebook_size + code for place, code in ((before, known), (now, codes)))
        probability = (_occurrences(pairs, wanted) + weight * probability) / (
            _occurrences(before, now) + weight
        )
        weight = _RARE
    return -float(np.log(probability).mean())


def _occurrences(known: Int[np.ndarray, "k t"], asked: Int[np.ndarray, "n t"]) -> Int[np.ndarray, "n t"]:
    """How often each number that is asked for occurs among the known ones."""
    values, counts = np.unique(known, return_counts=True)
    place = np.searchsorted(values, asked).clip(max=len(values) - 1)
    return np.where(values[place] == asked, counts[place], 0)


def baseline_losses(train: TrainGrids, grids: Grids, codebook_size: int) -> dict[str, float]:
    """Nats per token of what needs no network: :func:`table_loss` of known images' codes."""
    return {
        "position_frequency_loss": table_loss(train, grids, codebook_size, by_position),
        "previous_token_loss": table_loss(train, grids, codebook_size, by_previous),
        "above_and_previous_loss": table_loss(
            train, grids, codebook_size, by_previous, by_above_and_previous
        ),
        "uniform_loss": math.log(codebook_size),
    }


def codebook_mosaic(frames: Pictures, grids: Grids, codebook_size: int) -> UInt8[np.ndarray, "K s s c"]:
    """A picture of each code, the most frequent first: the mean of the squares at which it stands.

    Args:
        frames: Images (best: reconstructions), whose sides are multiples of the token grid's.
        grids: Their codes.
        codebook_size: Number of codes; one that never occurs is grey.
    """
    count, rows, columns = grids.shape
    side = frames.shape[1] // rows
    squares = frames.reshape(count, rows, side, columns, side, -1).transpose(0, 1, 3, 2, 4, 5)
    flat = squares.reshape(grids.size, side, side, -1)
    means = np.full((codebook_size, *flat.shape[1:]), 128, dtype=np.uint8)
    for code in np.unique(grids):
        means[code] = np.rint(flat[grids.ravel() == code].mean(axis=0))
    return means[np.argsort(-np.bincount(grids.ravel(), minlength=codebook_size), kind="stable")]


def where_codes_stand(grids: Grids, codebook_size: int) -> Float[np.ndarray, "K h w"]:
    """How often each code stands in each cell, as a share of the images."""
    count, rows, columns = grids.shape
    cells = np.broadcast_to(np.arange(rows * columns).reshape(rows, columns), grids.shape)
    counts = np.bincount((grids * rows * columns + cells).ravel(), minlength=codebook_size * rows * columns)
    return counts.reshape(codebook_size, rows, columns) / count
