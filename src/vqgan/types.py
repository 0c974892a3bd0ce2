"""The tensors that cross borders, with their shapes, and two small records; images and sizes are checked here.

Letters have one meaning everywhere: ``b`` batch, ``c`` image channels, ``H W`` pixels, ``h w`` token grid,
``d`` feature width, ``n`` image tokens, ``m`` condition tokens, ``K`` codebook size.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from operator import index
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from vqgan.errors import ConfigError, require

MAX_VALUE = 10.0
"""Values in [-1, 1] may be overshot, by resizing or noise; pixels of 0 to 255 are beyond this."""

Images = Float[Tensor, "b c H W"]
"""Pictures with values in [-1, 1]."""

Latents = Float[Tensor, "b d h w"]
"""Feature maps on the token grid, before or after quantization."""

Indices = Int[Tensor, "b h w"]
"""Codebook indices on the token grid, ``0 <= index < K``."""

Known = Bool[Tensor, "b h w"]
"""Which tokens of a grid are given (True) and which are to be sampled (False)."""

Tokens = Int[Tensor, "b n"]
"""Codebook indices in the order in which the prior reads them."""

ConditionTokens = Int[Tensor, "b m"]
"""What steers the prior, as the tokens in front of the image's tokens; those below 0 are vectors, -1 the last."""

Logits = Float[Tensor, "b n K"]
"""Unnormalised log-probabilities of the next token."""

Condition = Mapping[str, Any]
"""Conditions by the conditioner's name, one value for all images or one per image: ``{"class": [9, 232]}``."""

ACTION = "action"
"""The name under which a condition holds what was done between the frame before an image and the image."""

PartLengths = tuple[int | None, ...]
"""How condition tokens follow each other: how many each part has; None for one that has a token for each cell of the
grid, in raster order."""


class PerWindow(int):
    """Tokens of a part that tells where a window lies: so many for each place of the window in the grid."""


def behind(tokens: Int[Tensor, "*shape"], count: int) -> Int[Tensor, "*shape"]:
    """Numbers of a vocabulary that follows one of so many; those below 0 stand for vectors, which belong to none."""
    return tokens.where(tokens < 0, tokens + count)


@dataclass(frozen=True)
class Batch:
    """What the data loader yields.

    Attributes:
        images: Values in [-1, 1]. Without pixels where the samples are codes.
        condition: One tensor per condition, the batch first (``{"class": (b,)}``); of layouts and texts a list.
        sample: The number of each sample in the run's endless sequence; it seeds augmentation and corruption.
        skipped: Files of this batch that could not be read, as (path, reason); another took their place.
        corner: Where the images show more than the samples: rows and columns above and to the left of each sample.
        indices: The samples' codes, where these are known already.
    """

    images: Images
    condition: dict[str, Any]
    sample: Int[Tensor, " b"]
    skipped: tuple[tuple[str, str], ...] = ()
    corner: Int[Tensor, "b 2"] | None = None
    indices: Indices | None = None


@dataclass(frozen=True)
class Progress:
    """What every long function reports: ``step`` of ``total`` in ``phase``, and named values to show."""

    phase: str
    step: int
    total: int
    values: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class DrawnTokens(Progress):
    """What sampling reports: beside the numbers, how far the grids are.

    Attributes:
        indices: The grids so far, -1 where nothing is drawn yet. Copy it to keep it: it goes on changing.
        windows: The parts of the grid that the prior saw while it drew the newest tokens, as
            (top, left, rows, columns); one for each place at which the image grows.
        images: The numbers of these images among all of the call.
    """

    indices: Indices = field(kw_only=True)
    windows: tuple[tuple[int, int, int, int], ...] = field(kw_only=True)
    images: range = field(kw_only=True)


OnProgress = Callable[[Progress], None]


def previous(number: int) -> str:
    """The name under which a condition holds the frame that came ``number`` frames before an image.

    Example:
        >>> previous(1)
        'previous_1'
    """
    return f"previous_{number}"


