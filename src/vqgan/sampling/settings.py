"""How tokens are drawn: temperature, filters, seed; and the draw itself."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan.errors import require
from vqgan.types import is_number, is_whole

NextLogits = Float[Tensor, "*rows K"]

Guidance = float | tuple[float, float]
"""A scale, or the first and the last of scales that change linearly over the sequence."""

MIN_TEMPERATURE = 1e-3
"""Below it, logits divided by the temperature easily leave float32; what is meant is greedy."""

_WHOLE = 2**40
"""What a probability of 1 counts."""


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are drawn from the prior's distribution; checked once, here.

    Attributes:
        temperature: Above 1 flattens the distribution, below 1 sharpens it; 0 takes the most probable code
            (no noise, no filter, the lowest code among equals). Numbers between 0 and 0.001 are refused.
        top_k: Keep the ``top_k`` most probable codes, and all that equal the last of them; None keeps all.
        top_p: Keep the fewest most probable codes that together have at least this probability; None or 1
            keeps all. After ``top_k``, of what it left.
        seed: Image ``i`` takes the noise of ``seed + i``, ``0 <= seed + i < 2**63``.
        jacobi: Guess blocks of this many tokens and read them in one pass (see :mod:`~vqgan.sampling.jacobi`); None
            draws one by one.
        window_stride: On grids larger than the window, let blocks of this many rows and columns of tokens share a
            window (see :func:`~vqgan.sampling.plan.plan_windows`): an approximation; 1 centres it on each token.
        guidance: How far the condition is followed beyond what was learned: logits become those with the condition plus
            this many times their difference from those without (with null tokens); 0 leaves them as they are. A pair
            begins with the first scale at the first place of the sequence and ends, linearly, with the second at the
            last.
        refine: Draw the unknown tokens of whole grids so many times again, each given all others (see
            :mod:`~vqgan.sampling.refine`); for completing: a grid without known tokens does not need it.

    Raises:
        ConfigError: If a value lies outside its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    jacobi: int | None = None
    window_stride: int = 1
    guidance: Guidance = 0.0
    refine: int = 0

    def __post_init__(self) -> None:
        require(
            is_number(self.temperature)
            and (self.temperature == 0 or MIN_TEMPERATURE <= self.temperature < math.inf),
            f"`temperature` is {self.temperature!r}, expected 0 or a number from {MIN_TEMPERATURE}",
            hint="0 is greedy, 1 is the distribution as learned",
        )
        require(
            self.top_k is None or (is_whole(self.top_k) and self.top_k >= 1),
            f"`top_k` is {self.top_k!r}, expected a whole number of at least 1",
            hint="omit it to keep all codes",
        )
        require(
            self.top_p is None or (is_number(self.top_p) and 0 < self.top_p <= 1),
            f"`top_p` is {self.top_p!r}, expected 0 < top_p <= 1",
            hint="omit it to keep all codes",
        )
        require(
            self.jacobi is None or (is_whole(self.jacobi) and self.jacobi >= 2),
            f"`jacobi` is {self.jacobi!r}, expected at least 2 tokens",
            hint="omit it to draw one by one",
        )
        require(
            is_whole(self.window_stride) and self.window_stride >= 1,
            f"`window_stride` is {self.window_stride!r}, expected at least 1 token",
            hint="omit it to move the window with every token",
        )
        require(
            len(self.scales) == 2 and all(is_number(each) and 0 <= each < math.inf for each in self.scales),
            f"`guidance` is {self.guidance!r}, expected a number of at least 0, or a pair: first and last",
            hint="omit it, or try 3",
        )
        require(
            is_whole(self.refine) and self.refine >= 0,
            f"`refine` is {self.refine!r}, expected a whole number of at least 0",
            hint="it counts sweeps over all tokens that are drawn: try 2",
        )

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable code is taken every time."""
        return self.temperature == 0

    @property
    def scales(self) -> tuple[float, ...]:
        """Guidance at the first and the last place of the sequence."""
        return (*self.guidance,) if isinstance(self.guidance, tuple | list) else (self.guidance,) * 2

    @property
    def branches(self) -> int:
        """Rows of a batch for each image: with guidance a second one, with null tokens."""
        return 2 if any(self.scales) else 1


