"""Batches for training, without end, and for evaluation, in order; too many images that cannot be read stop a run.

Which image a sample is and what chance does to it are pure functions of (seed, sample number): the number of
worker processes, of training processes and the sample at which a run begins change nothing. A run numbers its
samples from 0 without end; with n images, samples e·n to (e+1)·n - 1 are epoch e.
"""

import itertools
import logging
import os
import signal
import warnings
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vqgan.data.source import Item, Source
from vqgan.data.transforms import Cut, TransformConfig, cut_layout, cut_map, cut_out, draw_cut
from vqgan.errors import DataError, VqganError
from vqgan.layout import Layout
from vqgan.stopping import SIGNALS
from vqgan.types import Batch, previous

logger = logging.getLogger(__name__)

MAX_TRIES = 100
"""How many images are tried for one sample."""

MAX_SHARE = 0.05
"""Tolerated share of images that cannot be read."""

MIN_TRIED = 100
"""The share is not judged before this many images, or all, were tried."""

MIN_BAD = 5
"""Fewer bad images are always tolerated: in a small folder, a single one can be more than the share."""

MAX_MAPS = 2000
"""Maps that are read before a training."""

ORDER, AUGMENTATION, CORRUPTION, VARIANTS, DROPOUT, PERTURBATION, NOISE = range(7)
"""What random numbers are for, which sets them apart from others of the same seed and number."""


def bits(seed: int, number: int, purpose: int) -> np.random.Philox:
    """One stream for each (seed, number, purpose); streams are 2^192 draws long."""
    key = np.array([seed, number], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, purpose], dtype=np.uint64))


def draws(seed: int, number: int, purpose: int) -> np.random.Generator:
    """The random numbers of that stream."""
    return np.random.Generator(bits(seed, number, purpose))


