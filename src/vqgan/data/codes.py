"""Codes on disk in place of images: the samples that ``vqgan encode --data`` wrote, memory-mapped."""

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from vqgan.config import Config, Count, Natural
from vqgan.data.loader import permutation, sample_numbers
from vqgan.data.source import Item, Source, Split
from vqgan.data.transforms import Framing
from vqgan.errors import ConfigError, DataError, printable, reason_of, require
from vqgan.types import Batch

INDEX = "samples.json"


class CodesConfig(Config, frozen=True, tag_field="kind", tag="codes"):
    """Samples that ``vqgan encode --data`` wrote.

    Attributes:
        path: Their folder.
    """

    path: str


class CodesRecord(Config, frozen=True):
    """What ``samples.json`` holds. Of pairs, the first is of what is trained on, the second of what is held out.

    Attributes:
        tokenizer: The digest of the tokenizer.
        framing: How images became samples.
        seed: Of order and augmentation.
        copies: Samples of each image that is trained on.
        shard: Training samples of a file: row r of file f is sample ``f * shard + r`` of a run with this seed.
        class_names: Names of the classes.
        fingerprints: Of the images.
        labels: What messages call each image.
        captions: Of each image, if they have any.
        files: Name and digest of each file of samples, once all are written.
    """

    tokenizer: str
    framing: Framing
    seed: Natural
    copies: Count
    shard: Count
    class_names: tuple[str, ...]
    fingerprints: list[str]
    labels: list[list[str]]
    captions: list[list[list[str]]]
    files: list[dict[str, str]]

    def __post_init__(self) -> None:
        super().__post_init__()
        is_whole = all(len(each) == 2 for each in (self.fingerprints, self.labels, self.captions, self.files))
        for labels, texts in zip(self.labels, self.captions, strict=False):
            is_whole = is_whole and len(labels) > 0 and len(texts) in (0, len(labels))
        require(is_whole, "its lists are not as long as each other")


def read_record(folder: Path) -> CodesRecord:
    """What a folder of codes records.

    Raises:
        DataError: If it holds none, or the record is damaged.
    """
    try:
        # Not by `msgspec.json`, which refuses names that are not UTF-8.
        return msgspec.convert(json.loads((folder / INDEX).read_bytes()), CodesRecord)
    except OSError as error:
        hint = "give a folder that `vqgan encode MODEL --data SOURCE` wrote"
        raise DataError(f"cannot read codes from `{folder}`: {reason_of(error)}", hint=hint) from None
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise DataError(f"`{folder / INDEX}` is damaged: {error}") from None


class CodesSource(Source):
    """Samples as batches of codes, with labels, classes and captions of their images.

    Args:
        folder: Where they are.
        part: 0: those to train on; 1: those held out.

    Raises:
        DataError: If a file is damaged or missing.
    """

    def __init__(self, folder: Path, part: int = 0) -> None:
        self._folder, self._part, self.name = folder, part, str(folder)
        self.record = record = read_record(folder)
        self.class_names, self._labels = record.class_names, record.labels[part]
        self.captions = record.captions[part]
        self._texts = [text for each in self.captions for text in each]
        total = len(self._labels) * (1 if part else record.copies)
        size = total if part else record.shard
        counts = (min(size, total - first) for first in range(0, total, size))
        fields = {"codes", "is_read", *["class"] * bool(self.class_names), *["text"] * bool(self._texts)}
        files = chain(record.files[part].items(), [(INDEX, "")])  # the last one where others are missing
        self._shards = [
            _opened(folder / name, digest, count, fields)
            for count, (name, digest) in zip(counts, files, strict=False)
        ]

    def __len__(self) -> int:
        return len(self._labels)

    def part(self, split: Split) -> "CodesSource":
        """The samples that are held out, or else those to train on, which are all that can be trained on."""
        return CodesSource(self._folder, 1) if split == "heldout" else self

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """Raises ConfigError: there are no pictures."""
        what = f"`{self.name}` holds codes, but here pictures are needed"
        raise ConfigError(what, hint="give the images themselves")

    def label(self, index: int) -> str:
        """The image's own label."""
        return self._labels[index]

    @property
    def fingerprint(self) -> str:
        """A hash of the images' and of all codes."""
        whole = self.record.fingerprints[self._part], self.record.files
        return hashlib.sha256(repr(whole).encode()).hexdigest()

    def training_batches(
        self, seed: int, *, batch_size: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Generator[Batch, None, None]:
        """Batches of the images that :func:`~vqgan.data.loader.training_batches` would show, without end.

        Epoch e shows copy e of each, modulo the number of copies. With the recorded seed, the first are the very same
        samples; others have the same copies in another order.
        """
        count, copies = len(self), self.record.copies
        for numbers in sample_numbers(batch_size, start, rank, world):
            rows = []
            for epoch, place in (divmod(sample, count) for sample in numbers):
                image, copy = permutation(count, seed, epoch)[place], epoch % copies
                rows.append(copy * count + int(_places(count, self.record.seed, copy)[image]))
            yield self._batch(rows, numbers)

    def evaluation_batches(self, batch_size: int, limit: int) -> Iterator[Batch]:
        """As :func:`~vqgan.data.loader.evaluation_batches`."""
        numbers = self.spread(limit)
        parts = (numbers[first : first + batch_size] for first in range(0, len(numbers), batch_size))
        return (self._batch(part, part) for part in parts)

    def _batch(self, rows: Sequence[int], numbers: Sequence[int]) -> Batch:
        places = (divmod(row, self.record.shard) if self._part == 0 else (0, row) for row in rows)
        found = np.stack([self._shards[shard][row] for shard, row in places])
        is_read = found["is_read"]
        found, condition = found[is_read], dict[str, Any]()
        if self.class_names:
            condition["class"] = torch.from_numpy(found["class"].astype(np.int64))
        if self._texts:
            condition["text"] = [self._texts[number] for number in found["text"]]
        indices, samples = torch.from_numpy(found["codes"].astype(np.int64)), np.array(numbers)[is_read]
        images = torch.empty(len(found), 1, 0, 0)
        return Batch(images, condition, torch.from_numpy(samples), indices=indices)


def _opened(path: Path, digest: str, count: int, fields: set[str]) -> np.ndarray:
    """A file of so many samples, memory-mapped; DataError if it is not what was written."""
    try:
        reason = "it is not as it was written, or not all was written"
        if path.is_file():  # to open a pipe could wait forever
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            shard = np.lib.format.open_memmap(path, "r") if found == digest else np.empty(0)
            if shard.shape == (count,) and fields == {*(shard.dtype.names or ())}:
                return shard
    except Exception as error:  # a damaged header raises anything
        reason = reason_of(error) if isinstance(error, OSError) else printable(error)
    hint = "repeat the `vqgan encode` that wrote it: it encodes what is missing or damaged"
    raise DataError(f"cannot read `{printable(path)}`: {reason}", hint=hint)


@lru_cache(maxsize=2)
def _places(size: int, seed: int, epoch: int) -> np.ndarray:
    """Where each image stands in the order of an epoch."""
    return np.argsort(permutation(size, seed, epoch))
