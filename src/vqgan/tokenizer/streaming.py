"""Large images within a budget of memory, exactly: layer after layer over the whole image, a few rows at a time.

A 3x3 convolution needs one more row above and below those that it makes, so rows can stream through it. A group norm
needs the whole map, but only two numbers for each group, and these are added up while the map is written. So no layer
needs a whole map in memory. ``docs/concepts/large-images.md`` has a diagram.
"""

import logging
import math
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from vqgan.errors import ConfigError, OutputError, reason_of
from vqgan.nn.convolution import ChannelStatistics, Downsample, ResidualBlock, SpatialAttention, Upsample
from vqgan.tokenizer.autoencoder import Decoder, Encoder
from vqgan.tokenizer.memory import RESERVE, Passage
from vqgan.tokenizer.tokenizer import Tokenizer
from vqgan.types import OnProgress, Progress

logger = logging.getLogger(__name__)

_announced: WeakKeyDictionary[Tokenizer, set[str]] = WeakKeyDictionary()
"""What was logged of each tokenizer's streams: it is said once for each size, not for each image."""


MAX_BAND = 32_000_000
"""Bytes of a map in one band: larger ones are no faster."""


def plan_bands(passage: Passage, memory: int) -> tuple[int, int]:
    """Bytes of a map in each band, and bytes of the largest map that is held in memory; two are at a time.

    Raises:
        ConfigError: If not even single rows fit.
    """
    copies = 8 + passage.im2col  # bands held: read, normalised, joined, convolved, added, and their copies
    rows = [each.channels * passage.size[1] // each.side * passage.element for each in passage.maps]
    attended = [passage.map_bytes(each) for each in passage.maps if isinstance(each.layer, SpatialAttention)]
    keys = 5 * max(attended, default=0)
    least = passage.image_bytes + RESERVE + keys + 4 * copies * 2 * max(rows, default=0)
    if memory < least:
        needed = math.ceil(least / 2**30 * 1000) / 1000
        raise ConfigError(
            f"images of {passage.size[0]}x{passage.size[1]} pixels do not fit in {memory / 2**30:.3g} GB, "
            "not even row by row",
            hint=f"allow at least {needed:g} GB (`--memory {needed:g}`; from Python `memory={least}`), "
            "or take smaller images",
        )
    room = memory - least + 2 * copies * 2 * max(rows, default=0)
    band = min(MAX_BAND, room // (2 * copies))
    return band, (room - copies * band) // 2


def convolve(conv: nn.Conv2d, bands: Iterable[Tensor]) -> Iterator[Tensor]:
    """A 3x3 convolution, of stride 1 or 2, of a map that arrives in bands of rows from top to bottom.

    The rows that the next band needs too are kept. The result lags behind by a row, so it may be written over the map
    that is read. A row of zeros is added below, and above where the convolution pads.
    """
    stride, (above, beside) = conv.stride[0], map(int, conv.padding)
    window: Tensor | None = None
    for band in bands:
        window = F.pad(band, (0, 0, above, 0)) if window is None else torch.cat([window, band], dim=2)
        count = (window.shape[2] - 3) // stride + 1
        if count > 0:
            yield F.conv2d(window, conv.weight, conv.bias, conv.stride, (0, beside))
            window = window[:, :, count * stride :].clone()
    assert window is not None, "a map has rows"
    yield F.conv2d(F.pad(window, (0, 0, 0, 1)), conv.weight, conv.bias, conv.stride, (0, beside))


class FeatureMap:
    """A whole map (1 d h w), and the statistics of what was written to it."""

    def __init__(self, values: Tensor, slot: int) -> None:
        self.values, self.slot = values, slot
        self.statistics = ChannelStatistics(values.shape[1])

    def write(self, band: Float[Tensor, "1 d r w"], top: int) -> None:
        """Sets the rows from ``top`` on."""
        self.values[:, :, top : top + band.shape[2]] = band
        self.statistics.add(band)


class Stream:
    """One direction through the tokenizer, for images of one size, one after the other."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        passage: Passage,
        *,
        doing: str,
        memory: int,
        on_progress: OnProgress | None,
    ) -> None:
        self._tokenizer, self._passage, self._doing, self._report = tokenizer, passage, doing, on_progress
        self._band, self._held = plan_bands(passage, memory)
        self._weight, self._written = tokenizer.weight, 0
        height, width = passage.size
        largest = max(passage.map_bytes(each) for each in passage.maps)
        numbers = (
            passage.map_bytes(each) * (1 + isinstance(each.layer, ResidualBlock)) for each in passage.maps
        )
        self._total = sum(numbers) // passage.element * passage.count
        line = f"{doing} {height}x{width} pixels in bands of rows, within {memory / 2**30:.3g} GB"
        self._files = []
        if largest > self._held:
            line += f" and temporary files of {2 * largest / 2**30:.3g} GB in `{tempfile.gettempdir()}`"
            self._files = [_mapped_file(largest) for _ in range(2)]
        if line not in _announced.setdefault(tokenizer, set()):
            _announced[tokenizer].add(line)
            logger.info(line)

    def encode(self, image: Float[Tensor, "1 c H W"]) -> Float[Tensor, "1 d h w"]:
        """What the quantizer gets of an image."""
        encoder, (height, width) = self._tokenizer.encoder, self._passage.size
        assert isinstance(encoder, Encoder)
        conv, patch = encoder.input_conv, encoder.patch_size
        features = self._new(conv.out_channels, (height // patch, width // patch), slot=0)
        parts = image.split(patch * self._rows(features.values), dim=2)
        patches = (F.pixel_unshuffle(part.to(self._weight), patch) for part in parts)
        bands = (band.contiguous(memory_format=torch.channels_last) for band in patches)
        features = self._layers(self._write(convolve(conv, bands), features))
        last = convolve(encoder.output_conv, self._read(features, encoder.output_norm, activate=True))
        return torch.cat([self._tokenizer.to_codebook(band) for band in last], dim=2)

    def decode(self, indices: Integer[Tensor, "1 h w"]) -> Iterator[Float[Tensor, "1 c r W"]]:
        """The image of a grid, from top to bottom."""
        tokenizer, decoder, (height, width) = self._tokenizer, self._tokenizer.decoder, indices.shape[1:]
        assert isinstance(decoder, Decoder)
        quantized = tokenizer.quantizer.lookup(indices.to(self._weight.device, torch.int64))
        latents = tokenizer.from_codebook(quantized.to(self._weight.dtype))
        features = self._new(decoder.input_conv.out_channels, (height, width), slot=0)
        features = self._layers(self._write(convolve(decoder.input_conv, [latents]), features))
        last = self._read(features, decoder.output_norm, activate=True)
        for band in convolve(decoder.output_conv, last):
            yield F.pixel_shuffle(band, decoder.patch_size)

    def _layers(self, features: FeatureMap) -> FeatureMap:
        """All layers between the first convolution and the last norm; two maps exist at a time."""
        for layer, *_ in self._passage.maps[1:]:
            match layer:
                case ResidualBlock():
                    features = self._residual_block(layer, features)
                case SpatialAttention():
                    features = self._attention(layer, features)
                case Downsample() | Upsample():
                    features = self._resampled(layer, features)
        return features

    def _residual_block(self, block: ResidualBlock, features: FeatureMap) -> FeatureMap:
        """The result is written over the map between the two convolutions."""
        hidden = self._new(block.conv1.out_channels, features.values.shape[2:], 1 - features.slot)
        bands = self._read(features, block.norm1, activate=True, beside=hidden)
        self._write(convolve(block.conv1, bands), hidden)
        bands = self._read(hidden, block.norm2, activate=True, beside=features)
        result = self._added(features, convolve(block.conv2, bands), block.shortcut)
        return self._write(result, FeatureMap(hidden.values, hidden.slot))

    def _attention(self, attention: SpatialAttention, features: FeatureMap) -> FeatureMap:
        """Keys and values of the whole map are held; queries pass band by band."""
        pairs = [attention.keys_and_values(band) for band in self._read(features, attention.norm)]
        keys, values = (torch.cat(part, dim=2) for part in zip(*pairs, strict=True))
        del pairs
        changes = (attention.attend(band, keys, values) for band in self._read(features, attention.norm))
        result = self._added(features, changes, nn.Identity())
        return self._write(result, FeatureMap(features.values, features.slot))

    def _resampled(self, layer: Downsample | Upsample, features: FeatureMap) -> FeatureMap:
        height, width = features.values.shape[2:]
        if isinstance(layer, Downsample):
            result = self._new(layer.conv.out_channels, (height // 2, width // 2), 1 - features.slot)
            bands = (F.pad(band, (0, 1)) for band in self._read(features))
        else:
            result = self._new(layer.conv.out_channels, (2 * height, 2 * width), 1 - features.slot)
            read = self._read(features, beside=result)
            bands = (F.interpolate(band, scale_factor=2.0, mode="nearest") for band in read)
        return self._write(convolve(layer.conv, bands), result)

    def _new(self, channels: int, size: Sequence[int], slot: int) -> FeatureMap:
        """An empty map, channels last: in memory if it is small, else in its slot's file."""
        shape, numbers = (1, *size, channels), channels * math.prod(size)
        if numbers * self._passage.element <= self._held:
            values = self._weight.new_empty(shape)
        else:
            values = torch.frombuffer(self._files[slot], dtype=self._weight.dtype, count=numbers).view(shape)
        return FeatureMap(values.permute(0, 3, 1, 2), slot)

    def _rows(self, values: Tensor, beside: int = 0) -> int:
        """Rows of the map in a band, so that neither its part nor that of ``beside`` numbers is larger than planned."""
        return max(1, self._band * values.shape[2] // (max(values.numel(), beside) * self._passage.element))

    def _read(
        self,
        features: FeatureMap,
        norm: nn.GroupNorm | None = None,
        *,
        activate: bool = False,
        beside: FeatureMap | None = None,
    ) -> Iterator[Tensor]:
        """A map in bands on the weights' device; ``beside`` is another map that is read or written with it."""
        values = features.values
        for band in values.split(self._rows(values, 0 if beside is None else beside.values.numel()), dim=2):
            band = band.to(self._weight.device)
            if norm is not None:
                band = features.statistics.normed(norm, band)
            yield F.silu(band, inplace=True) if activate else band

    def _added(
        self, features: FeatureMap, changes: Iterable[Tensor], shortcut: nn.Module
    ) -> Iterator[Tensor]:
        """The changes, band by band, added to what the shortcut makes of the same rows."""
        top = 0
        for band in changes:
            rows = features.values[:, :, top : (top := top + band.shape[2])].to(self._weight.device)
            yield band.add_(shortcut(rows))

    def _write(self, bands: Iterable[Tensor], features: FeatureMap) -> FeatureMap:
        """Fills a map from top to bottom, and reports."""
        top = 0
        for band in bands:
            features.write(band, top)
            top, self._written = top + band.shape[2], self._written + band.numel()
            if self._report is not None:
                percent = 100 * self._written // self._total
                self._report(Progress(self._doing, max(1, percent), 100))
        return features


def _mapped_file(size: int) -> mmap.mmap:
    """A file mapped into memory that has no name any more: nothing is left of it, however the process ends."""
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Room is taken now: a map without it ends the process when it is written.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for start in range(0, size, 2**24):
                    file.write(bytes(min(2**24, size - start)))
                file.flush()
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise OutputError(
            f"temporary files of 2 x {size / 2**30:.3g} GB do not fit into `{folder}`: {reason_of(error)}",
            hint="set TMPDIR to a folder with more room, or allow more memory",
        ) from error
