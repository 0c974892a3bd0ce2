"""What the numbers of a tokenizer and a prior must beat: answers that need no network.

Pictures: the mean training image, the mean and the median of the room, the nearest training frame.
Tokens: uniform, frequencies at each position, and the previous token, each in nats per token.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8

from vqgan.evaluation.reconstruction import Frames, Labels

_QUERY_CHUNK = 512
_KNOWN_CHUNK = 1024
"""Two blocks of frames whose distances are one matrix product; 1024 frames of 96 x 80 take 94 MB."""

TrainFrames = UInt8[np.ndarray, "k H W c"]
"""Training frames as 8-bit values."""

TrainLabels = Int[np.ndarray, " k"]
"""The room of each training frame."""

TrainSequences = Int[np.ndarray, "k t"]
"""Codebook indices of training frames, in the order in which the prior reads them."""

Sequences = Int[np.ndarray, "n t"]
"""The same of the frames to predict."""


def mean_image(train: TrainFrames, frames: Frames) -> UInt8[np.ndarray, "n H W c"]:
    """The mean training frame for every one of ``frames``."""
    mean = _mean(train)
    return np.broadcast_to(mean, frames.shape)


def room_mean(
    train: TrainFrames, train_rooms: TrainLabels, frames: Frames, rooms: Labels
) -> UInt8[np.ndarray, "n H W c"]:
    """For every frame the mean training frame of its room; of all rooms where training never saw that room.

    Args:
        train: Training frames.
        train_rooms: The room of each.
        frames: The frames to answer for.
        rooms: The room of each.
    """
    result = mean_image(train, frames).copy()
    for room in np.unique(rooms):
        known = train[train_rooms == room]
        if len(known):
            result[rooms == room] = _mean(known)
    return result


def _mean(frames: TrainFrames) -> UInt8[np.ndarray, "H W c"]:
    return np.rint(frames.sum(axis=0, dtype=np.int64) / len(frames)).astype(np.uint8)


def room_medians(train: TrainFrames, train_rooms: TrainLabels) -> dict[int, UInt8[np.ndarray, "H W c"]]:
    """The median training frame of each room, value by value: the room without what moves in it.

    Of an even number of frames the lower middle one counts, so that a value is one that occurred.
    """
    medians = {}
    for room in np.unique(train_rooms):
        known = train[train_rooms == room]
        middle = (len(known) - 1) // 2
        medians[int(room)] = np.partition(known, middle, axis=0)[middle]
    return medians


def room_median(
    medians: dict[int, UInt8[np.ndarray, "H W c"]], frames: Frames, rooms: Labels
) -> UInt8[np.ndarray, "n H W c"]:
    """For every frame the median of its room; the frame itself where training never saw that room.

    The answer for an unknown room does not matter: such a frame has no moving pixels.
    """
    result = frames.copy()
    for room, median in medians.items():
        result[rooms == room] = median
    return result


def nearest_frame(train: TrainFrames, frames: Frames) -> Int[np.ndarray, " n"]:
    """Position of the training frame with the least squared distance to each frame; the first among equals.

    Distances are one matrix product for each pair of blocks. In float32 that product is not exact for
    8-bit values, so the few candidates within its error are measured again in integers.

    Args:
        train: Training frames; all are searched.
        frames: The frames to answer for.
    """
    queries = frames.reshape(len(frames), -1)
    known = train.reshape(len(train), -1)
    result = np.empty(len(frames), dtype=np.int64)
    for start in range(0, len(frames), _QUERY_CHUNK):
        part = slice(start, start + _QUERY_CHUNK)
        result[part] = _nearest(known, queries[part])
    return result


def _nearest(known: UInt8[np.ndarray, "k v"], queries: UInt8[np.ndarray, "n v"]) -> Int[np.ndarray, " n"]:
    left = torch.from_numpy(queries.astype(np.float32))
    blocks = []
    for start in range(0, len(known), _KNOWN_CHUNK):
        right = torch.from_numpy(known[start : start + _KNOWN_CHUNK].astype(np.float32))
        blocks.append((right * right).sum(dim=1) - 2 * left @ right.T)
    distances = torch.cat(blocks, dim=1).numpy()
    lengths = (left * left).sum(dim=1).numpy()
    # Rounding of float32 sums of this length stays far below this share of the terms.
    slack = 1e-4 * (lengths + distances.max(axis=1) - distances.min(axis=1))
    best = np.zeros(len(queries), dtype=np.int64)
    for row, near in enumerate(distances <= (distances.min(axis=1) + slack)[:, None]):
        candidates = np.flatnonzero(near)
        difference = known[candidates].astype(np.int32) - queries[row]
        best[row] = candidates[np.argmin((difference * difference).sum(axis=1, dtype=np.int64))]
    return best


def seen_in_training(train: TrainFrames, frames: Frames) -> Bool[np.ndarray, " n"]:
    """Which frames equal a training frame in every value; such frames are no test and are dropped."""
    known = {frame.tobytes() for frame in train}
    return np.array([frame.tobytes() in known for frame in frames], dtype=bool)


def uniform_loss(codebook_size: int) -> float:
    """Nats per token of an answer that knows nothing.

    Example:
        >>> round(uniform_loss(512), 3)
        6.238
    """
    return math.log(codebook_size)


def position_frequency_loss(train: TrainSequences, tokens: Sequences, codebook_size: int) -> float:
    """Nats per token of a table of how often each code stood at each position, one added to each count.

    Args:
        train: Training sequences, from which the table is made.
        tokens: The sequences to predict.
        codebook_size: Number of codes.
    """
    length = train.shape[1]
    positions = np.arange(length)
    counts = np.ones((length, codebook_size))
    np.add.at(counts, (np.broadcast_to(positions, train.shape), train), 1)
    log_probability = np.log(counts / counts.sum(axis=1, keepdims=True))
    return -float(log_probability[np.broadcast_to(positions, tokens.shape), tokens].mean())


def previous_token_loss(train: TrainSequences, tokens: Sequences, codebook_size: int) -> float:
    """Nats per token of a table of which code follows which, one added to each count.

    The first token of a sequence follows a start token of its own, which has a row in the table too.

    Args:
        train: Training sequences, from which the table is made.
        tokens: The sequences to predict.
        codebook_size: Number of codes.
    """
    counts = np.ones((codebook_size + 1, codebook_size))
    np.add.at(counts, (_previous(train, codebook_size), train), 1)
    log_probability = np.log(counts / counts.sum(axis=1, keepdims=True))
    return -float(log_probability[_previous(tokens, codebook_size), tokens].mean())


def _previous(tokens: Sequences, start: int) -> Sequences:
    first = np.full((len(tokens), 1), start, dtype=tokens.dtype)
    return np.concatenate([first, tokens[:, :-1]], axis=1)
