"""A training crop of a large JPEG: decoded at a fraction of its size, compared with decoded whole.

python benchmarks/reading.py [--quick] [--json PATH]
"""

import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from timing import compare, environment, parse_arguments
from vqgan.data.transforms import TransformConfig, transform
from vqgan.images import read_pixels


def photograph(path: Path, rows: int, columns: int) -> None:
    """Writes a JPEG with detail at every scale, as in photographs: noise of all sizes, weaker the finer it is."""
    chance = np.random.Generator(np.random.Philox(0))
    total = np.zeros((rows, columns, 3), np.float32)
    for side in (4, 16, 64, 256, 1024):
        coarse = chance.integers(0, 256, (side, side, 3), np.uint8)
        layer = Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC)
        total += np.asarray(layer, np.float32) * (4 / side) ** 0.5
    Image.fromarray((total * (255 / total.max())).astype(np.uint8)).save(path, "JPEG", quality=92)


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photograph.jpg"
        photograph(path, *(750, 1000) if arguments.quick else (3000, 4000))
        rows = measured(path, 3 if arguments.quick else 9)
    if arguments.json is not None:
        record = {"quick": arguments.quick, "environment": environment(), "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def measured(path: Path, repeats: int) -> list[dict[str, Any]]:
    """One row for each size and way of resizing."""
    rows = []
    for size, resize in ((128, "cover"), (256, "cover"), (256, 512)):
        config = TransformConfig(
            image_size=(size, size), image_channels=3, crop="center", flip=False, resize=resize
        )

        def crop(smallest_side: int | None, config: TransformConfig = config) -> np.ndarray:
            pixels = read_pixels(path, 3, smallest_side=smallest_side)
            return transform(pixels, config, np.random.Generator(np.random.Philox(0))).numpy()

        row = compare(
            f"{size}x{size}, resize {resize}",
            ours=lambda crop=crop, config=config: crop(config.smallest_side()),
            reference=lambda crop=crop: crop(None),
            amount=1,
            unit="images/s",
            repeats=repeats,
        )
        error = float(np.square(crop(config.smallest_side()) - crop(None)).mean())
        rows.append({**asdict(row), "psnr": 10 * math.log10(4 / error) if error else None})  # None: equal
        print(json.dumps(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    main()
