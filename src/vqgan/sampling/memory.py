"""How many images are drawn together, and how many tokens are kept, within a budget of memory."""

from dataclasses import dataclass

from jaxtyping import Bool
from numpy import ndarray

from vqgan.config import require
from vqgan.prior import Prior
from vqgan.sampling.plan import Plan, plan_windows
from vqgan.sampling.sampler import NOISE_BYTES

_VECTORS_AT_WORK = 16
"""Vectors of the prior's width that a token takes while it is read: queries, keys, values, twice 4 widened, ..."""

_ROWS_OF_LOGITS = 8
"""Tensors of 8 bytes for each code that live while a token is drawn."""


@dataclass(frozen=True)
class _Costs:
    """Bytes that one token takes.

    Attributes:
        kept: Its keys and values.
        read: While it is read.
        drawn: While the next one is drawn.
    """

    kept: int
    read: int
    drawn: int


def share_whole(prior: Prior, *, at_once: int, last: int, block: int, count: int, memory: int) -> int:
    """How many images that the prior sees whole are drawn together; at least one.

    Args:
        prior: The distribution.
        at_once: Most tokens of an image that are read at once, condition included.
        last: Tokens that are read in all, condition included.
        block: Tokens of an image that are drawn at once.
        count: Most images.
        memory: Bytes, beside those of the weights and their copies.

    Raises:
        ConfigError: If ``memory`` is not positive.
    """
    costs = _costs(prior)
    needed = last * costs.kept + max(at_once, block) * costs.read + block * costs.drawn
    return max(1, min(count, _left(memory) // needed))


@dataclass(frozen=True)
class Share:
    """What fits.

    Attributes:
        images: How many are drawn together.
        plan: In which order, and what is kept.
        least_passes: Tokens that go through the prior for each image where all that is needed again is kept.
    """

    images: int
    plan: Plan
    least_passes: int


def share_windows(
    prior: Prior,
    given: Bool[ndarray, "h w"],
    window: tuple[int, int],
    *,
    condition: int,
    count: int,
    memory: int,
) -> Share:
    """Shares a budget among images that are drawn together, window by window.

    Keys and values come first: it is as many images as fit with all that their windows need again, and one image with
    as much of it as fits. What one image needs at the least is always taken.

    Args:
        prior: The distribution.
        given: Cells whose tokens need not be drawn.
        window: Rows and columns that the prior sees.
        condition: Condition tokens in front of each window's.
        count: Most images.
        memory: Bytes, beside those of the weights and their copies.

    Raises:
        ConfigError: If ``memory`` is not positive.
    """
    costs, left = _costs(prior), _left(memory)
    plan = plan_windows(given, window, condition=condition)
    images = left // max(1, _needed(plan, costs))
    if images >= 1:
        return Share(min(count, images), plan, plan.passes)
    most_kept = left // costs.kept
    while True:
        frugal = plan_windows(given, window, condition=condition, most_kept=most_kept)
        if not most_kept or _needed(frugal, costs) <= left:
            return Share(1, frugal, plan.passes)
        most_kept //= (
            2  # what is not kept is read again, which takes memory too: how much, only the plan shows
        )


def _costs(prior: Prior) -> _Costs:
    config, element = prior.config, prior.head.weight.element_size()
    return _Costs(
        kept=2 * config.depth * config.width * element,
        read=_VECTORS_AT_WORK * config.width * element,
        drawn=_ROWS_OF_LOGITS * config.codebook_size * 8,
    )


def _left(memory: int) -> int:
    """What a budget leaves beside the noise that is made in advance."""
    require(memory >= 1, f"`memory` is {memory} bytes, expected a positive number")
    return max(0, memory - NOISE_BYTES)


def _needed(plan: Plan, costs: _Costs) -> int:
    """Bytes that one image takes at the most."""
    read = (sum(reading.passes * costs.read + costs.drawn for reading in step) for step in plan.steps)
    return plan.most_kept * costs.kept + max(read, default=0)
