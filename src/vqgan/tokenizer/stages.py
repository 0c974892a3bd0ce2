"""The encoder and the decoder as lists of stages: what each holds in memory, how far it sees, where to cut tiles.

For passing large images piece by piece (:mod:`vqgan.tokenizer.tiling`); the models themselves do not use it.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from vqgan.errors import ConfigError
from vqgan.nn.attention import SpatialAttention
from vqgan.nn.convolution import Downsample, ResidualBlock, Upsample
from vqgan.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Stage:
    """One layer or block on the way through the encoder or decoder.

    Attributes:
        run: What it does.
        side: Pixels of the image for each position of its input, along one side.
        width: Channels of its input.
        result_side: Pixels for each position of its result.
        result_width: Channels of its result.
        live: Numbers held at once while it runs on channels-last data, for each pixel of the image; input and
            result included.
        unfolded: Numbers beside them where a convolution writes out what its filter sees, as PyTorch does in half
            precision on processors without it.
        reach: Pixels around its own that a result depends on; infinite for attention.
    """

    run: nn.Module
    side: int
    width: int
    result_side: int
    result_width: int
    live: float
    unfolded: float
    reach: float

    @property
    def source(self) -> float:
        """Numbers of its input for each pixel of the image."""
        return self.width / self.side**2

    @property
    def result(self) -> float:
        """Numbers of its result for each pixel of the image."""
        return self.result_width / self.result_side**2


def encoder_stages(tokenizer: Tokenizer) -> list[Stage]:
    """From pixels to what the quantizer gets, as :meth:`Tokenizer.latents` goes."""
    encoder = tokenizer.encoder
    modules = [nn.PixelUnshuffle(encoder.patch_size), encoder.input_conv, *_parts(encoder.levels)]
    modules += [*encoder.middle, encoder.output_norm, nn.SiLU(), encoder.output_conv, tokenizer.to_codebook]
    return _stages(modules, side=1, width=tokenizer.image_channels)


def decoder_stages(tokenizer: Tokenizer) -> list[Stage]:
    """From codebook vectors to pixels, as :meth:`Tokenizer.decode_latents` goes."""
    decoder = tokenizer.decoder
    modules = [tokenizer.from_codebook, decoder.input_conv, *decoder.middle]
    modules += [*_parts(reversed(decoder.levels)), decoder.output_norm, nn.SiLU(), decoder.output_conv]
    modules += [nn.PixelShuffle(decoder.patch_size)]
    return _stages(modules, side=tokenizer.downsample_factor, width=tokenizer.quantizer.codebook_dim)


def _parts(levels: Iterable[Any]) -> list[nn.Module]:
    parts = []
    for level in levels:
        for block, attention in zip(level.blocks, level.attentions, strict=True):
            parts += [block, attention]
        parts.append(level.resample)
    return [part for part in parts if not isinstance(part, nn.Identity)]


def _stages(modules: list[nn.Module], *, side: int, width: int) -> list[Stage]:
    stages = []
    for module in modules:
        result_side, result_width = side, width
        # The factors of the widths are what PyTorch holds on a CPU, measured.
        live, unfolded, reach = 2.0 * width, 0.0, 0.0
        match module:
            case ResidualBlock():
                result_width = module.conv2.out_channels
                live = max(3 * width, width + 3 * result_width)
                unfolded, reach = 9 * max(width, result_width), 2 * side
            case SpatialAttention():
                live, unfolded, reach = 10 * width, width, math.inf
            case Upsample():
                result_side = side // 2
                live, unfolded, reach = 9 * width, 36 * width, result_side
            case Downsample():
                result_side = side * 2
                live, unfolded, reach = 2.5 * width, 9 / 4 * width, side
            case nn.Conv2d():
                result_width, size = module.out_channels, module.kernel_size[0]
                live, unfolded, reach = width + result_width, size**2 * width, size // 2 * side
            case nn.PixelShuffle(upscale_factor=patch):
                result_side, result_width = side // patch, width // patch**2
            case nn.PixelUnshuffle(downscale_factor=patch):
                result_side, result_width = side * patch, width * patch**2
            case _:
                assert isinstance(module, nn.GroupNorm | nn.SiLU)
        pixels = side**2
        costs = (live / pixels, unfolded / pixels, float(reach))
        stages.append(Stage(module, side, width, result_side, result_width, *costs))
        side, width = result_side, result_width
    return stages


MOST_HALO = 8
"""Positions of a halo where the stages see further than that, as with attention among them."""

LEAST_TILE = 8
"""Smallest tile in positions, where four halos are not more; below, most work is for what is only read."""

RESERVE = 80_000_000
"""Bytes for choosing codes, for libraries and for what the allocator does not give back at once."""


@dataclass(frozen=True)
class Work:
    """Passing images through the encoder or the decoder, in the numbers that decide about memory.

    Attributes:
        stages: All stages.
        encodes: Whether they begin with pixels.
        size: Height and width of an image in pixels.
        count: Number of images.
        image_bytes: Bytes of one pixel of the images that are given or returned.
        number: Bytes of a number of the weights.
        unfolds: Whether convolutions write out what their filter sees.
    """

    stages: list[Stage]
    encodes: bool
    size: tuple[int, int]
    count: int
    image_bytes: int
    number: int
    unfolds: bool

    @property
    def pixels(self) -> int:
        """Pixels of one image."""
        return self.size[0] * self.size[1]

    @property
    def outside(self) -> int:
        """Bytes of one image that is given or returned, and the reserve."""
        return self.pixels * self.image_bytes + RESERVE

    @property
    def each(self) -> int:
        """Estimated bytes for each image that passes through the tokenizer's own methods at the same time."""
        # Here a level's input is held until its end; and unless data is channels-last, convolutions hold their
        # result twice.
        values = max(
            stage.live + stage.source + stage.result + self.unfolds * stage.unfolded for stage in self.stages
        )
        return int(values * self.pixels * self.number)

    def together(self, memory: int) -> int:
        """How many images pass through the tokenizer's own methods at the same time; 0 if one alone does not fit.

        Whether it is 0 does not depend on their number: a batch never changes how each of its images passes. What the
        others take as they are given or returned only leaves room for fewer at the same time.
        """
        if self.outside + self.each > memory:
            return 0
        room = memory - self.outside - (self.count - 1) * self.pixels * self.image_bytes
        return min(self.count, max(1, room // self.each))

    def staged(self, stages: list[Stage], pixels: int) -> int:
        """Estimated bytes of stages that run one after the other on so many pixels, channels-last."""
        values = max(stage.live + self.unfolds * stage.unfolded for stage in stages)
        return int(values * pixels * self.number)


def encoding(tokenizer: Tokenizer, size: tuple[int, int], *, count: int, image_number: int) -> Work:
    """Encoding images of ``size`` (H, W), ``image_number`` bytes for each number of them."""
    return _work(tokenizer, encoder_stages(tokenizer), True, size, count, image_number)


def decoding(tokenizer: Tokenizer, size: tuple[int, int], *, count: int) -> Work:
    """Decoding to images of ``size`` (H, W)."""
    number = tokenizer.to_codebook.weight.element_size()
    return _work(tokenizer, decoder_stages(tokenizer), False, size, count, number)


def _work(
    tokenizer: Tokenizer,
    stages: list[Stage],
    encodes: bool,
    size: tuple[int, int],
    count: int,
    image_number: int,
) -> Work:
    weight = tokenizer.to_codebook.weight
    number = weight.element_size()
    unfolds = weight.device.type == "cpu" and number < 4
    return Work(stages, encodes, size, count, tokenizer.image_channels * image_number, number, unfolds)


@dataclass(frozen=True)
class Plan:
    """How an image passes: which stages in tiles, and in which.

    Attributes:
        border: Number of stages before the border between tiled and whole ones.
        side: Pixels for each position in which tiles are counted.
        tile: Side of a tile in positions, halos included.
        halo: Positions at each side of it that are only read.
        peak: Estimated bytes, with the image that is given or returned.
    """

    border: int
    side: int
    tile: int
    halo: int
    peak: int


def _peak(work: Work, tiled: list[Stage], whole: list[Stage], side: int, tile: int) -> int:
    rows, columns = (min(tile * side, length) for length in work.size)
    # While tiles pass, the map that they are cut from is held, and their results are gathered in float32.
    held = tiled[0].source * work.number + tiled[-1].result * max(4, work.number)
    tiles = int(held * work.pixels) + work.staged(tiled, rows * columns)
    return work.outside + max(tiles, work.staged(whole, work.pixels))


def plan_tiles(work: Work, memory: int) -> Plan:
    """The plan for one image with the fewest tiled stages that keeps to ``memory`` bytes, with its largest tiles.

    Raises:
        ConfigError: If there is none.
    """
    least = []
    borders = range(1, len(work.stages))
    for border in borders if work.encodes else reversed(borders):
        before, after = work.stages[:border], work.stages[border:]
        tiled, whole = (before, after) if work.encodes else (after, before)
        side = max(tiled[0].side, tiled[-1].result_side)
        longest = max(work.size) // side
        halo = math.ceil(min(sum(stage.reach for stage in tiled) / side, MOST_HALO))
        peak = partial(_peak, work, tiled, whole, side)
        smallest = min(max(LEAST_TILE, 4 * halo), longest)
        least.append(peak(smallest))
        if least[-1] <= memory:
            tile = bisect_right(range(longest + 1), memory, lo=smallest, key=peak) - 1
            return Plan(border, side, tile, halo, peak(tile))
    height, width = work.size
    needed = math.ceil(min(least) / 2**30 * 1000) / 1000
    raise ConfigError(
        f"images of {height}x{width} pixels do not pass within {memory / 2**30:.3g} GB, in tiles neither",
        hint=f"allow at least {needed:g} GB (`--memory {needed:g}`; from Python `memory={min(least)}`), "
        "or take smaller images",
    )
