"""``vqgan encode``: images to codes."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import Compute, parse_size


@dataclass(kw_only=True)
class Encode(Compute):
    """Writes the codes of images as one array `codes.npy` (images, rows, columns) with `codes.json` beside it."""

    model: Annotated[str, tyro.conf.Positional]
    """A run folder or a weights file."""

    images: Annotated[list[str], tyro.conf.Positional]
    """Image files, or folders of them."""

    out: str
    """The folder for the results."""

    size: str | None = None
    """Resize and crop to `HEIGHTxWIDTH` first; without it all images must have one size."""

    def run(self) -> None:
        """Encodes; prints the path of the array."""
        from pathlib import Path

        import numpy as np
        import torch

        from vqgan.checkpoints.codes import save_codes
        from vqgan.cli.inputs import find_images, load_tokenizer, read_named
        from vqgan.cli.progress import ProgressBar
        from vqgan.errors import DataError
        from vqgan.types import Progress

        found = find_images(self.images)
        tokenizer, _ = load_tokenizer(self.model, device=self.device, precision=self.precision)
        size = parse_size(self.size)
        names: list[str] = []
        codes: list[np.ndarray] = []
        with ProgressBar() as bar, torch.no_grad():
            for number, each in enumerate(
                read_named(found, size=size, channels=tokenizer.image_channels), start=1
            ):
                grid = tokenizer.encode(each.images)[0].cpu().numpy()
                if codes and grid.shape != codes[0].shape:
                    raise DataError(
                        f"`{each.path}` has a token grid of {grid.shape}, the images before it {codes[0].shape}",
                        hint="bring them to one size with `--size HEIGHTxWIDTH`",
                    )
                names.append(each.name)
                codes.append(grid)
                bar(Progress("encode", number, len(found)))
        print(save_codes(Path(self.out), np.stack(codes), names, tokenizer))
