"""How many images are drawn together, and how many tokens are kept, within a budget of memory."""

from dataclasses import dataclass

from jaxtyping import Bool
from numpy import ndarray

from vqgan.config import require
from vqgan.prior import Prior
from vqgan.sampling.plan import plan_windows

_VECTORS_AT_WORK = 14
"""Vectors of the prior's width that a token takes while it is read: queries, keys, values, 4 widened, ..."""

_ROWS_OF_LOGITS = 8
"""Tensors of the size of the logits that live while a token is drawn."""


@dataclass(frozen=True)
class Share:
    """What fits.

    Attributes:
        images: How many are drawn together.
        most_kept: The most tokens that are kept for each image while a window slides; None for all.
        passes: Tokens that go through the prior for each image.
        least_passes: How many they would be with all that could be kept.
    """

    images: int
    most_kept: int | None
    passes: int
    least_passes: int


def share_memory(
    prior: Prior,
    given: Bool[ndarray, "h w"],
    window: tuple[int, int],
    *,
    condition: int,
    count: int,
    memory: int,
) -> Share:
    """Shares a budget among images that are drawn together.

    Keys and values come first: it is as many images as fit with all that their windows need again, and one image with
    as much of it as fits. What one image needs at the least is always taken.

    Args:
        prior: The distribution.
        given: Cells whose tokens need not be drawn.
        window: Rows and columns that the prior sees.
        condition: Condition tokens in front of each window's.
        count: Most images.
        memory: Bytes, beside those of the weights.

    Raises:
        ConfigError: If ``memory`` is not positive.
    """
    require(memory >= 1, f"`memory` is {memory} bytes, expected a positive number")
    config, element = prior.config, prior.head.weight.element_size()
    kept_token = 2 * config.depth * config.width * element
    read_token = _VECTORS_AT_WORK * config.width * element
    drawn_token = _ROWS_OF_LOGITS * config.codebook_size * 8
    plan = plan_windows(given, window, condition=condition)
    at_work = max(
        (sum(reading.passes * read_token + drawn_token for reading in step) for step in plan.steps), default=0
    )
    images = memory // max(1, plan.most_kept * kept_token + at_work)
    if images >= 1:
        return Share(min(count, images), None, plan.passes, plan.passes)
    most_kept = max(0, memory - at_work) // kept_token
    frugal = plan_windows(given, window, condition=condition, most_kept=most_kept)
    return Share(1, most_kept, frugal.passes, plan.passes)
