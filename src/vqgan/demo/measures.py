"""The numbers of a tokenizer and a prior on held-out frames, each beside the baselines it has to beat.

The baselines need no network: for pictures the mean training frame, the mean and the median of the room and the nearest
training frame; for tokens, in nats each, uniform, frequencies at each position, and which code follows which.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from vqgan.evaluation.copies import nearest_pictures
from vqgan.evaluation.psnr import pixels_psnr
from vqgan.evaluation.tokens import Grids, TrainGrids, baseline_losses
from vqgan.images import to_float, to_uint8
from vqgan.layout import Box
from vqgan.prior import to_tokens
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.types import OnProgress, Progress

TrainFrames = UInt8[np.ndarray, "k H W c"]
Frames = UInt8[np.ndarray, "n H W c"]

MOVING_THRESHOLD = 24
"""A pixel belongs to a moving thing when a channel differs by more than this from the room's median frame."""

MIN_AREA = 6
"""Pixels of the smallest moving thing that counts."""

_BATCH_SIZE = 64


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


def moving_pixels(frames: Frames, background: Frames) -> Bool[np.ndarray, "n H W"]:
    """Pixels of which a channel differs from the background by more than ``MOVING_THRESHOLD``."""
    difference = np.maximum(frames, background) - np.minimum(frames, background)
    return (difference > MOVING_THRESHOLD).any(axis=3)


def moving_boxes(frames: Frames, background: Frames, most: int) -> list[list[Box]]:
    """The boxes of what differs from the background: its connected parts, the largest ``most`` of each frame.

    Args:
        frames: Frames of one size.
        background: The empty scene of each.
        most: Boxes of a frame.
    """
    from scipy import ndimage  # type: ignore[import-untyped]  # with scikit-image, of the extra `demo`

    height, width = frames.shape[1:3]
    found = []
    for moving in moving_pixels(frames, background):
        numbered, count = ndimage.label(moving, structure=np.ones((3, 3)))
        areas = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
        parts = ndimage.find_objects(numbered)
        kept = [number for number in np.argsort(-areas, kind="stable")[:most] if areas[number] >= MIN_AREA]
        boxes = []
        for rows, columns in (parts[number] for number in sorted(kept)):
            size = (columns.stop - columns.start) / width, (rows.stop - rows.start) / height
            boxes.append((columns.start / width, rows.start / height, *size))
        found.append(boxes)
    return found


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
        "nearest_frame_psnr": pixels_psnr(heldout, frames.train[nearest_pictures(frames.train, heldout)]),
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
    known = baseline_losses(train, heldout, synthesizer.tokenizer.codebook_size)
    return {"prior_loss": total / heldout.size, **known}
