"""How good a model is: what a tokenizer keeps, what a prior knows, how like real images the drawn ones are."""

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from vqgan.checkpoints.format import tokenizer_of
from vqgan.checkpoints.load import load_with_header, precision_of
from vqgan.data import Data
from vqgan.data.source import Source
from vqgan.errors import require
from vqgan.evaluation.copies import nearest_pictures
from vqgan.evaluation.features import FeatureNetwork
from vqgan.evaluation.fidelity import MULTISCALE, Pictures, fidelity, perceptual_distances, squared_errors
from vqgan.evaluation.memory import peak_memory
from vqgan.evaluation.numbers import Conventions, Number, PerPicture
from vqgan.evaluation.sets import (
    NEIGHBOURS,
    Features,
    OtherFeatures,
    inception_score,
    kernel_distance,
    neighbour_numbers,
)
from vqgan.evaluation.tokens import Grids, baseline_losses, codebook_numbers
from vqgan.images import Pixels
from vqgan.nn.perceptual import MIN_SIDE, fits
from vqgan.quality.agreement import agreement_numbers, complete_halves
from vqgan.quality.judges import Judges, distance, open_judges
from vqgan.quality.looks import attention, receptive_fields
from vqgan.quality.seen import Known, Seen, batches_of, known_images, open_images, pixels_of
from vqgan.sampling import SamplingSettings
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer, decode_within, memory_budget
from vqgan.training.perturbation import PerturbationConfig, near_codes
from vqgan.training.run import DataConfig
from vqgan.types import OnProgress, Progress

MAX_IMAGES, MAX_TRAINING, SHOWN = 2000, 5000, 16
"""Held-out images that are measured unless more are asked for, training images that are compared with, and how many
drawn ones are shown."""

PERTURBED = PerturbationConfig(images=1.0, codes=0.1, nearest=100)
"""How codes are replaced by near ones, to see how much a decoder forgives (Qiu et al. 2025)."""

_BATCH_SIZE = 32


