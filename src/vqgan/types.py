"""The tensors that cross borders, with their shapes, and two small records.

Letters have one meaning everywhere: ``b`` batch, ``c`` image channels, ``H W`` pixels, ``h w`` token grid,
``d`` feature width, ``n`` image tokens, ``m`` condition tokens, ``K`` codebook size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

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
"""What steers the prior, as the tokens in front of the image's tokens."""

Logits = Float[Tensor, "b n K"]
"""Unnormalised log-probabilities of the next token."""

Condition = Mapping[str, Any]
"""Conditions by the conditioner's name, one value for all images or one per image: ``{"class": [9, 232]}``."""


@dataclass(frozen=True)
class Batch:
    """What the data loader yields.

    Attributes:
        images: Values in [-1, 1].
        condition: One tensor per condition, the batch first (``{"class": (b,)}``).
        sample: The number of each sample in the run's endless sequence; it seeds augmentation and corruption.
        skipped: Files of this batch that could not be read, as (path, reason); another took their place.
    """

    images: Images
    condition: dict[str, Tensor]
    sample: Int[Tensor, " b"]
    skipped: tuple[tuple[str, str], ...] = ()


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


def duration(seconds: float) -> str:
    """A time as a person says it.

    Example:
        >>> [duration(seconds) for seconds in (8.2, 130, 10_000, 300_000)]
        ['8 seconds', '2 minutes', '2.8 hours', '3.5 days']
    """
    for unit, length in (("days", 86_400), ("hours", 3600)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
