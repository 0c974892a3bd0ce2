"""From an image of any size to a training sample."""

import math
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.config import Config, Count, Natural
from vqgan.errors import require
from vqgan.images import Map, Pixels, Pose, draw_people, fit, fit_map, map_tensor, to_float, with_channels
from vqgan.layout import Layout

Resize = int | tuple[int, int] | Literal["cover"] | None
"""What an image is resized to before the crop: its shorter side, a range of it, just enough, or not at all."""


class Framing(Config, frozen=True):
    """Which part of an image becomes a sample, and of which size.

    Attributes:
        image_size: Rows and columns of the result.
        crop: Which part is kept of an image whose proportions differ.
        resize: The length of the shorter side before the crop, or a range from which a length is drawn for each
            sample: of photographs of 4000 pixels, a crop at 512 shows details and not the whole. ``"cover"``
            takes the smallest that holds the crop, none the image's own. Where the crop would not fit, the
            image is enlarged.
        flip: Mirrors every second image, on average.
        context: Pixels on each side of the crop that a prior's tokenizer sees too, so that the codes at the crop's
            border are nearly those of the whole image. Crop and context together must fit into the image, which is
            enlarged where they do not. At the image's border the crop has no context on that side, as there is
            none in the image.
        stretch: Whether each image is a map, such as depth, of which only relative values count: before the crop, its
            own smallest value v becomes -1 and its largest 1, ``2 (v - min) / max(max - min, 1e-8) - 1``, at the
            precision of its file. Such images have one channel.
    """

    image_size: tuple[int, int]
    crop: Literal["random", "center"] = "random"
    resize: Resize = "cover"
    flip: bool = False
    context: Natural = 0
    stretch: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(min(self.image_size) >= 1, f"`image_size` is {self.image_size}, expected at least (1, 1)")
        lengths = self.lengths() or (1, 1)
        require(
            1 <= lengths[0] <= lengths[1],
            f"`resize` is {self.resize}, expected a length of at least 1, or the shortest and the longest",
        )

    def window(self) -> tuple[int, int]:
        """Rows and columns of the crop with its context."""
        return self.image_size[0] + 2 * self.context, self.image_size[1] + 2 * self.context

    def lengths(self) -> tuple[int, int] | None:
        """The shortest and the longest shorter side that ``resize`` names, if it names any."""
        if self.resize is None or self.resize == "cover":
            return None
        return self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)


class TransformConfig(Framing, frozen=True, kw_only=True):
    """How an image becomes a tensor.

    Attributes:
        image_channels: 1 (grey), 3 (RGB) or 4 (RGBA), to which images are converted; others only arrays have.
        coordinates: Whether each sample comes with its place in its picture.
        labels: How many labels there are, if the images are label maps: grey pictures of label numbers, resized to the
            nearest label.
    """

    image_channels: Count
    coordinates: bool = False
    labels: Natural = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.stretch or (self.image_channels == 1 and not self.labels),
            "`data.stretch` is true, but the images are "
            + ("label maps" if self.labels else f"pictures of {self.image_channels} channels, expected 1"),
            hint="set `data.stretch=false`"
            + ("" if self.labels else ", or `tokenizer.autoencoder.image_channels=1`"),
        )

    def without_chance(self) -> "TransformConfig":
        """The same for images that are looked at, not trained on: the centre at the middle of the lengths."""
        lengths = self.lengths()
        resize = self.resize if lengths is None else sum(lengths) // 2
        return msgspec.structs.replace(self, crop="center", flip=False, resize=resize)

    def smallest_side(self) -> int | None:
        """How long the shorter side of a decoded image must be, half as long again as is used; None: as it is."""
        return None if self.resize is None else 3 * max(*self.window(), *(self.lengths() or ())) // 2


@dataclass(frozen=True)
class Cut:
    """Which part of an image becomes a sample, with its context, and where it lies in the resized picture.

    Attributes:
        at: Where the part lies, as :func:`fit` takes it.
        scale: Size of the resized picture in sizes of the image.
        flip: Whether the part is mirrored.
        corner: Rows and columns of context above and to the left of the sample.
        start: Row and column of the sample in the resized picture. Of a mirrored part, in the mirrored picture.
        whole: Rows and columns of the resized picture.
    """

    at: tuple[float, float]
    scale: float
    flip: bool
    corner: tuple[int, int]
    start: tuple[float, float]
    whole: tuple[float, float]

    def coordinates(self, size: tuple[int, int]) -> Float[Tensor, "1 rows columns"]:
        """Where each of the sample's pixels is in the picture: ``(row * W + column) / (H * W)``, in raster order."""
        return coordinates_of(self.start, size, self.whole)


def coordinates_of(
    start: tuple[float, float] | tuple[int, int],
    size: tuple[int, int],
    whole: tuple[float, float] | tuple[int, int],
) -> Float[Tensor, "1 rows columns"]:
    """As :meth:`Cut.coordinates`, of a part of ``size`` that begins at ``start`` in a picture of the size ``whole``."""
    rows, columns = (begin + np.arange(side) for begin, side in zip(start, size, strict=True))
    return torch.from_numpy((rows[:, None] * whole[1] + columns) / (whole[0] * whole[1])).float()[None]


