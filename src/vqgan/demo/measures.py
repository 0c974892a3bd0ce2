"""The numbers of a tokenizer and a prior on held-out frames, each beside the baselines it has to beat.

The baselines need no network: for pictures the mean training frame, the mean and the median of the room and the nearest
training frame; for tokens, in nats each, uniform, frequencies at each position, and which code follows which.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from vqgan.evaluation.psnr import pixels_psnr
from vqgan.images import to_float, to_uint8
from vqgan.prior import to_tokens
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.types import OnProgress, Progress

TrainFrames = UInt8[np.ndarray, "k H W c"]
Frames = UInt8[np.ndarray, "n H W c"]
TrainGrids = Int[np.ndarray, "k h w"]
Grids = Int[np.ndarray, "n h w"]

MOVING_THRESHOLD = 24
"""A pixel belongs to a moving thing when a channel differs by more than this from the room's median frame."""

_BATCH_SIZE = 64
_EXACT = 256
"""Number of products of 8-bit values whose sum is exact in float32."""


@dataclass(frozen=True)
class RoomFrames:
    """Training and held-out frames, and the room of each; held-out frames seen in training are omitted.

    Attributes:
        train: Training frames.
        train_rooms: Their rooms.
        heldout: Held-out frames that equal no training frame.
        heldout_rooms: Their rooms.
        dropped: Number of held-out frames that were omitted: memorizing would be enough for them.
    """

    train: TrainFrames
    train_rooms: Int[np.ndarray, " k"]
    heldout: Frames
    heldout_rooms: Int[np.ndarray, " n"]
    dropped: int = 0

    def without_seen(self) -> "RoomFrames":
        """The same without the held-out frames that equal a training frame in every value."""
        known = {frame.tobytes() for frame in self.train}
        new = np.array([frame.tobytes() not in known for frame in self.heldout], dtype=bool)
        heldout, rooms = self.heldout[new], self.heldout_rooms[new]
        return replace(self, heldout=heldout, heldout_rooms=rooms, dropped=len(new) - len(heldout))

    def baseline(
        self, of_room: Callable[[TrainFrames], UInt8[np.ndarray, "H W c"]], unknown: Frames
    ) -> Frames:
        """For each held-out frame a frame made of its room's training frames, or ``unknown`` where there are none."""
        result = unknown.copy()
        for room in np.intersect1d(self.train_rooms, self.heldout_rooms):
            result[self.heldout_rooms == room] = of_room(self.train[self.train_rooms == room])
        return result


def mean_frame(frames: Frames) -> UInt8[np.ndarray, "H W c"]:
    """The mean, rounded."""
    return np.rint(frames.sum(axis=0, dtype=np.int64) / len(frames)).astype(np.uint8)


def median_frame(frames: Frames) -> UInt8[np.ndarray, "H W c"]:
    """The median, value by value: a room without what moves in it; of two middle values the lower, which occurred."""
    middle = (len(frames) - 1) // 2
    return np.partition(frames, middle, axis=0)[middle]


def nearest_frames(train: TrainFrames, frames: Frames) -> Int[np.ndarray, " n"]:
    """Position of the training frame with the least squared distance to each frame; the first among equals."""
    known, queries = (each.reshape(len(each), -1) for each in (train, frames))
    products = torch.zeros(len(queries), len(known), dtype=torch.float64)
    for start in range(0, known.shape[1], _EXACT):
        left, right = (torch.from_numpy(each[:, start : start + _EXACT]).float() for each in (queries, known))
        products += left @ right.T
    lengths = np.einsum("kv,kv->k", known, known, dtype=np.int64)
    return (lengths - 2 * products.numpy()).argmin(axis=1)


def moving_pixels(frames: Frames, background: Frames) -> Bool[np.ndarray, "n H W"]:
    """Pixels of which a channel differs from the background by more than ``MOVING_THRESHOLD``."""
    difference = np.maximum(frames, background) - np.minimum(frames, background)
    return (difference > MOVING_THRESHOLD).any(axis=3)


def moving_errors(
    last: Frames, truth: UInt8[np.ndarray, "t n H W c"], shown: Frames | UInt8[np.ndarray, "t n H W c"]
) -> Float[np.ndarray, "t n"]:
    """Mean squared error (of 255) over the pixels that moved, for each step and game; not a number where none did.

    Args:
        last: Of each game the last given frame; what differs from it has moved.
        truth: The true frames after it, of each step and game.
        shown: What is shown in their place: at each step, or the same at all.
    """
    moved = (truth != last).any(axis=-1)
    counts = moved.sum(axis=(2, 3)) * last.shape[-1]
    sums = ((shown.astype(np.float64) - truth) ** 2 * moved[..., None]).sum(axis=(2, 3, 4))
    return np.divide(sums, counts, where=counts > 0, out=np.full(counts.shape, np.nan))