def check_stride(stride: int, window: tuple[int, int], grid: tuple[int, int]) -> None:
    """Raises ConfigError if a window that moves every ``stride`` tokens would move by more than half of itself."""
    sliding = [side for side, size in zip(window, grid, strict=True) if side < size]
    most = max(1, min(sliding, default=1) // 2)
    require(
        is_whole(stride) and 1 <= stride <= most,
        f"`window_stride` is {stride!r}, expected 1 to {most} on this grid: at most half of the prior's window, "
        f"{window[0]} x {window[1]} tokens",
        hint="omit it to move the window with every token",
    )


def choose_tokens(
    logits: Float[Tensor, "*cells rows K"],
    settings: SamplingSettings,
    noise: Float[Tensor, "*cells b K"] | None,
    *,
    place: int | Int[Tensor, "*cells"] = 0,
    of: int = 1,
) -> Int[Tensor, "*cells rows"]:
    """Draws one token per row: the arg-max of filtered logits plus Gumbel noise, which is an exact draw.

    Adding the noise needs no sum over the codes, so the draw does not depend on how such a sum is rounded.

    Args:
        logits: Of the next tokens: a row for each image; with guidance as many again, of the same images with null
            tokens. Both rows of an image then get the token that is drawn from their mixture.
        settings: Temperature, filters and guidance.
        noise: Standard Gumbel noise; plays no part, and may be None, in greedy decoding.
        place: Where in the sequence the tokens stand, from 0.
        of: Length of the sequence.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if settings.branches == 2:
        logits = _guided(logits, settings.scales, place, of)
    if not settings.is_greedy and noise is not None:
        logits = filter_logits(logits, settings) + noise.to(logits.dtype)
    chosen = logits.argmax(dim=-1)
    return torch.cat([chosen, chosen], dim=-1) if settings.branches == 2 else chosen


def _guided(
    logits: Float[Tensor, "*cells rows K"],
    scales: tuple[float, ...],
    place: int | Int[Tensor, "*cells"],
    of: int,
) -> Float[Tensor, "*cells b K"]:
    """Strengthens what the condition changes in the logits (Ho and Salimans 2022, classifier-free guidance)."""
    (start, end), (conditioned, null) = scales, logits.chunk(2, dim=-2)
    share = place / max(1, of - 1) if isinstance(place, int) else place.to(logits.dtype) / max(1, of - 1)
    scale = start + (end - start) * share
    return conditioned + (scale[..., None, None] if isinstance(scale, Tensor) else scale) * (
        conditioned - null
    )


def filter_logits(logits: NextLogits, settings: SamplingSettings) -> NextLogits:
    """Applies temperature, then top-k, then top-p; what is not kept becomes minus infinity.

    Not for greedy decoding, which filters nothing.
    """
    logits = logits / settings.temperature
    if settings.top_k is not None:
        logits = keep_top_k(logits, settings.top_k)
    if settings.top_p is not None and settings.top_p < 1:
        logits = keep_top_p(logits, settings.top_p)
    return logits


def keep_top_k(logits: NextLogits, top_k: int) -> NextLogits:
    """Keeps the ``top_k`` largest logits of each row and all that equal the smallest of these.

    Example:
        >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0, 2.0]]), 2)
        tensor([[-inf, 3., 2., 2.]])
    """
    smallest = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < smallest, -math.inf)


def keep_top_p(logits: NextLogits, top_p: float) -> NextLogits:
    """Keeps the fewest most probable codes of each row whose probabilities add up to at least ``top_p``.

    At least one is kept. Among equal codes the lower one comes first. Probabilities are added up as whole numbers: in
    which order a GPU adds them then makes no difference.

    Example:
        >>> keep_top_p(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.6).exp()
        tensor([[0.5000, 0.3000, 0.0000]])
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    counts = (probabilities * _WHOLE).to(torch.int64)
    before = counts.cumsum(dim=-1) - counts
    is_over = before >= math.ceil(top_p * _WHOLE)
    dropped = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, is_over)
    return logits.masked_fill(dropped, -math.inf)
