"""What do the number of codes, their width and the loss of pixels cost or gain? On frames of a game, several seeds.

Tokenizers of factor 8 with equal steps: the demo's preset without discriminator and attention, one thing changed at a
time. Measured on held-out frames as in ``rates.py``: PSNR, that of the pixels that move, the things that are still
right, the share of codes that occur, and the bits of a frame if the codes' frequencies are known.

python benchmarks/bottleneck.py --work FOLDER [--quick] [--json PATH] [--seeds N] [--only NAME]

What is in FOLDER is not trained again. It needs the extras `demo`, `eval` and `features`, and scipy.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cells import Numbers, all_cells, arguments
from rates import MEASURED, Game, game

STEPS = 500
SETTINGS: dict[str, tuple[str, ...]] = {
    "preset": (),  # 1,024 codes of width 16 at length 1, l1+l2, and the worst 5 % of the pixels once more
    **{f"{count} codes": (f"tokenizer.quantizer.codebook_size={count}",) for count in (64, 256, 4096)},
    **{f"width {width}": (f"tokenizer.quantizer.codebook_dim={width}",) for width in (2, 4, 8, 64)},
    "any length": ("tokenizer.quantizer.normalize=false",),
    **{f"{kind}, worst pixels": (f"task.pixels={kind}",) for kind in ("l1", "l2")},
    **{kind: (f"task.pixels={kind}", "task.hard_share=0") for kind in ("l1", "l2", "l1+l2")},
}
"""What each changes in the preset."""


def cell(folder: Path, seed: int, *, part: Game, **settings: Any) -> Numbers:
    """One tokenizer."""
    numbers = part.cell(folder, seed, factor=8, **settings)
    pixels = part.frames[0, ..., 0].size
    return {**numbers, "bits a frame": pixels * numbers["by frequencies"]}


def main() -> None:
    """Trains, measures, prints the table and writes the numbers."""
    given = arguments(__doc__).parse_args()
    part, steps = Game(game(), 64 if given.quick else MEASURED), 4 if given.quick else STEPS
    cells: dict[str, Callable[[Path, int], Numbers]] = {
        name: partial(cell, part=part, steps=steps, changes=changes) for name, changes in SETTINGS.items()
    }
    all_cells(given, cells)


if __name__ == "__main__":
    main()
