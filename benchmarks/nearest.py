"""How much faster is the nearest code found if its block is found before?

The reference takes the same product and the places of its rows' least values by ``argmin``.

    python benchmarks/nearest.py [--quick] [--json PATH]
"""

import torch
from torch import Tensor

from timing import compare, parse_arguments, report
from vqgan.tokenizer.quantizers.vector import nearest

CODES, LATENTS, WIDTH = (1024, 4096, 16384), 1920, 16
"""Sizes of codebooks; latents of four frames of the demo of the screen, and their width."""


def usual(points: Tensor, vectors: Tensor) -> Tensor:
    """The nearest, as it is usually found."""
    return torch.addmm(vectors.square().sum(dim=1), points, vectors.T, alpha=-2).argmin(dim=1)


def main() -> None:
    """Compares, after both gave the same."""
    arguments = parse_arguments(__doc__.splitlines()[0])
    torch.manual_seed(0)
    rows = []
    for codes in CODES:
        points = torch.randn(16 if arguments.quick else LATENTS, WIDTH)
        vectors = torch.randn(codes, WIDTH)
        assert torch.equal(nearest(points, vectors), usual(points, vectors))
        rows.append(
            compare(
                f"{len(points)} latents among {codes:,} codes",
                ours=lambda points=points, vectors=vectors: nearest(points, vectors),
                reference=lambda points=points, vectors=vectors: usual(points, vectors),
                amount=len(points),
                unit="latents/s",
                repeats=2 if arguments.quick else 25,
            )
        )
    report(rows, quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
