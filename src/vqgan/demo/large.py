"""The large demo: a sky of 2048x2048 pixels, drawn by stages that learned from crops of one picture, and measured."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.data import open_source
from vqgan.data.sample import SampleConfig
from vqgan.data.source import Source
from vqgan.demo.large_report import write_large_report
from vqgan.demo.phases import Demo
from vqgan.evaluation.copies import nearest_patch
from vqgan.evaluation.growth import write_rows
from vqgan.evaluation.memory import MemoryWatch
from vqgan.evaluation.texture import Picture, cut_patches, latent_features, seam_ratio
from vqgan.evaluation.texture_numbers import texture_numbers
from vqgan.images import read_pixels, to_float
from vqgan.output_files import make_folder
from vqgan.sampling import SamplingSettings
from vqgan.synthesizer import Synthesizer
from vqgan.types import DrawnTokens, OnProgress, Progress

SIDE, QUICK_SIDE = 2048, 384
"""Pixels of the picture's sides."""

QUICK_STAGES = {
    "tokenizer": ["training.steps=12", "training.pictures=0", "tokenizer.autoencoder.base_channels=32"],
    "prior": [
        *("training.steps=12", "training.pictures=0", "data.cached_codes=1"),
        *("prior.depth=1", "prior.width=64"),
    ],
}
"""What else makes each stage of the demo small."""

FRAMES, PARTS = 16, 8
"""Frames of the growing picture, and parts of it whose time is measured."""

PATCH, DETAIL = 64, 192
"""Pixels of the sides of what is compared, and of what is shown in full."""

PICTURE = "picture/sky.png"


def run_large_demo(demo: Demo) -> dict[str, Any]:
    """Trains both stages on the Hubble Deep Field, draws a sky and measures it; an interrupted demo continues.

    Returns:
        The numbers of ``report.json``.

    Raises:
        ConfigError: If scikit-image is not installed, or the folder holds another demo.
        OutputError: If a file cannot be written.
        Preempted: After a signal; everything is saved.
    """
    demo.begin(large=True)
    for stage, small in QUICK_STAGES.items():
        demo.train(stage, f"deepfield-{stage}", small=small)
    model = demo.prior(device=demo.device)
    drawing = _draw(demo, model, QUICK_SIDE if demo.quick else SIDE)
    with demo.phase("measurement"):
        measured = _measure(demo, model.cpu())
    numbers = {
        **drawing,
        **measured,
        "window": model.config.window[0] * model.tokenizer.downsample_factor,
        "downsample_factor": model.tokenizer.downsample_factor,
        "tokenizer_heldout_psnr": _last(demo.folder / "tokenizer", "heldout_psnr"),
        "prior_heldout_loss": _last(demo.folder / "prior", "heldout_loss"),
        "uniform_loss": math.log(model.tokenizer.codebook_size),
    }
    return demo.finish(numbers, write_large_report)


class _Pace:
    """Remembers when each part of the tokens was drawn, and passes the reports on."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._report, self._seen = on_progress, list[tuple[int, float]]()

    def __call__(self, progress: Progress) -> None:
        if isinstance(progress, DrawnTokens) and progress.step * PARTS >= len(self._seen) * progress.total:
            self._seen.append((progress.step, time.perf_counter()))
        self._report(progress)

    def seconds_per_token(self) -> list[float]:
        """Of each part; the first begins with the first report."""
        pairs = zip(self._seen, self._seen[1:], strict=False)
        return [(until - since) / (end - start) for (start, since), (end, until) in pairs]


def _draw(demo: Demo, model: Synthesizer, side: int) -> dict[str, Any]:
    """Draws the picture, with pyramid and growth; what that took."""
    path, size, pace = demo.folder / PICTURE, (side, side), _Pace(demo.on_progress)
    make_folder(path.parent)
    with MemoryWatch() as memory:
        with demo.phase("drawing"):
            bands = model.sample_rows(size, settings=SamplingSettings(seed=demo.seed), on_progress=pace)
        with demo.phase("decoding"):
            info = {"command": "demo", "seed": str(demo.seed), "size": f"{side}x{side}"}
            channels = model.tokenizer.image_channels
            write_rows(bands, path, size, channels=channels, info=info, frames=FRAMES)
    return {
        "picture_size": list(size),
        "tokens": math.prod(model.tokenizer.grid_size(size)),
        "seconds_per_token": pace.seconds_per_token(),
        "memory_before_drawing_bytes": memory.before,
        "drawing_memory_bytes": memory.most,
    }


def _measure(demo: Demo, model: Synthesizer) -> dict[str, Any]:
    """The textures of the picture, of the real one and of its reconstruction; how near unseen patches come by chance.

    Also writes details of the picture beside real ones.
    """
    whole = open_source(SampleConfig(names=("hubble",)), demo.on_progress)
    (trained,), heldout = (_pictures(whole.part(split)) for split in ("train", "heldout"))
    drawn, factor = to_float(read_pixels(demo.folder / PICTURE, 3)), model.tokenizer.downsample_factor
    rebuilt, window = model.reconstruct(trained[None])[0].clamp(-1, 1), model.config.window[0] * factor
    training = [trained, trained.flip(2)]  # mirrored too, as crops were in training
    features = latent_features(model.tokenizer)
    found: dict[str, Mapping[str, float]] = {}
    for number, (name, picture) in enumerate({"drawn": drawn, "real": trained, "rebuilt": rebuilt}.items()):
        demo.on_progress(Progress("measuring", number + 1, 3))
        known = training if name == "drawn" else training[:1]  # the others are near their own place
        rows, columns = seam_ratio(picture, window, step=factor)
        found[name] = {
            **texture_numbers(picture, heldout, known, features, period=factor, size=PATCH),
            "window_seam_rows": rows.value,
            "window_seam_rows_error": rows.error,
            "window_seam_columns": columns.value,
            "window_seam_columns_error": columns.error,
        }
    real = _detail(heldout[0])
    details = torch.stack([_detail(drawn), real, model.reconstruct(real[None])[0]])
    demo.save("details", details, columns=3)
    unseen = torch.cat([cut_patches(square, PATCH) for square in heldout])
    nearest = nearest_patch(model.reconstruct(unseen), training).distance.median()
    return {"textures": found, "heldout_nearest": float(nearest)}


def _pictures(source: Source) -> list[Picture]:
    return [to_float(source.read(index).pixels) for index in range(len(source))]


def _detail(picture: Picture) -> Float[Tensor, "c S S"]:
    """The middle of a picture."""
    top, left = ((side - DETAIL) // 2 for side in picture.shape[1:])
    return picture[:, top : top + DETAIL, left : left + DETAIL]


def _last(run: Path, name: str) -> float:
    """The newest value of a run's number."""
    lines = RunFolder(run).metrics.read_text(encoding="utf-8").splitlines()
    return next(row[name] for row in map(json.loads, reversed(lines)) if name in row)
