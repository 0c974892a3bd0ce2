"""The images that a model is measured on, and what becomes of them in it."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan.checkpoints.load import find_header
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.data import Data, open_source, source_of
from vqgan.data.codes import CodesSource
from vqgan.data.conditions import ConditionKind
from vqgan.data.given import MemoryConfig
from vqgan.data.loader import evaluation_batches
from vqgan.data.source import Source
from vqgan.errors import ConfigError, DataError, require
from vqgan.evaluation.fidelity import Pictures
from vqgan.evaluation.tokens import Grids
from vqgan.images import to_uint8
from vqgan.prior import to_tokens
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer, decode_within, encode_within
from vqgan.training.conditions import kinds_of, previous_frames
from vqgan.training.observer import to_device
from vqgan.training.prior_task import condition_of, encoded, without_context
from vqgan.training.run import DataConfig, PriorRun, open_sources, read_run
from vqgan.types import Batch, Condition, OnProgress, Progress

_BATCH_SIZE = 32
_GIVE = 'give `data="SOURCE"`, the images to measure'


def open_images(
    path: Path, model: Any, size: tuple[int, int] | None, data: Data
) -> tuple[DataConfig, Source | None, Source]:
    """How images are framed, those that were trained on where they are known, and those to measure."""
    folder, given = RunFolder(find_header(path)[0].parent), source_of(data)
    if folder.config.is_file():
        run = read_run(folder)[0]
        own = run.data.eval_source if given is None or isinstance(given, Source) else given
        framing = msgspec.structs.replace(run.data, image_size=size or run.data.image_size, eval_source=own)
        kinds, previous = dict[str, ConditionKind](), None
        if isinstance(run, PriorRun):
            kinds, previous = kinds_of(run, folder.weights("prior")), previous_frames(run)
        measured = run.data.source if own is None else own
        is_known = given is not None or not isinstance(measured, MemoryConfig)
        require(is_known, "the images of this run were given in Python", hint=_GIVE)
        is_lost = isinstance(run.data.source, MemoryConfig)  # no training images to compare with
        images = msgspec.structs.replace(framing, source=own) if is_lost else framing
        known, others = open_sources(
            images, (given if is_lost else None, given), kinds=kinds, previous=previous
        )
        return framing, None if is_lost or isinstance(known, CodesSource) else known, others
    if given is None:
        raise ConfigError(
            f"`{path}` lies in no run folder, so nothing says which images to measure", hint=_GIVE
        )
    whole = open_source(given)
    framing = DataConfig(image_size=size or _own_size(model, path), crop="center")
    return framing, None, whole.part("all" if whole.held_out is None else "heldout")


def _own_size(model: Synthesizer | Tokenizer, path: Path) -> tuple[int, int]:
    """What a prior draws, or a tokenizer was made for."""
    if isinstance(model, Synthesizer):
        rows, columns = (cells * model.tokenizer.downsample_factor for cells in model.config.window)
        return rows, columns
    layers = model.config.autoencoder
    if layers is None:
        raise ConfigError(f"`{path}` takes images of any size", hint="give `--size HEIGHTxWIDTH`")
    return layers.resolution, layers.resolution


def batches_of(
    source: Source, framing: DataConfig, tokenizer: Tokenizer, limit: int, tell: OnProgress
) -> Iterable[Batch]:
    """Images in order, on the device of the tokenizer; DataError if none can be read."""
    transform, done = framing.transform(tokenizer.image_channels, coordinates=True), 0
    total = min(limit, len(source))
    for batch in evaluation_batches(source, transform, _BATCH_SIZE, limit, workers=framing.workers):
        if len(batch.images):
            yield to_device(batch, tokenizer.weight.device)
        done += len(batch.images)
        tell(Progress("reading", done, total))
    if not done:
        raise DataError(f"none of the images in `{source.name}` can be read", hint="check the source")


@dataclass
class Seen:
    """Images that went through a model.

    Attributes:
        real: The images, as numbers from 0 to 255.
        rebuilt: What became of them.
        grids: Their codes.
        nats: Of each token, given the condition, by the prior; and without any, where it can tell.
        conditions: Of each batch.
        sizes: Of each batch.
        seconds: To encode and decode all.
    """

    real: Pictures
    rebuilt: Pictures
    grids: Grids
    nats: dict[str, Float[np.ndarray, "n t"]]
    conditions: list[Mapping[str, Any] | None]
    sizes: list[int]
    seconds: float

    @classmethod
    def of(
        cls, model: Synthesizer | Tokenizer, batches: Iterable[Batch], size: tuple[int, int], memory: int
    ) -> "Seen":
        """Encodes and decodes images, and asks a prior how probable their codes are."""
        tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
        parts: list[tuple[Pictures, Pictures, Grids]] = []
        nats: dict[str, list[Any]] = {}
        conditions: list[Mapping[str, Any] | None] = []
        sizes, seconds = list[int](), 0.0
        for batch in batches:
            started = time.perf_counter()
            has_context = batch.corner is not None
            indices = (
                encoded(tokenizer, batch, size)
                if has_context
                else encode_within(tokenizer, batch.images, memory)
            )
            rebuilt = pixels_of(decode_within(tokenizer, indices, memory))
            seconds += time.perf_counter() - started
            sizes.append(len(indices))
            real = pixels_of(without_context(batch.images, batch, size))
            parts.append((real, rebuilt, indices.cpu().numpy()))
            if isinstance(model, Synthesizer):
                condition = condition_of(model.conditioner, batch, size)
                conditions.append(condition)
                for name, each in _nats(model, indices, condition).items():
                    nats.setdefault(name, []).append(each)
        real, rebuilt, grids = (np.concatenate(each) for each in zip(*parts, strict=True))
        joined = {name: np.concatenate(each) for name, each in nats.items()}
        return cls(real, rebuilt, grids, joined, conditions, sizes, seconds)

    def asked(self, numbers: Sequence[int]) -> Condition | None:
        """The conditions of the images of these numbers; None where there are none."""
        places = [(batch, place) for batch, size in enumerate(self.sizes) for place in range(size)]
        chosen, first = [places[number] for number in numbers], next(iter(self.conditions), None)
        if first is None:
            return None
        values = {
            name: [(self.conditions[batch] or {})[name][place] for batch, place in chosen] for name in first
        }
        return {
            name: torch.stack(each) if isinstance(each[0], Tensor) else each for name, each in values.items()
        }


class Known(NamedTuple):
    """Images that were trained on, as numbers from 0 to 255, and their codes."""

    pictures: Pictures
    grids: Grids


def known_images(tokenizer: Tokenizer, batches: Iterable[Batch], size: tuple[int, int]) -> Known:
    """The pixels and codes of images."""
    parts = [
        (pixels_of(without_context(batch.images, batch, size)), encoded(tokenizer, batch, size).cpu().numpy())
        for batch in batches
    ]
    pictures, grids = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Known(pictures, grids)


def pixels_of(images: Tensor) -> Pictures:
    """Images with values in [-1, 1] as numbers from 0 to 255."""
    return to_uint8(images.float().cpu()).numpy()


def _nats(
    model: Synthesizer, indices: Int[Tensor, "b h w"], condition: Mapping[str, Any] | None
) -> dict[str, Float[np.ndarray, "b t"]]:
    """By the condition that is known, and without."""
    grid, conditioner = (indices.shape[1], indices.shape[2]), model.conditioner
    tokens = to_tokens(indices, model.config.token_order)
    asked = {"loss": (conditioner.tokens(condition, len(tokens), grid), conditioner.vectors(condition))}
    if model.config.has_null_tokens:
        asked["unconditional_loss"] = conditioner.null_tokens(len(tokens), grid), conditioner.vectors(None)
    found = {}
    for name, (given, vectors) in asked.items():
        scores = model.prior.with_vectors(vectors).log_probability(tokens, given.to(tokens.device), grid)
        found[name] = -scores.double().cpu().numpy()
    return found
