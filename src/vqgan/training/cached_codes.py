"""Training samples of a prior that are random crops of codes: those of whole pictures, encoded once, with shifts."""

import logging
import time
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqgan.data.loader import (
    AUGMENTATION,
    VARIANTS,
    bits,
    candidates,
    draws,
    noting,
    refuse_too_many,
    sample_numbers,
)
from vqgan.data.source import Item, Source
from vqgan.data.transforms import coordinates_of
from vqgan.errors import DataError, require
from vqgan.images import to_float, with_channels
from vqgan.tokenizer import Tokenizer, encode_within, memory_budget
from vqgan.training.run import DataConfig
from vqgan.types import Batch, OnProgress, Progress, duration

logger = logging.getLogger(__name__)


class Variant(NamedTuple):
    """Rows and columns of pixels left out above and to the left; whether the picture is mirrored before, if any is."""

    top: int
    left: int
    mirrored: bool


def draw_variant(number: int, picture: int, factor: int, seed: int) -> Variant:
    """Variant ``number`` of a picture, a function of the arguments alone.

    The first ``factor`` variants have each row and each column once, the first ``factor ** 2`` each pair, the next as
    many the same pairs, mirrored where those are not. Of variants ``2n`` and ``2n + 1`` one is mirrored if the factor
    is even.

    Example:
        >>> variants = [draw_variant(number, picture=0, factor=4, seed=0) for number in range(32)]
        >>> len({each.top for each in variants[:4]}), len({each[:2] for each in variants[:16]}), len({*variants})
        (4, 16, 32)
    """
    raw = bits(seed, picture, VARIANTS).random_raw(2 * factor + 1)
    tops, lefts = (np.argsort(part, kind="stable") for part in (raw[:factor], raw[factor:-1]))
    turn, place = divmod(number, factor * factor)
    diagonal, row = divmod(place, factor)
    mirrored = (place.bit_count() + turn + int(raw[-1])) % 2 == 1
    return Variant(int(tops[row]), int(lefts[(row + diagonal) % factor]), mirrored)


def check_pictures(source: Source, tokenizer: Tokenizer, data: DataConfig) -> None:
    """Checks before a training that every picture holds a crop at every shift, and that all variants differ.

    Raises:
        ConfigError: If there are not so many variants.
        DataError: If a picture is too small, or too many cannot be read.
    """
    factor = tokenizer.downsample_factor
    most = factor * factor * (1 + data.flip)
    require(
        data.cached_codes <= most,
        f"`data.cached_codes` is {data.cached_codes}, but with a downsample factor of {factor} a picture has only "
        f"{most} variants{', mirrored ones included' * data.flip}",
        hint=f"set `data.cached_codes={most}`, which is all",
    )
    rows, columns = (side + factor - 1 for side in data.image_size)
    for index, item in _readable(source, tokenizer.image_channels, {}):
        height, width = item.pixels.shape[:2]
        if height < rows or width < columns:
            raise DataError(
                f"`{source.label(index)}` has {height}x{width} pixels, but with `data.cached_codes` each picture needs "
                f"at least {rows}x{columns}: a crop and its shifts",
                hint="leave smaller pictures out, lower `data.image_size`, or set `data.cached_codes=0`",
            )


class _Picture(NamedTuple):
    """The codes (h w) of each variant; the rows and columns of pixels, the class and a caption of the picture."""

    codes: list[np.ndarray]
    size: tuple[int, int]
    class_index: int | None
    text: str = ""


