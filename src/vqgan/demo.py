"""The demo: collect frames, train both stages, measure them on held-out frames, write pictures and a report."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from vqgan.checkpoints.load import load
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.data import DigitsConfig, Source, SourceConfig, open_source
from vqgan.data.atari import AtariSource
from vqgan.errors import CheckpointError, ConfigError
from vqgan.evaluation.baselines import room_medians
from vqgan.evaluation.demo_report import write_demo_report
from vqgan.evaluation.reconstruction import moving_mask
from vqgan.evaluation.two_stages import (
    Split,
    codebook_mosaic,
    decode_grids,
    encode_frames,
    prior_numbers,
    reconstruction_numbers,
    split_frames,
)
from vqgan.images import grid, save_png, to_float, to_uint8
from vqgan.output_files import write_json
from vqgan.presets.demo import demo_source, quick_overrides
from vqgan.runs import read_run, resolve, train, with_data
from vqgan.synthesizer import Synthesizer
from vqgan.training.run import PriorRun, Run
from vqgan.types import OnProgress, Progress

DEMO_PRECISION = "auto"
"""Of the training; everything is measured in fp32."""


SAMPLE_TOP_P = 0.95
"""Samples and completions leave out the least probable codes, which together have 5 %."""

SCALE = 3
"""Pictures of small frames are enlarged so many times, pixel by pixel."""


def run_demo(
    folder: Path,
    *,
    quick: bool = False,
    seed: int = 0,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Trains and measures both stages; a demo that was interrupted goes on where it was.

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
    source = demo_source(quick=quick)
    digits, changes = isinstance(source, DigitsConfig), quick_overrides if quick else lambda stage: []
    wanted = {
        stage: with_data(resolve(f"{'digits' if digits else 'demo'}-{stage}", changes(stage)), source, None)
        for stage in ("tokenizer", "prior")
    }
    for stage, run in wanted.items():
        _refuse_another(RunFolder(folder / stage), run, seed)
    meter = _Meter(folder / "resources.json")
    with meter("collection"):
        sources = _parts(source, on_progress)
    for stage, run in wanted.items():
        with meter(stage, resumed=True):
            _train_stage(folder, stage, run, seed, device, on_progress)
    with meter("measurement"):
        numbers = _measure(folder, source, sources, seed, on_progress)
    numbers["seconds"] = meter.seconds
    numbers["seconds_total"] = sum(meter.seconds.values())
    numbers["peak_memory_bytes"] = meter.peak
    write_json(folder / "report.json", numbers)
    write_demo_report(folder, numbers)
    return numbers


def _parts(config: SourceConfig, on_progress: OnProgress | None) -> tuple[Source, Source]:
    whole = open_source(config, on_progress)
    return whole.part("train"), whole.part("heldout")


class _Meter:
    """Time of each phase and the most memory of a process, over interruptions too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = {}
        self.peak = 0
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self.seconds, self.peak = kept["seconds"], kept["peak_memory_bytes"]

    @contextmanager
    def __call__(self, phase: str, *, resumed: bool = False) -> Iterator[None]:
        """Measures a block; what is ``resumed`` goes on where it was, everything else is done again from the start."""
        begun = time.perf_counter()
        before = self.seconds.get(phase, 0.0) if resumed else 0.0
        try:
            yield
        finally:
            self.seconds[phase] = before + time.perf_counter() - begun
            self.peak = max(self.peak, peak_memory())
            if self._path.parent.is_dir():
                write_json(self._path, {"seconds": self.seconds, "peak_memory_bytes": self.peak})


def _refuse_another(folder: RunFolder, wanted: Run, seed: int) -> None:
    """Raises ConfigError if the folder holds a run of another demo: quick or not, other data, seed or version."""
    if not folder.numbers():
        return
    recorded, environment = read_run(folder)
    if isinstance(recorded, PriorRun) and isinstance(wanted, PriorRun):  # its classes come from the data
        recorded = msgspec.structs.replace(recorded, conditioner=wanted.conditioner)
    if recorded != wanted or environment["seed"] != seed:
        raise ConfigError(
            f"`{folder.path}` holds a run of another demo (quick or not, other images, seed or version)",
            hint="give another folder with `out=`, or remove this one",
        )


def _train_stage(
    folder: Path, stage: str, run: Run, seed: int, device: str, on_progress: OnProgress | None
) -> None:
    """Begins the stage's run, or goes on with it if it has saved before."""
    out = folder / stage
    if RunFolder(out).numbers():
        train(None, resume=out, device=device, on_progress=on_progress)
        return
    train(
        run,
        out=out,
        tokenizer=folder / "tokenizer" if stage == "prior" else None,
        device=device,
        precision=DEMO_PRECISION,
        seed=seed,
        on_progress=on_progress,
    )


