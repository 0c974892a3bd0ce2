"""The machine's limits: how fast it reads memory and multiplies, and what a pass through a prior needs of both."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from vqgan.prior import PriorConfig
from vqgan.sampling import Plan


@dataclass(frozen=True)
class Limits:
    """Measured on this machine.

    Attributes:
        bytes_per_second: Reading memory that is in no cache.
        flops_per_second: A product of two square matrices, by its fastest kernel.
    """

    bytes_per_second: float
    flops_per_second: float


@dataclass(frozen=True)
class Work:
    """What one pass reads.

    Attributes:
        tokens: Tokens that go through the prior.
        sequences: Sequences of which the next token is wanted.
        pairs: Sum over the tokens of how many each of them sees, itself included.
        last_pairs: The same, only for the last token of each sequence.
        cached: Tokens whose keys and values are taken from memory.
    """

    tokens: int
    sequences: int
    pairs: int
    last_pairs: int
    cached: int


def measure_limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """Reads 256 MB and multiplies 2048x2048 (on CUDA 1 GB and 8192x8192); of twelve runs the third fastest."""
    on_cuda = device.type == "cuda"
    numbers = torch.ones((2**30 if on_cuda else 2**28) // 4, device=device)
    side = 8192 if on_cuda else 2048
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    ways: list[Callable[[], object]] = [lambda: matrix @ matrix]
    if not on_cuda and dtype == torch.float32:
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(matrix, matrix, None, "none", [], ""))
    ways.append(lambda: F.linear(matrix, matrix))
    return Limits(
        bytes_per_second=numbers.nbytes / _fast(numbers.sum, device),
        flops_per_second=2 * side**3 / min(_fast(way, device) for way in ways),
    )


def _fast(run: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(12):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[2]


def grid_works(batch: int, condition: int, total: int) -> list[Work]:
    """A grid that the prior sees whole: the condition, then token by token."""
    first = Work(batch * condition, batch, batch * condition * (condition + 1) // 2, batch * condition, 0)
    lengths = range(condition + 1, condition + total)
    steps = [Work(batch, batch, batch * length, batch * length, batch * (length - 1)) for length in lengths]
    return [first, *steps]


def plan_works(plan: Plan, batch: int) -> list[Work]:
    """The steps of a sliding window."""
    works = []
    for step in plan.steps:
        pairs = sum((reading.past + 1 + reading.length) * reading.passes // 2 for reading in step)
        works.append(
            Work(
                tokens=batch * sum(reading.passes for reading in step),
                sequences=batch * len(step),
                pairs=batch * pairs,
                last_pairs=batch * sum(reading.length for reading in step),
                cached=batch * sum(reading.past for reading in step),
            )
        )
    return works


def limit_seconds(config: PriorConfig, works: list[Work], limits: Limits, *, element: int) -> float:
    """Seconds of the given work if each is bound only by memory or by arithmetic, whichever takes longer.

    Counted are the products and attention, and reading all weights and the cache once for each work; in the last
    layer only the keys and values of tokens that nothing is asked of.
    """
    width, depth = config.width, config.depth
    weights = (12 * width * width * depth + width * config.codebook_size) * element
    seconds = 0.0
    for work in works:
        layers = 24 * width * width * ((depth - 1) * work.tokens + work.sequences)
        layers += 4 * width * width * (work.tokens - work.sequences)
        attention = 4 * width * ((depth - 1) * work.pairs + work.last_pairs)
        flops = layers + attention + 2 * width * config.codebook_size * work.sequences
        moved = weights + 2 * depth * width * element * (work.cached + work.tokens)
        seconds += max(flops / limits.flops_per_second, moved / limits.bytes_per_second)
    return seconds
