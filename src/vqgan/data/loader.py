"""Batches for training, without end, and for evaluation, in order.

Order and augmentation follow from (seed, sample number) alone (see ``order.py``): the number of worker
processes, of training processes and the sample at which a run begins change nothing.
"""

import itertools
import os
import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vqgan.config import require
from vqgan.data.base import Source
from vqgan.data.order import augmentation, candidates
from vqgan.data.skipping import Read, SkippedImages, reason_of
from vqgan.data.transforms import TransformConfig, transform
from vqgan.errors import DataError, VqganError
from vqgan.types import Batch


@dataclass(frozen=True)
class Loader:
    """An endless sequence of batches; every iteration begins anew at ``start``.

    Batch t of size B holds the samples ``start + tB`` to ``start + (t + 1)B - 1``. An image that cannot be
    read is reported in ``Batch.skipped``, and the next one in the epoch's order takes its place. Too many of
    them are a DataError of the iteration, see :class:`SkippedImages`.

    Attributes:
        source: The images.
        transform: What is done to them.
        batch_size: Images of one batch, over all training processes together.
        seed: Of order and augmentation, ``0 <= seed < 2**63``.
        workers: Processes that read; 0 reads in this process.
        start: The first sample. Going to it costs nothing, however far it is.
        rank: Number of this training process; it takes the ``rank``-th share of each batch.
        world: Number of training processes.

    Raises:
        ConfigError: If the batch cannot be shared equally, or a number is out of its range.
    """

    source: Source
    transform: TransformConfig
    _: KW_ONLY
    batch_size: int
    seed: int
    workers: int = 0
    start: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"`batch_size` is {self.batch_size}, expected at least 1")
        require(0 <= self.seed < 1 << 63, f"`seed` is {self.seed}, expected 0 to 2^63 - 1")
        require(self.workers >= 0, f"`workers` is {self.workers}, expected 0 or more")
        require(self.start >= 0, f"`start` is {self.start}, expected 0 or more")
        require(0 <= self.rank < self.world, f"`rank` is {self.rank}, expected 0 to {self.world - 1}")
        require(
            self.batch_size % self.world == 0,
            f"`batch_size` {self.batch_size} cannot be shared equally by {self.world} processes",
            hint=f"make it a multiple of {self.world}",
        )

    def __iter__(self) -> Iterator[Batch]:
        share = self.batch_size // self.world
        firsts = itertools.count(self.start + self.rank * share, self.batch_size)
        samples = (range(first, first + share) for first in firsts)
        watch = SkippedImages(len(self.source))
        for read in _read(_Reader(self.source, self.transform, self.seed), samples, self.workers):
            watch.add(read)
            yield read.batch


def evaluation_batches(
    source: Source, transform: TransformConfig, batch_size: int, limit: int | None = None, *, workers: int = 0
) -> Iterator[Batch]:
    """Every image once, in the source's order, cropped at the centre and never mirrored.

    The last batch may be smaller, and so is a batch with images that cannot be read: these are in
    ``Batch.skipped``, never an error and not logged, so that a batch may hold no image at all.
    ``Batch.sample`` is the number of the image in the source.

    Args:
        source: The images.
        transform: What is done to them, apart from chance.
        batch_size: Images of one batch.
        limit: At most this many images, evenly spread over the source.
        workers: Processes that read; 0 reads in this process.

    Raises:
        ConfigError: If a number is out of its range.
    """
    require(batch_size >= 1, f"`batch_size` is {batch_size}, expected at least 1")
    require(limit is None or limit >= 1, f"`limit` is {limit}, expected at least 1")
    count = len(source) if limit is None else min(limit, len(source))
    numbers = [i * len(source) // count for i in range(count)]
    samples = (numbers[first : first + batch_size] for first in range(0, count, batch_size))
    for read in _read(_Reader(source, transform.without_chance(), None), samples, workers):
        yield read.batch


@dataclass(frozen=True)
class _Reader:
    """Reads batches by sample numbers; without a seed the number of a sample is that of its image."""

    source: Source
    transform: TransformConfig
    seed: int | None

    def __call__(self, samples: Sequence[int]) -> Read:
        wanted = self.transform
        images: list[Tensor] = []
        classes: list[int] = []
        numbers: list[int] = []
        tried: list[int] = []
        bad: list[int] = []
        skipped: list[tuple[str, str]] = []
        for sample in samples:
            for index in self._candidates(sample):
                tried.append(index)
                try:
                    item = self.source.read(index, wanted.image_channels, wanted.smallest_side())
                    image = transform(item.pixels, wanted, augmentation(sample, self.seed or 0))
                except DataError as error:
                    bad.append(index)
                    label = self.source.label(index)
                    skipped.append((label, reason_of(error, label)))
                    continue
                images.append(image)
                numbers.append(sample)
                if item.class_index is not None:
                    classes.append(item.class_index)
                break
        shape = (0, self.transform.image_channels, *self.transform.image_size)
        batch = Batch(
            images=torch.stack(images) if images else torch.empty(shape),
            condition={"class": torch.tensor(classes, dtype=torch.int64)} if self.source.class_names else {},
            sample=torch.tensor(numbers, dtype=torch.int64),
            skipped=tuple(skipped),
        )
        return Read(batch, tuple(tried), tuple(bad))

    def _candidates(self, sample: int) -> Iterable[int]:
        return (sample,) if self.seed is None else candidates(sample, len(self.source), self.seed)


class _Tasks(Dataset[Read | VqganError]):
    """A reader as torch's loader wants it: an error of ours is handed back whole, not as text."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def __getitem__(self, samples: Sequence[int]) -> Read | VqganError:
        try:
            return self._reader(samples)
        except VqganError as error:
            return error


def _read(reader: _Reader, samples: Iterable[Sequence[int]], workers: int) -> Iterator[Read]:
    return map(reader, samples) if workers == 0 else _from_workers(reader, samples, workers)


def _from_workers(reader: _Reader, samples: Iterable[Sequence[int]], workers: int) -> Iterator[Read]:
    """Reads ahead in processes, which end with this iterator."""
    with warnings.catch_warnings():
        # More workers than processors is the caller's choice: a slow disk is waited for, not computed.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        results = iter(
            DataLoader(
                _Tasks(reader),
                sampler=samples,
                batch_size=None,
                num_workers=workers,
                collate_fn=_unchanged,  # type: ignore[arg-type]  # without a batch size it gets one result
                worker_init_fn=_leave_signals_to_the_parent,
                # Without one of its own the loader draws from torch's global generator.
                generator=torch.Generator(),
            )
        )
    try:
        while (result := _next(results)) is not None:
            if isinstance(result, VqganError):
                raise result
            yield result
    finally:
        del results  # ends the workers now: the traceback of an error would keep them until it is collected


def _next(results: Iterator[Read | VqganError]) -> Read | VqganError | None:
    try:
        return next(results, None)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = " ".join(str(error).split())
        hint = "lower the number of workers; often memory or shared memory is short"
        return DataError(f"a process that reads images died: {reason}", hint=hint)


def _unchanged(result: Read | VqganError) -> Read | VqganError:
    return result


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C and `timeout` signal a whole process group: workers must live until the parent has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
