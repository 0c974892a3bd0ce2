"""Encoding and decoding within a budget of memory: whole where that fits, else in bands of rows."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Integer
from torch import Tensor, nn

from vqgan.errors import ConfigError, require
from vqgan.nn.convolution import Downsample, ResidualBlock, SpatialAttention, Upsample
from vqgan.tokenizer.tokenizer import Tokenizer
from vqgan.types import Images, Indices, OnProgress, check_grids, check_indices, check_values, is_number

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
        return min(self.count, max(1, (room - (self.count - 1) * self.image_bytes) // needed))


def encoding(tokenizer: Tokenizer, size: tuple[int, int], *, count: int, element: int) -> Passage:
    """Encoding images of ``size`` (H, W), ``element`` bytes for each number of them."""
    encoder, image_bytes = tokenizer.encoder, math.prod(size) * tokenizer.image_channels * element
    layers = [*_layers(encoder.levels), *encoder.middle]
    return _passage(encoder.input_conv, layers, encoder.patch_size, size, count, image_bytes)


def decoding(tokenizer: Tokenizer, grid: tuple[int, int], *, count: int) -> Passage:
    """Decoding images of the token grid ``grid`` (h, w)."""
    decoder, side = tokenizer.decoder, tokenizer.downsample_factor
    size = (grid[0] * side, grid[1] * side)
    image_bytes = math.prod(size) * tokenizer.image_channels * decoder.last_weight.element_size()
    layers = [*decoder.middle, *_layers(reversed(decoder.levels))]
    return _passage(decoder.input_conv, layers, side, size, count, image_bytes)


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


@torch.no_grad()
def encode_within(
    tokenizer: Tokenizer, images: Images, memory: int, on_progress: OnProgress | None = None
) -> Indices:
    """The images as grids of codebook indices, within a budget of memory.

    What fits passes whole, with the result of ``tokenizer.encode``: all images, else fewer at a time. An image that
    does not fit streams, with the same result but for rounding. By itself or in a batch, it passes in the same way.

    Args:
        tokenizer: In evaluation mode; its weights decide about precision and device.
        images: As :meth:`Tokenizer.encode` takes them.
        memory: Bytes beside the weights, the images included; an estimate is kept to it (:class:`Passage`).
        on_progress: Where images stream, told after each band of rows how much is done.

    Raises:
        ConfigError: If ``memory`` is too little even so, and as :meth:`Tokenizer.encode`.
        OutputError: If the maps that memory does not hold find no room in the folder for temporary files.
    """
    tokenizer.check(images)
    check_values(images)
    size = (images.shape[2], images.shape[3])
    passage = encoding(tokenizer, size, count=len(images), element=images.element_size())
    if batch_size := passage.batch_size(memory):
        parts = [tokenizer.encode(part) for part in images.split(batch_size)]
    else:
        from vqgan.tokenizer.streaming import Stream

        stream = Stream(tokenizer, passage, doing="encoding", memory=memory, on_progress=on_progress)
        parts = [tokenizer.quantizer.encode(stream.encode(image)) for image in images.split(1)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@torch.no_grad()
def decode_within(
    tokenizer: Tokenizer,
    indices: Integer[Tensor, "b h w"],
    memory: int,
    on_progress: OnProgress | None = None,
) -> Images:
    """The images of grids of codebook indices, not clamped; arguments and errors as in :func:`encode_within`."""
    check_grids(indices)
    passage = decoding(tokenizer, (indices.shape[1], indices.shape[2]), count=len(indices))
    batch_size = passage.batch_size(memory)
    if batch_size == len(indices):
        return tokenizer.decode(indices)
    check_indices(indices.to(torch.int64), tokenizer.codebook_size)
    images = tokenizer.to_codebook.weight.new_empty(len(indices), tokenizer.image_channels, *passage.size)
    if batch_size:
        for image, grids in zip(images.split(batch_size), indices.split(batch_size), strict=True):
            image.copy_(tokenizer.decode(grids))
    else:
        from vqgan.tokenizer.streaming import Stream

        stream = Stream(tokenizer, passage, doing="decoding", memory=memory, on_progress=on_progress)
        for image, grids in zip(images.split(1), indices.split(1), strict=True):
            stream.decode(grids, image)
    return images


def check_decoding(tokenizer: Tokenizer, grid: tuple[int, int], memory: int) -> None:
    """Raises ConfigError if images of this token grid, however many, cannot be decoded within ``memory`` bytes."""
    passage = decoding(tokenizer, grid, count=1)
    if not passage.batch_size(memory):
        from vqgan.tokenizer.streaming import plan_bands

        plan_bands(passage, memory)
