"""The numbers of a tokenizer and a prior on held-out frames, each beside what it has to beat."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8

from vqgan.evaluation.baselines import (
    TrainFrames,
    TrainLabels,
    mean_image,
    nearest_frame,
    position_frequency_loss,
    previous_token_loss,
    room_mean,
    room_median,
    room_medians,
    seen_in_training,
    uniform_loss,
)
from vqgan.evaluation.reconstruction import (
    Frames,
    Labels,
    codebook_usage,
    moving_mask,
    moving_psnr,
    reconstruction_psnr,
)
from vqgan.images import to_float, to_uint8
from vqgan.prior import to_tokens
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer

Grids = Int[np.ndarray, "n h w"]
TrainGrids = Int[np.ndarray, "k h w"]
OnFrames = Callable[[str, int, int], None]
"""Told the phase, the frames done and all frames."""

_BATCH = 64


@dataclass(frozen=True)
class Split:
    """Training and held-out frames, and the room of each; held-out frames seen in training are left out.

    Attributes:
        train: Training frames.
        train_rooms: Their rooms.
        heldout: Held-out frames that equal no training frame.
        heldout_rooms: Their rooms.
        dropped: Held-out frames that were left out.
    """

    train: TrainFrames
    train_rooms: TrainLabels
    heldout: Frames
    heldout_rooms: Labels
    dropped: int


def split_frames(
    train: TrainFrames, train_rooms: TrainLabels, heldout: Frames, heldout_rooms: Labels
) -> Split:
    """Drops the held-out frames that equal a training frame: memory alone would pass on them."""
    seen = seen_in_training(train, heldout)
    return Split(train, train_rooms, heldout[~seen], heldout_rooms[~seen], int(seen.sum()))


@torch.no_grad()
def encode_frames(tokenizer: Tokenizer, frames: UInt8[np.ndarray, "n H W c"], report: OnFrames) -> Grids:
    """The codes of frames, in batches."""
    grids = []
    for start in range(0, len(frames), _BATCH):
        grids.append(tokenizer.encode(to_float(frames[start : start + _BATCH])).cpu().numpy())
        report("encoding", min(start + _BATCH, len(frames)), len(frames))
    return np.concatenate(grids)


@torch.no_grad()
def decode_grids(tokenizer: Tokenizer, grids: Grids, report: OnFrames) -> UInt8[np.ndarray, "n H W c"]:
    """The frames of codes, in batches."""
    frames = []
    for start in range(0, len(grids), _BATCH):
        images = tokenizer.decode(torch.from_numpy(grids[start : start + _BATCH]))
        frames.append(to_uint8(images.float().cpu()).numpy())
        report("decoding", min(start + _BATCH, len(grids)), len(grids))
    return np.concatenate(frames)


def reconstruction_numbers(
    split: Split, reconstructions: UInt8[np.ndarray, "n H W c"], grids: Grids, codebook_size: int
) -> dict[str, float]:
    """PSNR of the reconstructions, over all pixels and over the moving ones, and of the baselines; usage."""
    frames, rooms = split.heldout, split.heldout_rooms
    nearest = split.train[nearest_frame(split.train, frames)]
    medians = room_medians(split.train, split.train_rooms)
    moving = moving_mask(frames, rooms, medians)
    background = room_median(medians, frames, rooms)
    return {
        "reconstruction_psnr": reconstruction_psnr(frames, reconstructions),
        "mean_image_psnr": reconstruction_psnr(frames, mean_image(split.train, frames)),
        "room_mean_psnr": reconstruction_psnr(
            frames, room_mean(split.train, split.train_rooms, frames, rooms)
        ),
        "nearest_frame_psnr": reconstruction_psnr(frames, nearest),
        "moving_psnr": moving_psnr(frames, reconstructions, moving),
        "background_moving_psnr": moving_psnr(frames, background, moving),
        "moving_share": float(moving.mean()),
        "codebook_usage": codebook_usage(grids, codebook_size),
    }


@torch.no_grad()
def prior_numbers(
    synthesizer: Synthesizer, train: TrainGrids, heldout: Grids, classes: Labels | None, report: OnFrames
) -> dict[str, float]:
    """Nats per token of the prior on held-out codes, and of the tables made from training codes."""
    total = 0.0
    grid = (heldout.shape[1], heldout.shape[2])
    name = synthesizer.conditioner.name
    for start in range(0, len(heldout), _BATCH):
        part = torch.from_numpy(heldout[start : start + _BATCH])
        tokens_read = to_tokens(part, synthesizer.config.token_order)
        value = None if classes is None else {name: classes[start : start + _BATCH].tolist()}
        condition = synthesizer.conditioner.tokens(value, len(part), grid)
        total -= float(synthesizer.prior.log_probability(tokens_read, condition).double().sum())
        report("scoring", min(start + _BATCH, len(heldout)), len(heldout))
    codes = synthesizer.tokenizer.codebook_size
    train_tokens, tokens = train.reshape(len(train), -1), heldout.reshape(len(heldout), -1)
    return {
        "prior_loss": total / tokens.size,
        "position_frequency_loss": position_frequency_loss(train_tokens, tokens, codes),
        "previous_token_loss": previous_token_loss(train_tokens, tokens, codes),
        "uniform_loss": uniform_loss(codes),
    }


def codebook_mosaic(frames: Frames, grids: Grids, codebook_size: int) -> UInt8[np.ndarray, "k s s c"]:
    """A picture of each code, the most frequent first: the mean of the squares at which it stands.

    Args:
        frames: Frames (best: reconstructions), whose sides are multiples of the token grid's.
        grids: Their codes.
        codebook_size: Number of codes; one that never occurs is grey.
    """
    count, rows, columns = grids.shape
    side = frames.shape[1] // rows
    squares = frames.reshape(count, rows, side, columns, side, -1).transpose(0, 1, 3, 2, 4, 5)
    codes = grids.ravel()
    order = np.argsort(codes, kind="stable")
    flat = squares.reshape(len(codes), -1)
    starts = np.searchsorted(codes[order], np.arange(codebook_size + 1))
    means = np.full((codebook_size, flat.shape[1]), 128, dtype=np.uint8)
    for code in np.flatnonzero(np.diff(starts)):
        means[code] = np.rint(flat[order[starts[code] : starts[code + 1]]].mean(axis=0))
    frequent = np.argsort(-np.diff(starts), kind="stable")
    return means[frequent].reshape(codebook_size, side, side, -1)