@dataclass
class Evaluation:
    """What was found.

    Attributes:
        model: The digest of the weights, and what kind they are.
        conventions: What the numbers depend on beside the model.
        numbers: By part and name.
        notes: What a reader should know.
        pictures: Pictures of values 0 to 255 by name, for a page: `real`, `rebuilt`, `drawn`, `nearest`.
        figures: Whole figures by name: `reach`, and of a prior `attention` and `completed`.
        grids: Codes of the held-out images.
        codebook_size: Number of codes.
        labels: What the network of `--features` calls each image and its reconstruction, if it knows classes.
    """

    model: Mapping[str, str]
    conventions: Conventions = field(default_factory=dict)
    numbers: dict[str, dict[str, Number]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pictures: dict[str, Pictures] = field(default_factory=dict)
    figures: dict[str, Pixels] = field(default_factory=dict)
    grids: Grids = field(default_factory=lambda: np.zeros((0, 1, 1), np.int64))
    codebook_size: int = 0
    labels: list[tuple[str, str]] = field(default_factory=list)


@torch.no_grad()
def evaluate(
    path: str | Path,
    data: Data = None,
    *,
    size: tuple[int, int] | None = None,
    images: int = MAX_IMAGES,
    samples: int | None = None,
    features: str = "latents",
    reference: str | Path | None = None,
    lpips: str | Path | None = None,
    judge: Mapping[str, str] | None = None,
    settings: SamplingSettings = SamplingSettings(),  # noqa: B008 (it cannot change)
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    precision: str = "fp32",
    memory: int | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measures a tokenizer or a prior on images that it was not trained on: numbers, with their conventions.

    Args:
        path: A run folder, or a file.
        data: All of these images are measured, or what such a source itself holds out. By default the held-out images
            of the run; a file that lies in no run folder needs them.
        size: Height and width to which images are brought; by default the run's, or the model's own.
        images: At most so many, evenly spread over the source.
        samples: How many a prior draws, with the conditions of the measured images in turn; by default as many.
        features: What sets of images are compared by: ``latents`` (of the model's own tokenizer, so two models cannot
            be compared), ``imagenet-lite`` (extra `features`), the run or file of a classifier, the file of FID's
            Inception, or the folder of DINOv2, CLIP or another network of transformers (extra `clip`).
        reference: An ``.npz`` with mean and covariance (`mu`, `sigma`): Frechet distances are taken to these instead.
        lpips: A file with the weights of LPIPS; by default those that a training left in the cache, if any.
        judge: What reads conditions out of drawn images, by name: see :func:`~vqgan.quality.readers.open_readers`.
        settings: How samples are drawn.
        config: Of a published checkpoint that lacks it.
        overrides: What a checkpoint's own configuration does not say.
        device: Where to compute.
        precision: Of the weights.
        memory: Bytes beside the weights; by default as :meth:`~vqgan.synthesizer.Synthesizer.reconstruct` has them.
        on_progress: Told after each batch.

    Raises:
        ConfigError: If nothing says which images, a number is out of range, or the model is one of label maps.
        CheckpointError: If a file cannot be read, or is no such model.
        DataError: If images or statistics cannot be read.
    """
    require(images >= 1, f"`images` is {images}, expected at least 1")
    require(samples is None or samples >= 2, f"`samples` is {samples}, expected at least 2")
    model, header = load_with_header(Path(path), config, overrides, device=device, precision=precision)
    tokenizer = tokenizer_of(model, path)
    assert isinstance(model, Synthesizer | Tokenizer), "only these have a tokenizer"
    what = f"`{path}` makes label maps, expected pictures"
    require(not tokenizer.config.label_names, what, hint="their mIoU is in the run's `metrics.jsonl`")
    opened, tell = open_images(Path(path), model, size, data), on_progress or (lambda progress: None)
    judges = open_judges(features, reference, lpips, judge or {}, model=model, size=opened[0].image_size)
    found = Evaluation({"digest": header.digest[:12], "kind": header.kind}, notes=list(judges.notes))
    how: dict[str, Any] = {"settings": settings, "memory": memory_budget(memory, tokenizer.weight.device)}
    _measure(found, model, opened, judges, images=images, samples=samples, tell=tell, **how)
    return found


def _peak(device: torch.device, images: int) -> dict[str, Number]:
    """The most memory that was held so far, where it is known."""
    if device.type == "cuda":
        most, note = torch.cuda.max_memory_allocated(device), "of the card"
    else:
        most, note = peak_memory(), "of the process, Python and PyTorch included"
    return {"peak_gb": Number(most / 1e9, images, note=note)} if most else {}


def _measure(
    found: Evaluation,
    model: Synthesizer | Tokenizer,
    opened: tuple[DataConfig, Source | None, Source],
    judges: Judges,
    *,
    images: int,
    samples: int | None,
    settings: SamplingSettings,
    memory: int,
    tell: OnProgress,
) -> None:
    """Fills an evaluation; arguments as of :func:`evaluate`."""
    framing, known, others = opened
    tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
    seen = Seen.of(model, batches_of(others, framing, tokenizer, images, tell), framing.image_size, memory)
    if len(seen.real) < 2:
        found.notes.append("One image: nothing can be said of sets, and there are no intervals.")
    found.conventions = {
        **_conventions(others, framing, len(seen.real)),
        **judges.conventions(),
        "precision": precision_of(model),
    }
    found.grids, found.codebook_size = seen.grids, tokenizer.codebook_size
    found.pictures = {"real": seen.real, "rebuilt": seen.rebuilt}
    real = judges.network.of_real(seen.real)
    _add_tokenizer(found, tokenizer, seen, judges, real, memory)
    found.numbers["receptive_field"], found.figures["reach"] = receptive_fields(tokenizer, seen)
    if isinstance(model, Synthesizer):
        train = None
        if known is not None:
            read = batches_of(known, framing, tokenizer, MAX_TRAINING, tell)
            train = known_images(tokenizer, read, framing.image_size)
        _add_prior(found, model, seen, train)
        found.figures["attention"] = attention(model, seen, memory)
        chosen = {name: getattr(settings, name) for name in ("temperature", "top_k", "top_p", "guidance")}
        how = {"seed": settings.seed, "memory": memory, **chosen}
        drawn, seconds = _draw(model, seen, samples or max(2, len(seen.real)), how, tell)
        _add_samples(found, seen, train, drawn, judges, real)
        found.numbers["samples"]["images_per_second"] = Number(len(drawn) / seconds, len(drawn))
        found.numbers["agreement"] = agreement_numbers(seen, drawn, judges.readers)
        if seen.grids.shape[1] > 1:
            halves, found.figures["completed"] = complete_halves(model, seen, len(drawn), **how)
            found.numbers["agreement"] |= halves
    found.numbers["memory"] = _peak(tokenizer.weight.device, len(seen.real))


def _conventions(source: Source, framing: DataConfig, images: int) -> Conventions:
    return {
        "data": source.fingerprint[:12],
        "size": list(framing.image_size),
        "resize": framing.transform(3).without_chance().resize,
        "crop": "centre",
        "values": "8 bits",
        "usage": "of all images together",
        "images": images,
    }


def _add_tokenizer(
    found: Evaluation, tokenizer: Tokenizer, seen: Seen, judges: Judges, real: Features, memory: int
) -> None:
    """Fidelity, the distance of reconstructions from images, and how much it grows if codes are replaced."""
    count, network = len(seen.real), judges.network
    numbers = fidelity(seen.real, seen.rebuilt) | _lpips(found, judges, seen)
    height, width = found.conventions["size"]
    if min(height, width) < MULTISCALE:
        found.notes.append(
            f"No MS-SSIM: images of {height}x{width} pixels are too small for its five scales."
        )
    elif "ms_ssim" not in numbers:
        found.notes.append("No MS-SSIM: it needs torchmetrics, `pip install vqgan[eval]`.")
    rebuilt = network.of(seen.rebuilt)
    if count >= 2:
        perturbed = network.of(_perturbed(tokenizer, seen.grids, memory))
        numbers |= judges.distances({"": rebuilt, "_perturbed": perturbed}, real)
    if count >= 4:
        halves = real[::2][: count // 2], real[1::2][: count // 2]
        note = "of two halves of the images: what chance alone gives"
        numbers[f"{network.distance}_of_halves"] = distance(*halves, note=note)
    numbers |= _labels(found, network, real, rebuilt)
    numbers["images_per_second"] = Number(count / max(seen.seconds, 1e-9), count)
    used = codebook_numbers(seen.grids, tokenizer.codebook_size)
    found.numbers |= {"reconstruction": numbers, "codebook": used}


def _lpips(found: Evaluation, judges: Judges, seen: Seen) -> dict[str, Number]:
    """LPIPS of the reconstructions; a note says why not."""
    height, width, channels = seen.real.shape[1:]
    if judges.lpips is None:
        found.notes.append(
            "No LPIPS: its weights are not in the cache. `--lpips FILE` names a file that holds them, such as an "
            "original checkpoint; a training with `task.perceptual` downloads them into the cache."
        )
    elif not fits(channels, height, width):
        what = f"images of {height}x{width} pixels and {channels} channels"
        found.notes.append(f"No LPIPS: {what}, it needs {MIN_SIDE} pixels a side and 1 or 3 channels.")
    else:
        return {"lpips": Number.mean(perceptual_distances(judges.lpips, seen.real, seen.rebuilt))}
    return {}


def _labels(
    found: Evaluation, network: FeatureNetwork, real: Features, rebuilt: Features
) -> dict[str, Number]:
    """Whether reconstructions are taken for what the images are, by a network that knows classes."""
    images, others = network.classes(real), network.classes(rebuilt)
    if images is None or others is None:
        return {}
    found.labels = [
        (network.label(each), network.label(own)) for each, own in zip(images, others, strict=True)
    ]
    kept = (images.argmax(1) == others.argmax(1)).double().numpy()
    return {"labels_kept": Number.share(kept, note=f"by {network.name}")}


def _perturbed(tokenizer: Tokenizer, grids: Grids, memory: int) -> Pictures:
    """Images of codes of which a tenth was replaced by near ones."""
    vectors, parts = tokenizer.quantizer.codebook_vectors(), []
    for numbers in torch.arange(len(grids)).split(_BATCH_SIZE):
        indices = torch.from_numpy(grids[numbers.numpy()]).to(vectors.device)
        near = near_codes(indices, vectors, numbers, config=PERTURBED, seed=0)
        parts.append(pixels_of(decode_within(tokenizer, near, memory)))
    return np.concatenate(parts)


def _add_prior(found: Evaluation, model: Synthesizer, seen: Seen, train: Known | None) -> None:
    """Nats per token and bits per pixel of a prior, beside tables of frequencies."""
    numbers = {name: Number.mean(each.mean(axis=1)) for name, each in seen.nats.items()}
    tokens, (height, width) = seen.grids[0].size, seen.real.shape[1:3]
    share = tokens / (height * width * math.log(2))
    numbers["bits_per_pixel"] = Number.mean(seen.nats["loss"].mean(axis=1), lambda nats: nats * share)
    size = model.tokenizer.codebook_size
    known = (
        {"uniform_loss": math.log(size)} if train is None else baseline_losses(train.grids, seen.grids, size)
    )
    tables = {name: Number(value, seen.grids.size, note="baseline") for name, value in known.items()}
    found.numbers["prior"] = numbers | tables


def _draw(
    model: Synthesizer, seen: Seen, count: int, how: Mapping[str, Any], tell: OnProgress
) -> tuple[Pictures, float]:
    """Images with the conditions of the measured ones, in turn, and the seconds that they took."""
    size, started = (seen.real.shape[1], seen.real.shape[2]), time.perf_counter()
    parts, done = list[Pictures](), 0
    for condition, batch in itertools.cycle(zip(seen.conditions, seen.sizes, strict=True)):
        if done == count:
            break
        now = min(batch, count - done)
        asked = None if condition is None else {name: values[:now] for name, values in condition.items()}
        images = model.sample(now, size, asked, **{**how, "seed": how["seed"] + done})
        parts.append(pixels_of(images))
        done += now
        tell(Progress("drawing", done, count))
    return np.concatenate(parts), time.perf_counter() - started


def _add_samples(
    found: Evaluation,
    seen: Seen,
    train: Known | None,
    drawn: UInt8[np.ndarray, "s H W c"],
    judges: Judges,
    real: OtherFeatures,
) -> None:
    """How like real images drawn ones are, and whether they are copies."""
    found.conventions = {**found.conventions, "samples": len(drawn)}
    found.pictures["drawn"] = drawn
    features = judges.network.of(drawn)
    probabilities = judges.network.classes(features)
    numbers = dict[str, Number]()
    if len(real) >= 2:
        numbers |= judges.distances({"": features}, real)
        value, error = kernel_distance(features, real)
        # Not an interval: the subsets are of the same images, of which there may be few.
        numbers["kernel"] = Number(
            value, len(drawn), note=f"{error:.2g} is its standard error over subsets" * (error > 0)
        )
    if min(len(drawn), len(real)) > NEIGHBOURS:
        near = neighbour_numbers(real, features)
        numbers |= {name: Number(each, len(drawn)) for name, each in near.items()}
    if probabilities is not None:
        numbers["inception_score"] = Number(inception_score(probabilities), len(drawn))
    found.numbers["samples"] = numbers
    if train is None:
        found.notes.append(
            "The training images are not known: no tables of frequencies, no search for copies."
        )
        return
    found.pictures["nearest"] = train.pictures[nearest_pictures(train.pictures, drawn[:SHOWN])]
    usual, own = (_distances(train.pictures, each) for each in (seen.real, drawn))
    note = "equal to a training image, or nearer to one than 99 % of the held-out images"
    is_copy = (own == 0) | (own < np.quantile(usual, 0.01))
    numbers["copies"] = Number.mean(is_copy.astype(float), note=note)
    note = f"held-out: {np.median(usual):.2f}"
    numbers["distance_of_nearest"] = Number(float(np.median(own)), len(own), note=note)


def _distances(train: UInt8[np.ndarray, "k H W c"], pictures: Pictures) -> PerPicture:
    """Root mean square difference from the nearest training image, of 255."""
    return np.sqrt(squared_errors(pictures, train[nearest_pictures(train, pictures)]))
