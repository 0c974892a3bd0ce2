"""The demo: collect frames, train both stages, measure them on held-out frames, write pictures and a report."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from vqgan.checkpoints.load import load
from vqgan.checkpoints.run_folder import RunFolder
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
from vqgan.demo.report import write_demo_report
from vqgan.errors import ConfigError, require
from vqgan.images import grid, save_png, to_float, to_uint8
from vqgan.output_files import make_folder, write_json
from vqgan.runs import train
from vqgan.synthesizer import Synthesizer
from vqgan.types import OnProgress

SAMPLE_TOP_P = 0.95
"""Samples and completions omit the least probable codes, which together have 5 %."""

SCALE = 3
"""Pictures of small frames are enlarged this many times, pixel by pixel."""

QUICK = ("training.steps=30", "training.batch_size=4", "training.evaluate_images=64", "training.pictures=4")
QUICK_STAGES = {"tokenizer": "tokenizer.autoencoder.base_channels=32", "prior": "prior.depth=2"}
"""What makes both stages of the demo small, and what each."""


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
    meter = _Meter(folder, {"quick": quick, "seed": seed, "digits": digits})
    with meter("collection"):
        frames = _frames(source, on_progress)
    for stage, small in QUICK_STAGES.items():
        with meter(stage, resumed=True):
            out = folder / stage
            if RunFolder(out).numbers():
                train(None, resume=out, device=device, on_progress=on_progress)
                continue
            train(
                f"{'digits' if digits else 'demo'}-{stage}",
                data=source,
                out=out,
                tokenizer=folder / "tokenizer" if stage == "prior" else None,
                overrides=(*QUICK, small) if quick else (),
                device=device,
                precision="auto",  # everything is measured in fp32
                seed=seed,
                on_progress=on_progress,
            )
    with meter("measurement"):
        numbers = _measure(folder, digits, frames, seed, on_progress or (lambda progress: None))
    numbers |= {name: meter.kept[name] for name in ("seconds", "peak_memory_bytes")}
    numbers["seconds_total"] = sum(numbers["seconds"].values())
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


class _Meter:
    """Time of each phase and the most memory of a process, over interruptions too.

    Args:
        folder: The demo's folder, in which they are kept.
        request: What the demo is a function of.

    Raises:
        ConfigError: If the folder holds a demo of another request.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any]) -> None:
        self._path = folder / "resources.json"
        self.kept: dict[str, Any] = {"request": request, "seconds": {}, "peak_memory_bytes": 0}
        if self._path.exists():
            self.kept |= {"request": {}} | json.loads(self._path.read_text(encoding="utf-8"))
        require(
            self.kept["request"].items() >= request.items(),
            f"`{folder}` holds another demo (quick or not, other images or seed), or one of an earlier version",
            hint="give another folder with `out=`, or remove this one to start over",
        )
        make_folder(folder)
        write_json(self._path, self.kept)

    @contextmanager
    def __call__(self, phase: str, *, resumed: bool = False) -> Iterator[None]:
        """Measures a block; the time of a ``resumed`` one is added to what it took before."""
        begun = time.perf_counter()
        before = self.kept["seconds"].get(phase, 0.0) if resumed else 0.0
        try:
            yield
        finally:
            self.kept["seconds"][phase] = before + time.perf_counter() - begun
            self.kept["peak_memory_bytes"] = max(self.kept["peak_memory_bytes"], peak_memory())
            write_json(self._path, self.kept)


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


def peak_memory() -> int:
    """The most memory that this process, or one it started, has held, in bytes; 0 where it is not known."""
    if sys.platform == "win32":
        return 0
    import resource

    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most if sys.platform == "darwin" else most * 1024
