"""How much memory it takes to pass images through a tokenizer, whole or in bands of rows."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn

from vqgan.errors import ConfigError
from vqgan.nn.attention import SpatialAttention
from vqgan.nn.convolution import Downsample, ResidualBlock, Upsample
from vqgan.tokenizer.tokenizer import Tokenizer

RESERVE = 80_000_000
"""Bytes for choosing codes, for libraries and for what the allocator does not give back at once."""

MAX_BAND = 32_000_000
"""Bytes of a map in one band: larger ones are no quicker."""


class Work:
    """Passing images through the layers between the first convolution of encoder or decoder and its last norm.

    Args:
        first: That convolution.
        layers: Those layers.
        side: Pixels for each position of the map between them, along one side.
        size: Height and width of an image in pixels.
        count: Number of images.
        image_bytes: Bytes of one image that is given or returned.
    """

    def __init__(
        self,
        first: nn.Conv2d,
        layers: Iterable[nn.Module],
        *,
        side: int,
        size: tuple[int, int],
        count: int,
        image_bytes: int,
    ) -> None:
        self.layers = [layer for layer in layers if not isinstance(layer, nn.Identity)]
        self.size, self.count, self.image_bytes = size, count, image_bytes
        self.number = first.weight.element_size()
        # In half precision on a CPU, PyTorch may write out what a filter sees: nine times the input.
        unfolded = 9 if first.weight.device.type == "cpu" and self.number < 4 else 0
        self.copies = (
            8 + unfolded
        )  # bands held at once: read, normalised, joined, convolved, added, and their copies
        maps, rows, whole, self.keys, self.written = [], [], [], 0, 0
        width = first.out_channels
        for layer in [first, *self.layers]:
            match layer:
                case ResidualBlock():
                    width = layer.conv2.out_channels
                case Downsample():
                    side *= 2
                case Upsample():
                    side //= 2
            rows.append(width * size[1] // side * self.number)
            maps.append(rows[-1] * size[0] // side)
            # Maps that PyTorch holds at once where an image passes whole: measured on a CPU.
            held = 12 if isinstance(layer, SpatialAttention) else 6
            whole.append((held + unfolded) * max(maps[-2:]))
            if isinstance(layer, SpatialAttention):
                self.keys = max(self.keys, 5 * maps[-1])
            self.written += maps[-1] * (2 if isinstance(layer, ResidualBlock) else 1) // self.number
        self.largest, self.row, self.whole = max(maps), 2 * max(rows), max(whole)

    def together(self, memory: int) -> int:
        """How many images pass through the tokenizer's own methods at the same time; 0 if one alone does not fit.

        Whether it is 0 does not depend on their number: a batch never changes how each of its images passes. What the
        others take as they are given or returned only leaves room for fewer at the same time.
        """
        room = memory - self.image_bytes - RESERVE
        if self.whole > room:
            return 0
        return min(self.count, max(1, (room - (self.count - 1) * self.image_bytes) // self.whole))

    def plan(self, memory: int) -> tuple[int, int]:
        """Bytes of a map in each band, and bytes of the largest map that is held in memory; two are at a time.

        Raises:
            ConfigError: If not even single rows fit.
        """
        least = self.image_bytes + RESERVE + self.keys + 4 * self.copies * self.row
        if memory < least:
            needed = math.ceil(least / 2**30 * 1000) / 1000
            raise ConfigError(
                f"images of {self.size[0]}x{self.size[1]} pixels do not pass within {memory / 2**30:.3g} GB, "
                "not even row by row",
                hint=f"allow at least {needed:g} GB (`--memory {needed:g}`; from Python `memory={least}`), "
                "or take smaller images",
            )
        room = memory - least + 2 * self.copies * self.row
        band = min(MAX_BAND, room // (2 * self.copies))
        return band, (room - self.copies * band) // 2


def encoding(tokenizer: Tokenizer, size: tuple[int, int], *, count: int, image_number: int) -> Work:
    """Encoding images of ``size`` (H, W), ``image_number`` bytes for each number of them."""
    encoder, image_bytes = tokenizer.encoder, math.prod(size) * tokenizer.image_channels * image_number
    layers, side = [*_layers(encoder.levels), *encoder.middle], encoder.patch_size
    return Work(encoder.input_conv, layers, side=side, size=size, count=count, image_bytes=image_bytes)


def decoding(tokenizer: Tokenizer, grid: tuple[int, int], *, count: int) -> Work:
    """Decoding images of the token grid ``grid`` (h, w)."""
    decoder, side = tokenizer.decoder, tokenizer.downsample_factor
    size = (grid[0] * side, grid[1] * side)
    image_bytes = math.prod(size) * tokenizer.image_channels * decoder.last_weight.element_size()
    layers = [*decoder.middle, *_layers(reversed(decoder.levels))]
    return Work(decoder.input_conv, layers, side=side, size=size, count=count, image_bytes=image_bytes)


def check_decoding(tokenizer: Tokenizer, grid: tuple[int, int], memory: int) -> None:
    """Raises ConfigError if images of this token grid, however many, cannot be decoded within ``memory`` bytes."""
    work = decoding(tokenizer, grid, count=1)
    if not work.together(memory):
        work.plan(memory)


def _layers(levels: Iterable[Any]) -> Iterable[nn.Module]:
    for level in levels:
        for block, attention in zip(level.blocks, level.attentions, strict=True):
            yield from (block, attention)
        yield level.resample
