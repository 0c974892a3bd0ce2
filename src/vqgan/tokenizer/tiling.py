"""Large images within a budget of memory: what does not fit at once passes the layers of high resolution in tiles.

Encoder and decoder are lists of stages here. Those of low resolution are cheap and see the whole image, with the
attention among them; only those of high resolution run tile by tile. A tile is read with a halo as wide as they can
see, and its group norms use the statistics of a thinned-out image. These statistics are the approximation.
"""

import logging
import math
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vqgan.nn.convolution import NORM_GROUPS
from vqgan.tokenizer.stages import Plan, Stage, Work, decoding, encoding, plan_tiles
from vqgan.tokenizer.tokenizer import Tokenizer, check_images, check_indices
from vqgan.types import Images, Indices

logger = logging.getLogger(__name__)

_announced: WeakKeyDictionary[Tokenizer, set[str]] = WeakKeyDictionary()
"""What was logged of each tokenizer's tiles: it is said once for each size, not for each image."""


def spans(size: int, tile: int, halo: int) -> list[tuple[int, int]]:
    """Tiles of one length that cover an axis, evenly spread and no longer than their number needs.

    Args:
        size: Positions to cover.
        tile: Most positions of a tile; above ``2 * halo``, or all of ``size``.
        halo: Positions at each end of a tile that are only read; neighbours overlap by two of them or more.

    Returns:
        Start and stop of each.

    Example:
        >>> spans(10, tile=6, halo=1)
        [(0, 6), (4, 10)]
    """
    count = 1 if tile >= size else 1 + -(-(size - tile) // (tile - 2 * halo))
    tile = -(-(size + 2 * halo * (count - 1)) // count)
    starts = [index * (size - tile) // max(1, count - 1) for index in range(count)]
    return [(start, start + tile) for start in starts]


def blend_weights(parts: list[tuple[int, int]], margin: int, scale: int = 1) -> list[Float[Tensor, " p"]]:
    """What each tile adds to the result: all in its middle, nothing at its rim, linear where it overlaps others.

    Args:
        parts: The tiles along one axis, from :func:`spans`.
        margin: Positions at each end of a tile that get no weight, at most its halo.
        scale: Results for each position.

    Returns:
        ``(stop - start) * scale`` weights for each tile; at each result the weights of all tiles add up to 1.
    """
    size, raw = parts[-1][1], []
    total = torch.zeros(size * scale)
    for start, stop in parts:
        place = (torch.arange((stop - start) * scale) + 0.5) / scale
        before = place - margin if start > 0 else torch.full_like(place, size)
        after = place.flip(0) - margin if stop < size else torch.full_like(place, size)
        raw.append(torch.minimum(before, after).clamp(min=0))
        total[start * scale : stop * scale] += raw[-1]
    return [
        weight / total[start * scale : stop * scale] for (start, stop), weight in zip(parts, raw, strict=True)
    ]


def thinned(size: tuple[int, int], most: int) -> list[int]:
    """Height and width of a map of which only every second position, or third, or so on, is left.

    The longer side is thinned out first, equal ones together.

    Args:
        size: Height and width of the whole map.
        most: Most positions that may be left, at least 1.

    Example:
        >>> thinned((100, 100), most=2500), thinned((8, 800), most=640)
        ([50, 50], [8, 80])
    """
    steps, left = [1, 1], list(size)
    while math.prod(left) > most:
        steps = [step + (length == max(left)) for step, length in zip(steps, left, strict=True)]
        left = [-(-length // step) for length, step in zip(size, steps, strict=True)]
    return left


class SharedNorms(TorchFunctionMode):
    """Gives the group norms the statistics of a first pass, in the order of their calls, while entered.

    Only calls of this thread are seen: others may use the same model at the same time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._statistics: list[tuple[Tensor, Tensor]] = []
        self._call: int | None = None

    def share(self) -> "SharedNorms":
        """Begins a pass with the statistics of the first one."""
        self._call = 0
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.group_norm:
            return func(*args, **kwargs)
        features, precision = args[0], torch.promote_types(args[0].dtype, torch.float32)
        if self._call is None:
            groups = features.unflatten(1, (NORM_GROUPS, -1)).to(precision)
            moments = torch.var_mean(groups, dim=(0, 2, 3, 4), correction=0)
            variance, mean = (each.repeat_interleave(groups.shape[2]) for each in moments)
            self._statistics.append((mean, variance))
        else:
            mean, variance = self._statistics[self._call]
            self._call += 1
        # A group norm with given statistics is a batch norm.
        weight, bias = kwargs["weight"].to(precision), kwargs["bias"].to(precision)
        return F.batch_norm(features, mean, variance, weight, bias, training=False, eps=kwargs["eps"])


def run_in_tiles(stages: list[Stage], features: Float[Tensor, "1 d i j"], tile: int, halo: int) -> Tensor:
    """Passes a feature map, or an image, through the stages tile by tile.

    Group norms use the statistics of a thinned-out map (:func:`thinned`), of as many positions as a tile has. (Those
    of the tiles themselves would make a flat tile as lively as any other.)

    Args:
        stages: What to pass through.
        features: In the precision of the weights.
        tile: Most positions along a side of a tile, halos included, on the side with the lower resolution.
        halo: Positions at each side of a tile that are only read.

    Returns:
        The result of the last stage, in at least float32.
    """
    side = max(stages[0].side, stages[-1].result_side)
    into, out_of = side // stages[0].side, side // stages[-1].result_side
    height, width = features.shape[2] // into, features.shape[3] // into
    rows, columns = spans(height, tile, halo), spans(width, tile, halo)
    precision = torch.promote_types(features.dtype, torch.float32)
    shape = (1, stages[-1].result_width, height * out_of, width * out_of)
    result = torch.empty(
        shape, dtype=precision, device=features.device, memory_format=torch.channels_last
    ).zero_()
    norms = SharedNorms()
    if len(rows) * len(columns) > 1:
        reduced = thinned((height, width), most=min(tile, height) * min(tile, width))
        with norms:
            _run(stages, F.interpolate(features, [length * into for length in reduced], mode="nearest-exact"))
    # A halo that is all the stages see makes the rest of a tile exact; else tiles fade into each other.
    margin = halo if sum(stage.reach for stage in stages) <= halo * side else halo // 2
    vertical, horizontal = (blend_weights(axis, margin, out_of) for axis in (rows, columns))
    across = list(zip(columns, horizontal, strict=True))
    for (top, bottom), above in zip(rows, vertical, strict=True):
        for (left, right), beside in across:
            part = features[:, :, top * into : bottom * into, left * into : right * into]
            with norms.share() if len(rows) * len(columns) > 1 else nullcontext():
                part = _run(stages, part)
            weights = (above[:, None] * beside).to(result)
            result[:, :, top * out_of : bottom * out_of, left * out_of : right * out_of] += part * weights
    return result


def _run(stages: list[Stage], hidden: Tensor) -> Tensor:
    for stage in stages:
        hidden = stage.run(hidden)
    return hidden


@torch.no_grad()
def encode_within(tokenizer: Tokenizer, images: Images, memory: int) -> Indices:
    """The images as grids of codebook indices, within a budget of memory.

    What fits passes at once, with the result of ``tokenizer.encode``; else fewer images at a time; and images that
    do not fit alone pass in tiles, which is an approximation. Alone or in a batch, an image passes in the same way.

    Args:
        tokenizer: In evaluation mode; its weights decide about precision and device.
        images: As :meth:`Tokenizer.encode` takes them.
        memory: Bytes beside the weights, the images included; of several, one at least passes whatever the others
            take. What is kept to it is an estimate (:class:`vqgan.tokenizer.stages.Work`).

    Raises:
        ConfigError: If not even tiles fit, and as :meth:`Tokenizer.encode`.
    """
    check_images(images, tokenizer.image_channels)
    size = (images.shape[2], images.shape[3])
    tokenizer.grid_size(size)
    work = encoding(tokenizer, size, count=len(images), image_number=images.element_size())
    together = work.together(memory)
    if together == len(images):
        return tokenizer.encode(images)
    if together:
        return torch.cat([tokenizer.encode(part) for part in images.split(together)])
    plan = _plan(tokenizer, work, memory)
    return torch.cat([_encode_in_tiles(tokenizer, work, plan, image) for image in images.split(1)])


@torch.no_grad()
def decode_within(tokenizer: Tokenizer, indices: Integer[Tensor, "b h w"], memory: int) -> Images:
    """The images of grids of codebook indices, not clamped, within a budget of memory; see :func:`encode_within`.

    Args:
        tokenizer: In evaluation mode; its weights decide about precision and device.
        indices: As :meth:`Tokenizer.decode` takes them.
        memory: Bytes beside the weights, the images included, as there.

    Raises:
        ConfigError: If not even tiles fit (see :func:`check_decoding`), and as :meth:`Tokenizer.decode`.
    """
    factor = tokenizer.downsample_factor
    count, height, width = len(indices), indices.shape[1] * factor, indices.shape[2] * factor
    if not indices.numel():
        return tokenizer.decode(indices)
    work = decoding(tokenizer, (height, width), count=count)
    together = work.together(memory)
    if together == count:
        return tokenizer.decode(indices)
    weight = tokenizer.to_codebook.weight
    plan = _plan(tokenizer, work, memory) if not together else None
    check_indices(indices.to(torch.int64), tokenizer.codebook_size)
    images = torch.empty(
        count, tokenizer.image_channels, height, width, dtype=weight.dtype, device=weight.device
    )
    for first in range(0, count, max(1, together)):
        part = slice(first, first + max(1, together))
        if plan is None:
            images[part] = tokenizer.decode(indices[part])
        else:
            images[part] = _decode_in_tiles(tokenizer, work, plan, indices[part])
    return images


def check_decoding(tokenizer: Tokenizer, grid: tuple[int, int], memory: int) -> None:
    """Raises ConfigError if images of this token grid, however many, cannot be decoded within ``memory`` bytes."""
    decoding_tiles(tokenizer, grid, memory)


def decoding_tiles(tokenizer: Tokenizer, grid: tuple[int, int], memory: int) -> dict[str, str]:
    """How :func:`decode_within` cuts images of this token grid, for the record.

    Returns:
        ``{"tiles": "HEIGHTxWIDTH, halo N"}`` in pixels, halos included; nothing where the whole image passes.

    Raises:
        ConfigError: If not even tiles fit.
    """
    height, width = (side * tokenizer.downsample_factor for side in grid)
    work = decoding(tokenizer, (height, width), count=1)
    tiles = None if work.together(memory) else _tiles(work, plan_tiles(work, memory))
    return {"tiles": tiles} if tiles else {}


def _tiles(work: Work, plan: Plan) -> str | None:
    """The tiles that are used: spread evenly, they may be smaller than planned. None where one holds the image."""
    lengths = (side // plan.side for side in work.size)
    height, width = (spans(length, plan.tile, plan.halo)[0][1] * plan.side for length in lengths)
    return None if (height, width) == work.size else f"{height}x{width}, halo {plan.halo * plan.side}"


def _plan(tokenizer: Tokenizer, work: Work, memory: int) -> Plan:
    """The plan for an image that does not fit; the log says so."""
    plan = plan_tiles(work, memory)
    tiles = _tiles(work, plan)
    if tiles is not None:
        doing, (height, width) = "encoding" if work.encodes else "decoding", work.size
        line = f"{doing} {height}x{width} pixels in tiles of {tiles}, within {plan.peak / 2**30:.2f} GB: "
        said = _announced.setdefault(tokenizer, set())
        if line not in said:
            said.add(line)
            logger.info("%san approximation of the whole", line)
    return plan


def _encode_in_tiles(tokenizer: Tokenizer, work: Work, plan: Plan, images: Images) -> Indices:
    weight = tokenizer.to_codebook.weight
    hidden = images.to(weight).contiguous(memory_format=torch.channels_last)
    hidden = run_in_tiles(work.stages[: plan.border], hidden, plan.tile, plan.halo).to(weight)
    for stage in work.stages[plan.border :]:
        hidden = stage.run(hidden)
    return tokenizer.quantizer.encode(hidden)


def _decode_in_tiles(tokenizer: Tokenizer, work: Work, plan: Plan, indices: Tensor) -> Images:
    weight = tokenizer.to_codebook.weight
    hidden = tokenizer.quantizer.lookup(indices.to(weight.device, torch.int64)).to(weight.dtype)
    hidden = hidden.contiguous(memory_format=torch.channels_last)
    for stage in work.stages[: plan.border]:
        hidden = stage.run(hidden)
    return run_in_tiles(work.stages[plan.border :], hidden, plan.tile, plan.halo)