def _measure(
    folder: Path,
    config: SourceConfig,
    sources: tuple[Source, Source],
    seed: int,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    """All numbers, and all pictures but the curves."""

    def report(phase: str, done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(Progress(phase, done, total))

    synthesizer = load(folder / "prior", device="cpu")
    if not isinstance(synthesizer, Synthesizer):
        raise CheckpointError(
            f"`{folder / 'prior'}` holds no prior", hint="remove the folder and start again"
        )
    tokenizer = synthesizer.tokenizer
    (frames, rooms), (heldout, heldout_rooms) = (_frames(source) for source in sources)
    split = split_frames(frames, rooms, heldout, heldout_rooms)
    train_grids = encode_frames(tokenizer, split.train, report)
    grids = encode_frames(tokenizer, split.heldout, report)
    reconstructions = decode_grids(tokenizer, grids, report)
    numbers: dict[str, Any] = reconstruction_numbers(split, reconstructions, grids, tokenizer.codebook_size)
    classes = split.heldout_rooms if isinstance(config, DigitsConfig) else None
    numbers |= prior_numbers(synthesizer, train_grids, grids, classes, report)
    numbers |= {
        "codebook_size": tokenizer.codebook_size,
        "downsample_factor": tokenizer.downsample_factor,
        "image_size": list(split.heldout.shape[1:3]),
        "rooms": sorted({int(room) for room in split.train_rooms}),
        "training_frames": len(split.train),
        "heldout_frames": len(split.heldout),
        "heldout_frames_seen_in_training": split.dropped,
        "data": sources[0].name,
    }
    chosen = telling_frames(split)
    _draw(
        folder,
        synthesizer,
        split.heldout[chosen],
        reconstructions[chosen],
        None if classes is None else classes[chosen],
        seed,
    )
    _save(folder / "codes.png", codebook_mosaic(reconstructions, grids, tokenizer.codebook_size), columns=32)
    return numbers


def _frames(source: Source) -> tuple[Any, Any]:
    """All frames of a source, and the room of each; digits have their class in its place."""
    items = [source.read(index) for index in range(len(source))]
    frames = np.stack([item.pixels for item in items])
    if isinstance(source, AtariSource):
        return frames, source.rooms.astype(np.int64)
    return frames, np.array([item.class_index or 0 for item in items], dtype=np.int64)


def telling_frames(split: Split) -> list[int]:
    """Four held-out frames with much that moves, each from another room as far as there are rooms.

    Of each room it is the frame whose share of moving pixels is the room's ninth decile: busy, but not a
    flash of the screen.
    """
    moving = moving_mask(split.heldout, split.heldout_rooms, room_medians(split.train, split.train_rooms))
    share = moving.mean(axis=(1, 2))
    rooms = [int(room) for room in np.unique(split.heldout_rooms)]
    chosen: list[int] = []
    for turn in range(4):
        members = np.flatnonzero(split.heldout_rooms == rooms[turn % len(rooms)])
        ordered = members[np.argsort(share[members], kind="stable")]
        place = int(0.9 * (len(ordered) - 1)) - turn // len(rooms)
        chosen.append(int(ordered[max(0, place)]))
    return chosen


def _draw(
    folder: Path, synthesizer: Synthesizer, frames: Any, reconstructions: Any, classes: Any, seed: int
) -> None:
    """The pictures of reconstructions, new samples and completions."""
    _save(folder / "reconstructions.png", np.concatenate([frames, reconstructions]), columns=len(frames))
    name, images = synthesizer.conditioner.name, to_float(frames)
    labels = None if classes is None else {name: [label % 10 for label in range(16)]}
    samples = synthesizer.sample(16, condition=labels, seed=seed, top_p=SAMPLE_TOP_P)
    _save(folder / "samples.png", to_uint8(samples).numpy(), columns=8)
    rows, columns = synthesizer.config.window
    known = torch.zeros(len(frames), rows, columns, dtype=torch.bool)
    known[:, : rows // 2] = True
    given = None if classes is None else {name: classes.tolist()}
    completed = [
        to_uint8(
            synthesizer.complete(images, known, given, seed=seed + 100 * turn, top_p=SAMPLE_TOP_P)
        ).numpy()
        for turn in range(2)
    ]
    half = frames.copy()
    half[:, frames.shape[1] // 2 :] = 128
    _save(folder / "completions.png", np.concatenate([frames, half, *completed]), columns=len(frames))


def _save(path: Path, frames: Any, *, columns: int) -> None:
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