def previous_in(names: Iterable[str]) -> list[int]:
    """The numbers of the previous frames among names of conditions.

    Example:
        >>> previous_in(["previous_2", "previous_1", "action", "previous_x"])
        [1, 2]
    """
    found = (name.removeprefix("previous_") for name in names if name.startswith("previous_"))
    return sorted(int(number) for number in found if number.isdecimal() and number[0] != "0")


def duration(seconds: float) -> str:
    """A time as a person says it.

    Example:
        >>> [duration(seconds) for seconds in (8.2, 130.0, 10_000.0, 300_000.0)]
        ['8 seconds', '2 minutes', '2.8 hours', '3.5 days']
    """
    for unit, length in (("days", 86_400), ("hours", 3600)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def height_and_width(size: Any) -> tuple[int, int]:
    """A size as Python's users give it: one number for a square, or two; integers of NumPy count too.

    Raises:
        ConfigError: If it is neither, or below 1.

    Example:
        >>> height_and_width(256), height_and_width([96, 80])
        ((256, 256), (96, 80))
    """
    try:
        height, width = map(index, size if isinstance(size, Iterable) else (size, size))
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ConfigError(
            f"`size` is {size!r}, expected whole numbers of at least 1: height and width, or one for a square",
            hint="write `size=256` or `size=(96, 80)`",
        )
    return height, width


def check_images(images: Any, channels: int | None = None) -> None:
    """Raises ConfigError unless these are images, at least one: (b c H W), floating point, of these channels.

    Example:
        >>> import torch
        >>> check_images(torch.zeros(1, 3, 8, 8))
        >>> check_images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
        Traceback (most recent call last):
            ...
        vqgan.errors.ConfigError: the images hold torch.uint8, expected floating-point values in [-1, 1]
        hint: `vqgan.read_images` gives such images, also of arrays
    """
    if not isinstance(images, Tensor):
        problem = f"are {describe(images)}, expected a tensor"
    elif images.ndim != 4:
        problem = f"have {images.ndim} dimensions, expected 4 (b c H W)"
    elif not images.is_floating_point():
        problem = f"hold {images.dtype}, expected floating-point values in [-1, 1]"
    elif images.shape[0] == 0:
        problem = f"have the shape {tuple(images.shape)}, expected at least one"
    elif channels not in (None, images.shape[1]):
        problem = f"have {images.shape[1]} channels, expected {channels}"
    else:
        return
    raise ConfigError(f"the images {problem}", hint="`vqgan.read_images` gives such images, also of arrays")


def grid_size(size: tuple[int, int], factor: int, model: str = "tokenizer") -> tuple[int, int]:
    """The token grid (h, w) of images of ``size`` (H, W) in a model, which messages call so.

    Raises:
        ConfigError: If height or width is not a positive multiple of ``factor``.

    Example:
        >>> grid_size((256, 384), 16)
        (16, 24)
    """
    height, width = size
    if min(size) < 1 or height % factor or width % factor:
        raise ConfigError(
            f"images of {height}x{width} pixels do not fit the {model}; "
            f"height and width must be multiples of {factor}",
            hint=next_sizes(size, factor),
        )
    return height // factor, width // factor


def lengths_on(
    lengths: PartLengths, grid: tuple[int, int], window: tuple[int, int] | None = None
) -> list[int]:
    """How many tokens each part of a condition has on this grid, over which a window of that size may slide.

    Example:
        >>> lengths_on((1, None, PerWindow(5)), (2, 3)), lengths_on((1, None, PerWindow(5)), (2, 3), (2, 2))
        ([1, 6, 5], [1, 6, 10])
    """
    rows, columns = window or grid
    places = (grid[0] - rows + 1) * (grid[1] - columns + 1)
    return [
        grid[0] * grid[1] if length is None else length * (places if isinstance(length, PerWindow) else 1)
        for length in lengths
    ]


def next_sizes(size: tuple[int, int], factor: int) -> str:
    """A hint: the nearest sizes whose sides are multiples of ``factor``.

    Example:
        >>> next_sizes((18, 16), 8), next_sizes((5, 8), 8)
        ('the next sizes are 16x16 and 24x16', 'the next size is 8x8')
    """
    smaller = "x".join(str(max(1, side // factor) * factor) for side in size)
    larger = "x".join(str(max(1, -(-side // factor)) * factor) for side in size)
    return f"the next size is {larger}" if smaller == larger else f"the next sizes are {smaller} and {larger}"


def check_indices(indices: Integer[Tensor, "b h w"], codebook_size: int) -> None:
    """Raises ConfigError unless all are codes: ``0 <= index < codebook_size``. Not looked at while tracing."""
    if is_traced():
        return
    low, high = (int(bound) for bound in indices.aminmax())
    if low < 0 or high >= codebook_size:
        raise ConfigError(
            f"indices range from {low} to {high}; the codebook has 0 to {codebook_size - 1}",
            hint="decode with the tokenizer that encoded them",
        )


def check_grids(indices: Tensor) -> None:
    """Raises ConfigError unless these are grids of indices: whole numbers (b h w)."""
    require(
        isinstance(indices, Tensor) and not indices.is_floating_point(),
        f"the indices are {describe(indices)}, expected a tensor of whole numbers (b h w)",
        hint="`encode` gives such indices; of an array, `torch.from_numpy(array.astype('int64'))`",
    )
    require(
        indices.ndim == 3,
        f"the indices have the shape {tuple(indices.shape)}, expected grids (b h w)",
        hint="`indices.reshape(-1, h, w)` makes grids of flat codes, `indices[None]` a batch of one grid",
    )
    require(
        0 not in indices.shape,
        f"there are no indices: their shape is {tuple(indices.shape)}",
        hint="`encode` gives such indices",
    )


def is_traced() -> bool:
    """Whether this is being compiled, exported or traced: what branches on values would end up in the result."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]


def check_values(images: Tensor) -> None:
    """Raises ConfigError if a value is not finite or far outside [-1, 1]. Not looked at while tracing."""
    if is_traced():
        return
    low, high = map(float, images.aminmax())
    require(
        math.isfinite(low) and math.isfinite(high),
        "the images hold values that are not finite, expected values in [-1, 1]",
        hint="look for NaN and infinity where the images come from",
    )
    require(
        low >= -MAX_VALUE and high <= MAX_VALUE,
        f"the images hold values from {low:g} to {high:g}, expected [-1, 1]",
        hint="of pixels from 0 to 255, `images / 127.5 - 1` makes such values",
    )


def check_known(known: Tensor, shape: tuple[int, int, int]) -> None:
    """Raises ConfigError unless ``known`` is a mask on grids of this shape (b, h, w).

    Example:
        >>> check_known(torch.ones(1, 2, 2, dtype=torch.bool), (1, 2, 2))
        >>> check_known(torch.ones(1, 2, 2), (1, 2, 2))
        Traceback (most recent call last):
            ...
        vqgan.errors.ConfigError: `known` holds torch.float32 of the shape (1, 2, 2), expected torch.bool (1, 2, 2)
        hint: it is a mask (b, h, w) on the token grid, not on pixels: True where the token is kept
    """
    require(
        known.dtype == torch.bool and known.shape == shape,
        f"`known` holds {known.dtype} of the shape {tuple(known.shape)}, expected torch.bool {shape}",
        hint="it is a mask (b, h, w) on the token grid, not on pixels: True where the token is kept",
    )


def is_whole(value: object) -> bool:
    """Whether this is an integer, NumPy's included."""
    return isinstance(value, Integral)


def is_number(value: object) -> bool:
    """Whether this is an integer or a float, NumPy's included."""
    return isinstance(value, Real)


def describe(given: object) -> str:
    """What was given instead, for messages."""
    return f"a tensor of {given.dtype}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
