"""The demo: collect frames, train both stages, measure them on held-out frames, write pictures and a report."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from vqgan.data import SourceConfig, open_source
from vqgan.data.atari import AtariConfig, AtariSource
from vqgan.data.digits import DigitsConfig
from vqgan.demo.measures import (
    Frames,
    RoomFrames,
    decode_grids,
    encode_frames,
    prior_numbers,
    reconstruction_numbers,
)
from vqgan.demo.phases import Demo
from vqgan.demo.report import write_demo_report
from vqgan.demo.sprites import Sprites
from vqgan.errors import ConfigError
from vqgan.evaluation.tokens import codebook_mosaic
from vqgan.images import to_float, to_uint8
from vqgan.synthesizer import Synthesizer
from vqgan.types import OnProgress

DRAWN, QUICK_DRAWN = 256, 8
"""New frames whose things are compared with those of the game."""

SCREEN: Mapping[str, Any] = {"scale": 1, "rows": (6, 198)}
"""What keeps the screen's own pixels."""

SCREEN_EVERY = 3
"""Every which held-out frame of the screen is measured: they have four times the pixels."""

SAMPLE_TOP_P = 0.95
"""Samples and completions omit the least probable codes, which together have 5 %."""

QUICK_STAGES = {"tokenizer": ["tokenizer.autoencoder.base_channels=32"], "prior": ["prior.depth=1"]}
"""What else makes each stage of the demo small."""


def run_demo(demo: Demo, *, screen: bool = False) -> dict[str, Any]:
    """Trains and measures both stages; an interrupted demo continues where it was.

    Args:
        demo: What is asked for, and its folder.
        screen: Whether to keep the screen's own pixels, 192x160, in place of averages of 2x2.

    Returns:
        The numbers of ``report.json``.

    Raises:
        ConfigError: If neither ale-py nor scikit-learn is installed (for the screen ale-py), or its folder
            holds another demo.
        Preempted: After a signal; everything is saved.
    """
    source = _source(demo.quick, screen)
    digits = isinstance(source, DigitsConfig)
    family = "screen" if screen else "digits" if digits else "demo"
    demo.begin(**({"screen": True} if screen else {"digits": digits}))
    with demo.phase("collection"):
        frames = _frames(source, demo.on_progress)
        if screen:
            kept = slice(None, None, SCREEN_EVERY)
            frames = replace(frames, heldout=frames.heldout[kept], heldout_rooms=frames.heldout_rooms[kept])
    for stage, small in QUICK_STAGES.items():
        demo.train(stage, f"{family}-{stage}", small=small, data=source)
    with demo.phase("measurement"):
        numbers = _measure(demo, digits, frames)
    return demo.finish(numbers, write_demo_report)


def _source(quick: bool, screen: bool) -> SourceConfig:
    """Frames of several rooms of Montezuma's Revenge; digits where ale-py is not installed."""
    if screen or find_spec("ale_py") is not None:
        size: dict[str, Any] = {**SCREEN} if screen else {}
        # The quick demo plays two seconds, in one room.
        size |= {"frames": 10_000, "max_frames": 100} if quick else {}
        return AtariConfig(games=("MontezumaRevenge",), **size)
    if find_spec("sklearn") is not None:
        return DigitsConfig()
    raise ConfigError(
        "the demo needs ale-py (Atari frames) or scikit-learn (digits)",
        hint='install the extra: pip install "vqgan[demo]"',
    )


def _frames(config: SourceConfig, on_progress: OnProgress) -> RoomFrames:
    """All frames of a source, and the room of each; digits have their class in its place."""
    whole, arrays = open_source(config, on_progress), list[Any]()
    for part in (whole.part("train"), whole.part("heldout")):
        items = [part.read(index) for index in range(len(part))]
        rooms = part.rooms if isinstance(part, AtariSource) else [item.class_index for item in items]
        arrays += [np.stack([item.pixels for item in items]), np.asarray(rooms)]
    return RoomFrames(*arrays).without_seen()


def _measure(demo: Demo, digits: bool, frames: RoomFrames) -> dict[str, Any]:
    """All numbers, and all pictures but the curves."""
    synthesizer, on_progress = demo.prior(), demo.on_progress
    tokenizer = synthesizer.tokenizer
    train_grids = encode_frames(tokenizer, frames.train, on_progress)
    grids = encode_frames(tokenizer, frames.heldout, on_progress)
    reconstructions = decode_grids(tokenizer, grids, on_progress)
    classes = frames.heldout_rooms if digits else None
    numbers, moving = reconstruction_numbers(frames, reconstructions, grids, tokenizer.codebook_size)
    chosen = busy_frames(frames.heldout_rooms, moving.mean(axis=(1, 2)))
    labels = None if classes is None else classes[chosen].tolist()
    _draw(demo, synthesizer, frames.heldout[chosen], reconstructions[chosen], labels)
    codes = codebook_mosaic(reconstructions, grids, tokenizer.codebook_size)
    _save(demo, "codes", codes, 32)
    if not digits:
        known = decode_grids(tokenizer, train_grids, on_progress)
        sprites = Sprites(frames, rebuilt=known, heldout=reconstructions)
        drawn = synthesizer.sample(QUICK_DRAWN if demo.quick else DRAWN, seed=demo.seed, top_p=SAMPLE_TOP_P)
        numbers["unknown_things"], numbers["things"] = sprites.unknown(to_uint8(drawn).numpy())
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
    demo: Demo, model: Synthesizer, frames: Frames, reconstructions: Frames, classes: list[int] | None
) -> None:
    """The pictures of reconstructions, new samples and completions."""
    columns, name = len(frames), model.conditioner.name
    how: dict[str, Any] = {"seed": demo.seed, "top_p": SAMPLE_TOP_P}
    _save(demo, "reconstructions", np.concatenate([frames, reconstructions]), columns)
    condition = None if classes is None else {name: [label % 10 for label in range(16)]}
    _save(demo, "samples", to_uint8(model.sample(16, condition=condition, **how)).numpy(), 8)
    half = frames.copy()
    half[:, frames.shape[1] // 2 :] = 128
    twice, (rows, _) = to_float(np.concatenate([frames, frames])), model.config.window
    known = torch.zeros(len(twice), *model.config.window, dtype=torch.bool)
    known[:, : rows // 2] = True
    condition = None if classes is None else {name: 2 * classes}
    completed = to_uint8(model.complete(twice, known, condition, **how)).numpy()
    _save(demo, "completions", np.concatenate([frames, half, completed]), columns)


def _save(demo: Demo, name: str, frames: Frames, columns: int) -> None:
    """Frames, enlarged so that single pixels can be seen."""
    demo.save(name, to_float(frames), columns=columns, scale=3)
