"""How many images pass through a tokenizer at the same time, within a budget of memory."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from vqgan.errors import ConfigError, require
from vqgan.nn.convolution import Downsample, ResidualBlock, SpatialAttention, Upsample
from vqgan.tokenizer.autoencoder import Decoder, Encoder
from vqgan.tokenizer.tokenizer import Tokenizer
from vqgan.types import is_number

DEFAULT_MEMORY = 4 * 2**30
"""Bytes on a CPU and on MPS. Fixed: what else runs on the machine must not change how images are batched."""

RESERVE = 80_000_000
"""Bytes for choosing codes, for libraries and for what the allocator does not give back immediately."""


def memory_budget(given: int | None, device: torch.device) -> int:
    """Bytes beside the weights: those that were given, else half of a CUDA device's memory, elsewhere 4 GiB."""
    if given is None:
        on_cuda = device.type == "cuda"
        return torch.cuda.get_device_properties(device).total_memory // 2 if on_cuda else DEFAULT_MEMORY
    if not is_number(given):
        raise ConfigError(
            f"`memory` is {given!r}, expected a number of bytes", hint="4 GB are `memory=4 * 2**30`"
        )
    require(given >= 1, f"`memory` is {given} bytes, expected a positive number")
    return int(given)


class Map(NamedTuple):
    """The result of one layer: its channels, and the pixels of the image for each of its positions, along one side."""

    layer: nn.Module
    channels: int
    side: int


@dataclass(frozen=True)
class Passage:
    """Passing images of one size through the layers between the first convolution and the last norm.

    Attributes:
        maps: That convolution's result, then those of the layers.
        size: Height and width of an image in pixels.
        count: Number of images.
        element: Bytes of one number of a map.
        image_bytes: Bytes of one image that is given or returned.
        im2col: Copies of its input that a convolution writes out: nine for half precision on a CPU.
    """

    maps: tuple[Map, ...]
    size: tuple[int, int]
    count: int
    element: int
    image_bytes: int
    im2col: int

    def map_bytes(self, each: Map) -> int:
        """Bytes of one whole map."""
        return each.channels * (self.size[0] // each.side) * (self.size[1] // each.side) * self.element

    @property
    def activation_memory(self) -> int:
        """Bytes of the maps that PyTorch holds at the same time where an image passes whole; measured on a CPU."""
        sizes, most = [self.map_bytes(each) for each in self.maps], 0
        for number, each in enumerate(self.maps):
            held = 12 if isinstance(each.layer, SpatialAttention) else 6
            most = max(most, (held + self.im2col) * max(sizes[max(0, number - 1) : number + 1]))
        return most

    def batch_size(self, memory: int) -> int:
        """How many images pass through the tokenizer's own methods at the same time; 0 if one does not fit.

        Whether it is 0 does not depend on their number: a batch never changes how each of its images passes. What the
        others take as they are given or returned only leaves room for fewer at the same time.
        """
        room, needed = memory - self.image_bytes - RESERVE, self.activation_memory
        if needed > room:
            return 0
        return min(self.count, max(1, (room - (self.count - 1) * self.image_bytes) // max(1, needed)))


def encoding(tokenizer: Tokenizer, size: tuple[int, int], *, count: int, element: int) -> Passage:
    """Encoding images of ``size`` (H, W), ``element`` bytes for each number of them."""
    encoder, image_bytes = tokenizer.encoder, math.prod(size) * tokenizer.image_channels * element
    if not isinstance(encoder, Encoder):
        return _colours(size, count, element, image_bytes)
    layers = [*_layers(encoder.levels), *encoder.middle]
    return _passage(encoder.input_conv, layers, encoder.patch_size, size, count, image_bytes)


def decoding(tokenizer: Tokenizer, grid: tuple[int, int], *, count: int, is_held: bool = True) -> Passage:
    """Decoding images of the token grid ``grid`` (h, w), which need not be in memory whole if ``is_held`` is false."""
    decoder, side = tokenizer.decoder, tokenizer.downsample_factor
    size = (grid[0] * side, grid[1] * side)
    element = tokenizer.weight.element_size()
    image_bytes = math.prod(size) * tokenizer.image_channels * element
    if not isinstance(decoder, Decoder):
        return _colours(size, count, element, image_bytes)
    layers = [*decoder.middle, *_layers(reversed(decoder.levels))]
    return _passage(decoder.input_conv, layers, side, size, count, image_bytes if is_held else 0)


def _colours(size: tuple[int, int], count: int, element: int, image_bytes: int) -> Passage:
    """Where pixels are tokens there are no maps; an image is copied once, and has codes of about its size."""
    return Passage((), size, count, element, 4 * image_bytes, 0)


def _layers(levels: Iterable[Any]) -> Iterable[nn.Module]:
    for level in levels:
        for block, attention in zip(level.blocks, level.attentions, strict=True):
            yield from (block, attention)
        yield level.resample


def _passage(
    first: nn.Conv2d, layers: list[nn.Module], side: int, size: tuple[int, int], count: int, image_bytes: int
) -> Passage:
    channels, element = first.out_channels, first.weight.element_size()
    maps = [Map(first, channels, side)]
    for layer in layers:
        match layer:
            case nn.Identity():
                continue
            case ResidualBlock():
                channels = layer.conv2.out_channels
            case Downsample():
                side *= 2
            case Upsample():
                side //= 2
        maps.append(Map(layer, channels, side))
    im2col = 9 if first.weight.device.type == "cpu" and element < 4 else 0
    return Passage(tuple(maps), size, count, element, image_bytes, im2col)
