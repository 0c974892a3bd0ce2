"""Grids larger than the training size: a prior of local span, compared with the original's window and the exact one.

Priors of 6 layers, 8 heads, width 512 and 1024 codes with random weights, fp32, with a map as condition. The original
reads its whole window and that of the condition again for each token; it is stopped after a few tokens, as each costs
the same.

    python benchmarks/large_images.py [--quick] [--json PATH] [--long]

``--long`` adds the exact window on the same grid, which takes minutes.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from limits import Limits, Work, limit_seconds, measure_limits
from sample import TOP_K, make_prior, original_loop
from streaming import Peak, anonymous
from timing import compare, environment, parse_arguments
from vqgan.prior import LocalSpan, Prior, PriorConfig
from vqgan.sampling import SamplingSettings, sample_sliding, sample_wavefront

LONG, ALONE = "--long", "--alone"
SETTINGS = SamplingSettings(top_k=TOP_K)


def make_local(span: LocalSpan, depth: int, width: int) -> Prior:
    """A prior of the same size as the one with full attention."""
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=1024,
        condition_size=1024,
        context_length=511,
        depth=depth,
        width=width,
        num_heads=8,
        positions="rotary",
        span=span,
    )
    return Prior(config, lengths=(None,)).eval()


def make_map(grid: tuple[int, int]) -> Tensor:
    """A condition token for each cell."""
    return torch.randint(1024, (1, grid[0] * grid[1]), generator=torch.Generator().manual_seed(1))


def wavefront(prior: Prior, grid: tuple[int, int]) -> Tensor:
    """One image; the span is the prior's."""
    assert prior.config.span is not None
    indices = torch.zeros(1, *grid, dtype=torch.int64)
    return sample_wavefront(
        prior, make_map(grid), indices, indices.bool(), span=prior.config.span, settings=SETTINGS
    )


def works(span: LocalSpan, grid: tuple[int, int]) -> list[Work]:
    """What each step reads."""
    lag, found = min(span.columns + 1, grid[1]), []
    for step in range(grid[1] + (grid[0] - 1) * lag):
        first, last = max(0, -((grid[1] - step) // lag)), min(grid[0] - 1, step // lag)
        tokens = last - first + 1
        seen = span.rows * (2 * span.columns + 1) + span.columns
        found.append(Work(tokens, tokens, tokens * seen, tokens * seen, tokens * (seen - 1)))
    return found


def print_alone(depth: int, width: int, rows: int, columns: int) -> None:
    """The work of a separate process: seconds and memory of one image."""
    prior = make_local(LocalSpan(rows=8, columns=8), depth, width)
    wavefront(prior, (2, 2))  # libraries load what they need
    before = anonymous()
    with Peak() as peak:
        begun = time.perf_counter()
        wavefront(prior, (rows, columns))
        seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "peak_mb": (peak.bytes - before) / 1e6}))


def alone(depth: int, width: int, grid: tuple[int, int], limits: Limits) -> dict[str, Any]:
    """One image in a separate process."""
    command = [sys.executable, __file__, ALONE, *map(str, (depth, width, *grid))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    prior = make_local(LocalSpan(rows=8, columns=8), depth, width).config
    least = limit_seconds(prior, works(LocalSpan(rows=8, columns=8), grid), limits, element=4)
    return {
        "work": f"{grid[0]}x{grid[1]}, span 8 x 8",
        "tokens_per_second": grid[0] * grid[1] / found["seconds"],
        **found,
        "limit": least / found["seconds"],
    }


def main() -> None:
    if ALONE in sys.argv:
        print_alone(*map(int, sys.argv[sys.argv.index(ALONE) + 1 :][:4]))
        return
    is_long = LONG in sys.argv
    if is_long:
        sys.argv.remove(LONG)
    arguments = parse_arguments(__doc__.splitlines()[0])
    quick = arguments.quick
    depth, width, side, grid = (1, 64, 4, (8, 8)) if quick else (6, 512, 16, (64, 64))
    limits, device = measure_limits(torch.device("cpu"), torch.float32), torch.device("cpu")
    full, compared = make_prior(side, depth, width, device), []
    few = 2 if quick else 8
    for span in (LocalSpan(rows=8, columns=8), LocalSpan(rows=8, columns=4), LocalSpan(rows=4, columns=4)):
        prior = make_local(span, depth, width)
        name = f"{grid[0]}x{grid[1]}, span {span.rows} x {span.columns}, and the original's loop"
        found = compare(
            name,
            ours=partial(wavefront, prior, grid),
            reference=partial(original_loop, full, make_map(grid), grid, side, few, is_spatial=True),
            amount=grid[0] * grid[1],
            reference_amount=few,
            unit="tokens/s",
            repeats=1 if quick else 3,
            limit_seconds=limit_seconds(prior.config, works(span, grid), limits, element=4),
        )
        compared.append(asdict(found))
        print(json.dumps(compared[-1]), flush=True)
    rows = []
    if is_long:
        indices = torch.zeros(1, *grid, dtype=torch.int64)
        given = (full, make_map(grid), indices, indices.bool())
        begun = time.perf_counter()
        sample_sliding(*given, window=(side, side), lengths=(None,), settings=SETTINGS)
        seconds = time.perf_counter() - begun
        exact = {"work": f"{grid[0]}x{grid[1]}, exact window", "seconds": seconds}
        rows.append({**exact, "tokens_per_second": grid[0] * grid[1] / seconds})
    grids = [(16, 16)] if quick else [(64, 64), (1024, 64), (256, 256)]
    rows += [alone(depth, width, each, limits) for each in grids]
    for found in rows:
        print(json.dumps(found), flush=True)
    if arguments.json is not None:
        record = {"quick": quick, "environment": environment(), "rows": compared, "alone": rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
