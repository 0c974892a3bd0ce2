"""The demo: collect frames, train both stages, measure them on held-out frames, write pictures and a report."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from vqgan.checkpoints.load import load
from vqgan.data import SourceConfig, open_source
from vqgan.data.atari import AtariConfig, AtariSource
from vqgan.data.digits import DigitsConfig
from vqgan.demo.measures import (
    Frames,
    RoomFrames,
    codebook_mosaic,
    decode_grids,
    encode_frames,
    prior_numbers,
    reconstruction_numbers,
)
from vqgan.demo.phases import Meter, train_stages
from vqgan.demo.report import write_demo_report
from vqgan.errors import ConfigError
from vqgan.images import grid, save_png, to_float, to_uint8
from vqgan.output_files import write_json
from vqgan.synthesizer import Synthesizer
from vqgan.types import OnProgress

SAMPLE_TOP_P = 0.95
"""Samples and completions omit the least probable codes, which together have 5 %."""

SCALE = 3
"""Pictures of small frames are enlarged this many times, pixel by pixel."""

QUICK_STAGES = {"tokenizer": ["tokenizer.autoencoder.base_channels=32"], "prior": ["prior.depth=2"]}
"""What else makes each stage of the demo small."""


def run_demo(
    folder: Path,
    *,
    quick: bool = False,
    seed: int = 0,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Trains and measures both stages; an interrupted demo continues where it was.

    Args:
        folder: Where ``tokenizer/``, ``prior/``, the pictures and the report go.
        quick: Everything small, in under a minute; the pictures then show no more than that all works.
        seed: Of both trainings and of the samples.
        device: Where to train.
        on_progress: Told about every step.

    Returns:
        The numbers of ``report.json``.

    Raises:
        ConfigError: If neither ale-py nor scikit-learn is installed, or the folder holds another demo.
        Preempted: After a signal; everything is saved.
    """
    source = _source(quick)
    digits = isinstance(source, DigitsConfig)
    meter = Meter(folder, {"quick": quick, "seed": seed, "digits": digits})
    with meter("collection"):
        frames = _frames(source, on_progress)
    train_stages(
        folder,
        meter,
        "digits" if digits else "demo",
        small=QUICK_STAGES if quick else None,
        data=source,
        device=device,
        seed=seed,
        on_progress=on_progress,
    )
    with meter("measurement"):
        numbers = _measure(folder, digits, frames, seed, on_progress or (lambda progress: None))
    numbers |= meter.numbers()
    write_json(folder / "report.json", numbers)
    write_demo_report(folder, numbers)
    return numbers


def _source(quick: bool) -> SourceConfig:
    """Frames of several rooms of Montezuma's Revenge; digits where ale-py is not installed."""
    if find_spec("ale_py") is not None:
        games = ("MontezumaRevenge",)  # the quick demo plays two seconds, in one room
        return AtariConfig(games=games, frames=10_000, max_frames=100) if quick else AtariConfig(games=games)
    if find_spec("sklearn") is not None:
        return DigitsConfig()
    raise ConfigError(
        "the demo needs ale-py (Atari frames) or scikit-learn (digits)",
        hint='install the extra: pip install "vqgan[demo]"',
    )


def _frames(config: SourceConfig, on_progress: OnProgress | None) -> RoomFrames:
    """All frames of a source, and the room of each; digits have their class in its place."""
    whole, arrays = open_source(config, on_progress), list[Any]()
    for part in (whole.part("train"), whole.part("heldout")):
        items = [part.read(index) for index in range(len(part))]
        rooms = part.rooms if isinstance(part, AtariSource) else [item.class_index for item in items]
        arrays += [np.stack([item.pixels for item in items]), np.asarray(rooms)]
    return RoomFrames(*arrays).without_seen()


def _measure(
    folder: Path, digits: bool, frames: RoomFrames, seed: int, on_progress: OnProgress
) -> dict[str, Any]:
    """All numbers, and all pictures but the curves."""
    synthesizer = load(folder / "prior", device="cpu")
    assert isinstance(synthesizer, Synthesizer), "a prior's run holds a synthesizer"
    tokenizer = synthesizer.tokenizer
    train_grids = encode_frames(tokenizer, frames.train, on_progress)
    grids = encode_frames(tokenizer, frames.heldout, on_progress)
    reconstructions = decode_grids(tokenizer, grids, on_progress)
    classes = frames.heldout_rooms if digits else None
    numbers, moving = reconstruction_numbers(frames, reconstructions, grids, tokenizer.codebook_size)
    chosen = busy_frames(frames.heldout_rooms, moving.mean(axis=(1, 2)))
    labels = None if classes is None else classes[chosen].tolist()
    _draw(folder, synthesizer, frames.heldout[chosen], reconstructions[chosen], labels, seed)
    _save(folder / "codes.png", codebook_mosaic(reconstructions, grids, tokenizer.codebook_size), columns=32)
    return {
        **numbers,
        **prior_numbers(synthesizer, train_grids, grids, classes, on_progress),
        "codebook_size": tokenizer.codebook_size,
        "downsample_factor": tokenizer.downsample_factor,
        "image_size": list(frames.heldout.shape[1:3]),
        "rooms": np.unique(frames.train_rooms).tolist(),
        "training_frames": len(frames.train),
        "heldout_frames": len(frames.heldout),
        "heldout_frames_seen_in_training": frames.dropped,
        "data": "digits" if digits else "atari",
    }


def busy_frames(rooms: Int[np.ndarray, " n"], moving_share: Float[np.ndarray, " n"]) -> list[int]:
    """Four frames with much that moves, each from another room as far as there are rooms.

    Of each room it is the frame whose share of moving pixels is the room's ninth decile: busy, but not a
    flash of the screen.
    """
    known, chosen = np.unique(rooms), list[int]()
    for turn in range(4):
        members = np.flatnonzero(rooms == known[turn % len(known)])
        ordered = members[np.argsort(moving_share[members], kind="stable")]
        place = int(0.9 * (len(ordered) - 1)) - turn // len(known)
        chosen.append(int(ordered[max(0, place)]))
    return chosen


def _draw(
    folder: Path,
    synthesizer: Synthesizer,
    frames: Frames,
    reconstructions: Frames,
    classes: list[int] | None,
    seed: int,
) -> None:
    """The pictures of reconstructions, new samples and completions."""
    _save(folder / "reconstructions.png", np.concatenate([frames, reconstructions]), columns=len(frames))
    name = synthesizer.conditioner.name
    condition = None if classes is None else {name: [label % 10 for label in range(16)]}
    samples = synthesizer.sample(16, condition=condition, seed=seed, top_p=SAMPLE_TOP_P)
    _save(folder / "samples.png", to_uint8(samples).numpy(), columns=8)
    half = frames.copy()
    half[:, frames.shape[1] // 2 :] = 128
    twice, (rows, columns) = to_float(np.concatenate([frames, frames])), synthesizer.config.window
    known = torch.zeros(len(twice), rows, columns, dtype=torch.bool)
    known[:, : rows // 2] = True
    condition = None if classes is None else {name: 2 * classes}
    completed = to_uint8(synthesizer.complete(twice, known, condition, seed=seed, top_p=SAMPLE_TOP_P))
    _save(folder / "completions.png", np.concatenate([frames, half, completed.numpy()]), columns=len(frames))


def _save(path: Path, frames: Frames, *, columns: int) -> None:
    """Frames side by side, enlarged so that single pixels can be seen."""
    large = frames.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    save_png(grid(to_float(large), columns=columns), path, {"command": "demo"})