def draw_cut(shape: tuple[int, int], config: Framing, generator: np.random.Generator) -> Cut:
    """Decides which part of an image of this shape (H, W) becomes a sample; chance comes from ``generator`` alone."""
    at = (generator.random(), generator.random()) if config.crop == "random" else (0.5, 0.5)
    scale, lengths, window = 0.0 if config.resize == "cover" else 1.0, config.lengths(), config.window()
    if lengths is not None:
        low, high = lengths
        scale = (low if low == high else int(generator.integers(low, high + 1))) / min(shape)
    scale = max(scale, window[0] / shape[0], window[1] / shape[1])
    whole = shape[0] * scale, shape[1] * scale
    (row, above, top), (column, beside, left) = (
        _place(max(0.0, whole[axis] - window[axis]), config.context, at[axis], exact=scale == 1)
        for axis in (0, 1)
    )
    flip = config.flip and bool(generator.random() < 0.5)
    if flip:
        beside, left = 2 * config.context - beside, whole[1] - config.image_size[1] - left
    return Cut((row, column), scale, flip, (above, beside), (top, left), whole)


def _place(free: float, context: int, at: float, *, exact: bool) -> tuple[float, int, float]:
    """Along one axis: where crop and context lie (a share of ``free``), the context before the crop, the crop's start.

    The crop may lie anywhere in the image. Near a border, crop and context end at the border, and the crop moves by at
    most half the context, so that before it are none, one or two contexts: whole cells of codes.
    """
    before = 0
    if context:
        wanted = (free + 2 * context) * at
        begin = min(max(wanted - context, 0.0), free)
        before, at = context * round((wanted - begin) / context), begin / free if free else 0.5
    begin = float(math.ceil(free * at - 0.5)) if exact else free * at  # whole pixels, as `fit` cuts them
    return at, before, begin + before


def cut_out(pixels: Pixels, config: TransformConfig, cut: Cut) -> Float[Tensor, "channels rows columns"]:
    """The part of an image with its context, resized, perhaps mirrored, in [-1, 1]."""
    how = config.window(), cut.at, cut.scale
    part = fit_map(pixels[:, :, 0], *how)[:, :, None] if config.labels else fit(pixels, *how)
    pixels = with_channels(part, config.image_channels)
    return to_float(pixels[:, ::-1].copy() if cut.flip else pixels)


def transform(
    pixels: Pixels, config: TransformConfig, generator: np.random.Generator
) -> Float[Tensor, "channels rows columns"]:
    """Resizes an image as ``config.resize`` says, crops it, with its context, and perhaps mirrors it.

    An image of the target's size keeps its exact pixels. Nothing but ``generator`` decides what is random.

    Returns:
        Values in [-1, 1].
    """
    return cut_out(pixels, config, draw_cut((pixels.shape[0], pixels.shape[1]), config, generator))


def cut_map(values: Map | Pose, config: Framing, cut: Cut, *, is_pose: bool = False) -> Tensor:
    """The part of a map that belongs to a sample, without context, as :func:`~vqgan.images.map_tensor` has it.

    People are drawn at the size of the sample. Mirrored people, also drawn ones (``is_pose``), keep left and right.
    """
    if isinstance(values, Pose):
        people = (values.mirrored() if cut.flip else values).people * (cut.scale, cut.scale, 1)
        people -= (cut.start[1], cut.start[0], 0)
        return to_float(draw_people(people, config.image_size, min(cut.whole)))
    part = fit_map(values, config.window(), cut.at, cut.scale)
    (top, left), (rows, columns) = cut.corner, config.image_size
    part = part[:, ::-1] if cut.flip else part
    part = part[:, :, ::-1] if cut.flip and is_pose else part  # red is left, blue is right
    return map_tensor(part[top : top + rows, left : left + columns])


def fit_pose(pose: Pose, size: tuple[int, int]) -> Float[Tensor, "1 3 rows columns"]:
    """The pose drawn for images of this size, as :func:`~vqgan.images.read_images` cuts a photograph to it."""
    config = Framing(image_size=size, crop="center")
    return cut_map(pose, config, draw_cut(pose.size, config, np.random.default_rng(0)))[None]


def cut_layout(layout: Layout, config: Framing, cut: Cut, generator: np.random.Generator | None) -> Layout:
    """The layout with the part of the picture that a sample shows, its objects shuffled if there is a ``generator``."""
    (top, left), size = cut.start, config.image_size
    if cut.flip:
        left = cut.whole[1] - size[1] - left  # in the picture that is not mirrored
    shares = left / cut.whole[1], top / cut.whole[0], size[1] / cut.whole[1], size[0] / cut.whole[0]
    x, y, width, height = (min(max(share, 0.0), 1.0) for share in shares)
    objects = layout.objects
    if generator is not None:
        objects = tuple(objects[int(number)] for number in generator.permutation(len(objects)))
    return Layout(objects=objects, crop=(x, y, width, height), is_flipped=cut.flip)