def _batches(phase: str, count: int, on_progress: OnProgress) -> Iterator[slice]:
    for start in range(0, count, _BATCH_SIZE):
        yield slice(start, start + _BATCH_SIZE)
        on_progress(Progress(phase, min(start + _BATCH_SIZE, count), count))


@torch.no_grad()
def encode_frames(tokenizer: Tokenizer, frames: Frames, on_progress: OnProgress) -> Grids:
    """The codes of frames, in batches."""
    parts = _batches("encoding", len(frames), on_progress)
    return np.concatenate([tokenizer.encode(to_float(frames[part])).cpu().numpy() for part in parts])


@torch.no_grad()
def decode_grids(tokenizer: Tokenizer, grids: Grids, on_progress: OnProgress) -> Frames:
    """The frames of codes, in batches."""
    parts = _batches("decoding", len(grids), on_progress)
    images = (tokenizer.decode(torch.from_numpy(grids[part])) for part in parts)
    return np.concatenate([to_uint8(each.float().cpu()).numpy() for each in images])


def reconstruction_numbers(
    frames: RoomFrames, reconstructions: Frames, grids: Grids, codebook_size: int
) -> tuple[dict[str, float], Bool[np.ndarray, "n H W"]]:
    """PSNR of reconstructions and baselines, over all pixels and the moving ones, and codebook usage; what moves."""
    heldout = frames.heldout
    mean = np.broadcast_to(mean_frame(frames.train), heldout.shape)
    # Where training never saw a room, the frame itself is the background: nothing moves.
    background = frames.baseline(median_frame, heldout)
    moving = moving_pixels(heldout, background)
    return {
        "reconstruction_psnr": pixels_psnr(heldout, reconstructions),
        "mean_image_psnr": pixels_psnr(heldout, mean),
        "room_mean_psnr": pixels_psnr(heldout, frames.baseline(mean_frame, mean)),
        "nearest_frame_psnr": pixels_psnr(heldout, frames.train[nearest_frames(frames.train, heldout)]),
        "moving_psnr": pixels_psnr(heldout[moving], reconstructions[moving]),
        "background_moving_psnr": pixels_psnr(heldout[moving], background[moving]),
        "moving_share": float(moving.mean()),
        "codebook_usage": len(np.unique(grids)) / codebook_size,
    }, moving


@torch.no_grad()
def prior_numbers(
    synthesizer: Synthesizer,
    train: TrainGrids,
    heldout: Grids,
    classes: Int[np.ndarray, " n"] | None,
    on_progress: OnProgress,
) -> dict[str, float]:
    """Nats per token of the prior on held-out codes, and of tables made from training codes."""
    total, name = 0.0, synthesizer.conditioner.name
    for part in _batches("scoring", len(heldout), on_progress):
        grids = torch.from_numpy(heldout[part])
        value = None if classes is None else {name: classes[part].tolist()}
        condition = synthesizer.conditioner.tokens(value, len(grids), (heldout.shape[1], heldout.shape[2]))
        tokens_read = to_tokens(grids, synthesizer.config.token_order)
        total -= float(synthesizer.prior.log_probability(tokens_read, condition).double().sum())
    size = synthesizer.tokenizer.codebook_size
    known, tokens = (each.reshape(len(each), -1) for each in (train, heldout))
    return {
        "prior_loss": total / tokens.size,
        "position_frequency_loss": table_loss(_position, known, tokens, size),
        "previous_token_loss": table_loss(_previous_token, known, tokens, size),
        "uniform_loss": math.log(size),
    }


def table_loss(
    context: Callable[[Int[np.ndarray, "n t"]], Int[np.ndarray, "n t"]],
    train: Int[np.ndarray, "k t"],
    tokens: Int[np.ndarray, "n t"],
    codebook_size: int,
) -> float:
    """Nats per token of a table of how often each code stood in each context, one added to each count.

    Args:
        context: Gives each token of some sequences a number of its context, from 0.
        train: Training sequences, from which the table is made.
        tokens: The sequences to predict.
        codebook_size: Number of codes.
    """
    counts = np.ones((max(codebook_size + 1, train.shape[1]), codebook_size))
    np.add.at(counts, (context(train), train), 1)
    log_probability = np.log(counts / counts.sum(axis=1, keepdims=True))
    return -float(log_probability[context(tokens), tokens].mean())


def _position(tokens: Int[np.ndarray, "n t"]) -> Int[np.ndarray, "n t"]:
    return np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)


def _previous_token(tokens: Int[np.ndarray, "n t"]) -> Int[np.ndarray, "n t"]:
    """The code before, counted from 1; 0 at the start of a sequence."""
    return np.pad(tokens + 1, ((0, 0), (1, 0)))[:, :-1]


def codebook_mosaic(frames: Frames, grids: Grids, codebook_size: int) -> UInt8[np.ndarray, "K s s c"]:
    """A picture of each code, the most frequent first: the mean of the squares at which it stands.

    Args:
        frames: Frames (best: reconstructions), whose sides are multiples of the token grid's.
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