@lru_cache(maxsize=2)  # the batch at the end of an epoch also needs the next one
def permutation(size: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """The order of one epoch, from raw random bits: these never change with the version of numpy."""
    order = np.argsort(bits(seed, epoch, ORDER).random_raw(size), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def candidates(sample: int, size: int, seed: int) -> Iterator[int]:
    """The image of a sample, then those that take its place if it cannot be read.

    Those follow in the epoch's order, the first after the last. At most ``MAX_TRIES`` images are yielded.

    Example:
        >>> sorted(next(candidates(sample, size=5, seed=7)) for sample in range(5))
        [0, 1, 2, 3, 4]
    """
    epoch, position = divmod(sample, size)
    order = permutation(size, seed, epoch)
    return (int(order[(position + attempt) % size]) for attempt in range(min(size, MAX_TRIES)))


def sample_numbers(batch_size: int, start: int, rank: int, world: int) -> Iterator[range]:
    """The samples of each batch of one process; arguments as of :func:`training_batches`."""
    share = batch_size // world
    return (range(first, first + share) for first in itertools.count(start + rank * share, batch_size))


def training_batches(
    source: Source,
    transform: TransformConfig,
    *,
    batch_size: int,
    seed: int,
    workers: int = 0,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Generator[Batch, None, None]:
    """Batches without end: batch t of size B holds the samples ``start + tB`` to ``start + (t + 1)B - 1``.

    An image that cannot be read is reported in ``Batch.skipped``, and the next one in the epoch's order takes
    its place.

    Args:
        source: The images.
        transform: What is done to them.
        batch_size: Images of one batch over all training processes, a multiple of their number.
        seed: Of order and augmentation, ``0 <= seed < 2**63``.
        workers: Processes that read; 0 reads in this process.
        start: The first sample. Going to it costs nothing, however far it is.
        rank: Number of this training process; it takes the ``rank``-th share of each batch.
        world: Number of training processes.

    Raises:
        DataError: If too many images cannot be read, see :func:`refuse_too_many`.
    """
    share, samples = batch_size // world, sample_numbers(batch_size, start, rank, world)
    bad: dict[str, str] = {}
    for number, batch in enumerate(_read(_Reader(source, transform, seed), samples, workers), start=1):
        for label, reason in batch.skipped:
            if label not in bad:
                logger.warning("skipped `%s`: %s", label, reason)
            bad[label] = reason
        if len(batch.images) < share:  # no image could take the place of a bad one
            refuse_too_many(bad, len(bad), len(bad))
        elif batch.skipped:
            tried = max(number * share, len(bad) + 1)
            refuse_too_many(bad, min(tried, len(source)), len(source))
        yield batch


def evaluation_batches(
    source: Source, transform: TransformConfig, batch_size: int, limit: int | None = None, *, workers: int = 0
) -> Iterator[Batch]:
    """Every image once, in the source's order, cropped at the centre and never mirrored.

    The last batch may be smaller, and so is a batch with images that cannot be read: these are in
    ``Batch.skipped``, never an error and not logged; a batch may hold no image at all.
    ``Batch.sample`` is the number of the image in the source.

    Args:
        source: The images.
        transform: What is done to them, without random choices.
        batch_size: Images of one batch.
        limit: At most this many images, evenly spread over the source.
        workers: Processes that read; 0 reads in this process.
    """
    numbers = source.spread(limit)
    samples = (numbers[first : first + batch_size] for first in range(0, len(numbers), batch_size))
    return _read(_Reader(source, transform.without_chance(), None), samples, workers)


@dataclass(frozen=True)
class _Reader(Dataset[Batch | VqganError]):
    """Reads batches by sample numbers; without a seed the number of a sample is that of its image."""

    source: Source
    transform: TransformConfig
    seed: int | None

    def __getitem__(self, samples: Sequence[int]) -> Batch | VqganError:
        """Reads a batch; an error of ours is handed back whole: torch's loader would raise it as text."""
        try:
            return self._read(samples)
        except VqganError as error:
            return error

    def _read(self, samples: Sequence[int]) -> Batch:
        wanted = self.transform
        good: list[_Sample] = []
        bad: dict[str, str] = {}
        for sample in samples:
            one = (sample,) if self.seed is None else candidates(sample, len(self.source), self.seed)
            for index in one:
                with noting(bad, self.source, index):
                    item = self._item(index)
                    shape, chance = item.pixels.shape, draws(self.seed or 0, sample, AUGMENTATION)
                    cut = draw_cut((shape[0], shape[1]), wanted, chance)
                    values = self._values(item, cut, None if self.seed is None else chance)
                    if texts := self.source.captions[index : index + 1]:
                        number = 0 if self.seed is None else int(chance.integers(len(texts[0])))
                        values["text"] = texts[0][number]
                    good.append(
                        _Sample(cut_out(item.pixels, wanted, cut), cut, sample, item.class_index, values)
                    )
                    break
        condition: dict[str, Any] = {}
        if self.source.class_names:
            condition["class"] = torch.tensor([each.class_index for each in good], dtype=torch.int64)
        if wanted.coordinates:
            maps = [each.cut.coordinates(wanted.image_size) for each in good]
            condition["coordinates"] = _stacked(maps, 1, *wanted.image_size)
        for name in good[0].values if good else ():
            parts = [each.values[name] for each in good]
            condition[name] = parts if isinstance(parts[0], Layout | str) else torch.stack(parts)
        corners = torch.tensor([each.cut.corner for each in good]).view(-1, 2).long()
        return Batch(
            images=_stacked([each.image for each in good], wanted.image_channels, *wanted.window()),
            condition=condition,
            sample=torch.tensor([each.number for each in good], dtype=torch.int64),
            skipped=tuple(bad.items()),
            corner=corners if wanted.context else None,
        )

    def _values(self, item: Item, cut: Cut, chance: np.random.Generator | None) -> dict[str, Any]:
        """The conditions of a sample, cut out of those of its image."""
        values: dict[str, Any] = {}
        for name, value in item.condition.items():
            if isinstance(value, Layout):
                values[name] = cut_layout(value, self.transform, cut, chance)
            elif isinstance(value, int):
                values[name] = torch.tensor(value)
            else:
                values[name] = cut_map(value, self.transform, cut, is_pose=name == "pose")
        (top, left), (rows, columns) = cut.corner, self.transform.image_size
        for number, pixels in enumerate(item.previous, start=1):
            frame = cut_out(pixels, self.transform, cut)
            values[previous(number)] = frame[:, top : top + rows, left : left + columns]
        return values

    def _item(self, index: int) -> Item:
        wanted = self.transform
        if wanted.labels or wanted.stretch:
            return self.source.read_map(index, wanted.labels)
        # For grey images, colour is resized, then made grey.
        channels = 3 if wanted.image_channels == 1 else wanted.image_channels
        return self.source.read(index, channels, wanted.smallest_side())


class _Sample(NamedTuple):
    """An image as it is trained on, how it was cut out, its number and class, and its other conditions by name."""

    image: Tensor
    cut: Cut
    number: int
    class_index: int | None
    values: Mapping[str, Any]


def _stacked(tensors: Sequence[Tensor], *shape: int) -> Tensor:
    """A batch of tensors of this shape, also if there are none."""
    return torch.stack(list(tensors)) if tensors else torch.empty(0, *shape)


def _read(reader: _Reader, samples: Iterable[Sequence[int]], workers: int) -> Iterator[Batch]:
    """Reads in this process, or ahead in others, which end with this iterator."""
    with warnings.catch_warnings():
        # More workers than processors is the caller's choice: workers wait for a slow disk more than they compute.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        results = iter(
            DataLoader(
                reader,
                sampler=samples,
                batch_size=None,
                num_workers=workers,
                worker_init_fn=_leave_signals_to_the_parent,
                # Otherwise the loader draws from torch's global generator.
                generator=torch.Generator(),
            )
        )
    try:
        for result in results:
            if isinstance(result, VqganError):
                raise result
            yield result
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = " ".join(str(error).split())
        hint = "lower the number of workers; often memory or shared memory is short"
        raise DataError(f"a process that reads images died: {reason}", hint=hint) from None
    finally:
        del results  # ends the workers now: the traceback of an error would keep them until it is collected


def _leave_signals_to_the_parent(worker: int) -> None:
    """Signals may come to all processes of a group or job: workers must live until the parent has saved."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # The parent may end a worker that hangs by a second one.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL) and None)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def check_source(source: Source, channels: int) -> None:
    """Checks images before a training, evenly spread over the source.

    Raises:
        DataError: If too many of them cannot be read, see :func:`refuse_too_many`.
    """
    numbers = source.spread(source.max_checked)
    bad: dict[str, str] = {}
    animated: list[str] = []
    for index in numbers:
        with noting(bad, source, index):
            if source.check(index, channels) > 1:
                animated.append(source.label(index))
    refuse_too_many(bad, len(numbers), len(numbers))
    if animated:
        what = (
            "%d files have several frames (for example `%s`): the first is used; `data.frames: all` uses all"
        )
        logger.warning(what, len(animated), animated[0])


def check_maps(source: Source, labels: int) -> None:
    """Reads maps before a training, at most 2,000, evenly spread over the source.

    Args:
        source: The maps.
        labels: How many labels there are; 0 for maps of values.

    Raises:
        DataError: If one cannot be read as such: more would be wrong. It names the first five.
    """
    numbers, what = source.spread(MAX_MAPS), "label maps" if labels else "maps"
    bad: dict[str, str] = {}
    for index in numbers:
        with noting(bad, source, index):
            source.read_map(index, labels)
    if bad:
        rows = [f"  `{label}`: {reason}" for label, reason in [*bad.items()][:5]]
        rows += [f"  and {len(bad) - 5} more"] if len(bad) > 5 else []
        raise DataError(
            "\n".join([f"{len(bad)} of {len(numbers)} {what} cannot be used:", *rows]),
            hint="a map has one number for each pixel, in grey, in the indices of a palette or in an array"
            + f"; there are {labels} labels, `tokenizer.autoencoder.image_channels`" * bool(labels),
        )


def refuse_too_many(bad: Mapping[str, str], tried: int, total: int) -> None:
    """Raises DataError if too many images cannot be read.

    These are 5 images and more than 5 % of at least 100 tried (or of all there are), or all that were tried.

    Args:
        bad: Those that cannot be read: label to reason.
        tried: How many were tried.
        total: How many there are.
    """
    if not bad or tried < min(MIN_TRIED, total):
        return
    if len(bad) == tried or (len(bad) >= MIN_BAD and len(bad) > MAX_SHARE * tried):
        raise DataError(
            f"too many images cannot be read: {len(bad)} of {tried} tried, "
            f"at most {MAX_SHARE:.0%} are skipped\n{_table(bad)}",
            hint="repair or remove these files, or give a list without them",
        )


def _table(bad: Mapping[str, str]) -> str:
    """The most frequent reasons, each with the number of files and one of them."""
    labels: dict[str, list[str]] = defaultdict(list)
    for label, reason in bad.items():
        labels[reason].append(label)
    rows = sorted(labels.items(), key=lambda row: -len(row[1]))
    lines = [f"  {len(own):6}  {reason}  (`{own[0]}`)" for reason, own in rows[:5]]
    if len(rows) > 5:
        lines.append(f"  {sum(len(own) for _, own in rows[5:]):6}  for other reasons")
    return "\n".join(lines)


@contextmanager
def noting(bad: dict[str, str], source: Source, index: int) -> Iterator[None]:
    """Around the reading of an image: where that fails, adds its label and the reason, without its name, to ``bad``."""
    try:
        yield
    except DataError as error:
        label = source.label(index)
        bad[label] = error.message.removeprefix(f"cannot read `{label}`: ")