class CachedCodes:
    """The codes of a source's pictures, in memory, and crops of them without end.

    Args:
        source: The pictures to train on, as :func:`check_pictures` accepts them.
        tokenizer: In evaluation mode; its weights decide about device and precision.
        data: How many variants, whether some are mirrored, and the size of a crop.
        seed: Of variants, order and crops, ``0 <= seed < 2**63``.
    """

    def __init__(self, source: Source, tokenizer: Tokenizer, *, data: DataConfig, seed: int) -> None:
        self._source, self._tokenizer, self._data, self._seed = source, tokenizer, data, seed
        self._pictures: dict[int, _Picture] = {}
        self._bad: dict[str, str] = {}

    def encode(self, on_progress: OnProgress | None = None) -> None:
        """Encodes every variant of every picture, within the default budget of memory; skips what cannot be read.

        Args:
            on_progress: Told after each variant how many are done.

        Raises:
            DataError: If too many pictures cannot be read.
        """
        started, count = time.perf_counter(), self._data.cached_codes
        channels, factor = self._tokenizer.image_channels, self._tokenizer.downsample_factor
        for index, item in _readable(self._source, channels, self._bad):
            image, codes = to_float(with_channels(item.pixels, channels)), []
            for number in range(count):
                codes.append(self._encoded(image, draw_variant(number, index, factor, self._seed)))
                if on_progress is not None:
                    done, total = index * count + number + 1, len(self._source) * count
                    on_progress(Progress("encoding pictures", done, total))
            self._pictures[index] = _Picture(codes, (image.shape[1], image.shape[2]), item.class_index)
        for label, reason in self._bad.items():
            logger.warning("skipped `%s`: %s", label, reason)
        pictures, seconds = self._pictures.values(), time.perf_counter() - started
        tokens = sum(grid.size for picture in pictures for grid in picture.codes)
        what = f"{count:,} variants of each of {len(pictures):,} pictures: {tokens:,} tokens"
        logger.info("encoded %s in %s", what, duration(seconds))

    def _encoded(self, image: Tensor, variant: Variant) -> np.ndarray:
        """The codes of all cells that fit."""
        part = (image.flip(-1) if variant.mirrored and self._data.flip else image)[
            None, :, variant.top :, variant.left :
        ]
        rows, columns = (side - side % self._tokenizer.downsample_factor for side in part.shape[2:])
        memory = memory_budget(None, self._tokenizer.weight.device)
        codes = encode_within(self._tokenizer, part[..., :rows, :columns], memory)[0]
        kind = np.uint16 if self._tokenizer.codebook_size <= 1 << 16 else np.int32
        return codes.cpu().numpy().astype(kind)

    def batches(
        self, *, batch_size: int, start: int = 0, rank: int = 0, world: int = 1, coordinates: bool = False
    ) -> Generator[Batch, None, None]:
        """Batches without end, of the pictures that :func:`vqgan.data.loader.training_batches` would show.

        A sample's variant and place in it are functions of the seed and the sample's number alone.

        Args:
            batch_size: Samples of one batch over all training processes.
            start: The first sample.
            rank: Number of this training process.
            world: Number of training processes.
            coordinates: Whether each sample comes with its place in its picture; in the mirrored one where it is.
        """
        size = self._data.image_size
        for numbers in sample_numbers(batch_size, start, rank, world):
            skipped: dict[str, str] = {}
            codes, starts, pictures = zip(*(self._crop(each, skipped) for each in numbers), strict=True)
            condition: dict[str, Any] = {}
            if self._source.class_names:
                condition["class"] = torch.tensor([each.class_index for each in pictures])
            if self._source.captions:
                condition["text"] = [each.text for each in pictures]
            if coordinates:
                places = map(coordinates_of, starts, [size] * len(numbers), [each.size for each in pictures])
                condition["coordinates"] = torch.stack([*places])
            yield Batch(
                images=torch.empty(len(numbers), self._tokenizer.image_channels, 0, 0),
                condition=condition,
                sample=torch.tensor(numbers),
                skipped=tuple(skipped.items()),
                indices=torch.from_numpy(np.stack(codes).astype(np.int64)),
            )

    def _crop(self, sample: int, skipped: dict[str, str]) -> tuple[np.ndarray, tuple[int, int], _Picture]:
        """A sample's codes, where its pixels begin, and its picture; notes the pictures whose place this takes."""
        order = candidates(sample, len(self._source), self._seed)
        chance = draws(self._seed, sample, AUGMENTATION)
        while (index := next(order)) not in self._pictures:
            label = self._source.label(index)
            skipped[label] = self._bad[label]
        picture, factor = self._pictures[index], self._tokenizer.downsample_factor
        number = int(chance.integers(len(picture.codes)))
        variant, codes = draw_variant(number, index, factor, self._seed), picture.codes[number]
        rows, columns = self._tokenizer.grid_size(self._data.image_size)
        top, left = (int(chance.integers(n + 1)) for n in (codes.shape[0] - rows, codes.shape[1] - columns))
        start = variant.top + top * factor, variant.left + left * factor
        if texts := self._source.captions[index : index + 1]:
            picture = picture._replace(text=texts[0][int(chance.integers(len(texts[0])))])
        return codes[top : top + rows, left : left + columns], start, picture


def _readable(source: Source, channels: int, bad: dict[str, str]) -> Iterator[tuple[int, Item]]:
    """The pictures that can be read, with their numbers; adds label and reason of the others to ``bad``."""
    for index in range(len(source)):
        with noting(bad, source, index):
            yield index, source.read(index, 3 if channels == 1 else channels)
    refuse_too_many(bad, len(source), len(source))
