"""``vqgan reconstruct``: images to images, through the codes."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from vqgan.cli.options import Fit, Folder, ImagePaths, Model, Size, Use, bytes_of, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor

    from vqgan.images import Pixels

logger = logging.getLogger(__name__)

SHEET_IMAGES, SHEET_SIDE = 32, 256
"""The comparison sheet shows at most so many images, with a longer side of at most so many pixels."""


@dataclass(kw_only=True)
class Reconstruct(Use):
    """Sends images through a tokenizer and writes what comes back as PNGs of the same names.

    How near each comes to its image (PSNR) goes to stderr.
    """

    model: Model
    """A run folder or a weights file."""

    images: ImagePaths
    """Image files, or folders of them (read with their sub-folders)."""

    out: Folder
    """Where the results go."""

    size: Size = None
    """Resize and crop to this size first; by default every image keeps its size."""

    fit: Fit = "pad"
    """What to do with a size that the tokenizer's factor does not divide: pad and cut back, crop, or refuse."""

    compare: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write `comparison.png`: the first 32 images, each with its reconstruction to the right."""

    def run(self) -> None:
        """Reconstructs; prints the paths of the results."""
        from pathlib import Path

        import torch

        from vqgan.checkpoints.load import precision_of
        from vqgan.cli.frames_page import smaller
        from vqgan.cli.inputs import different, find_images, fitted, load_tokenizer, memory_of, read_named
        from vqgan.cli.outputs import check_targets
        from vqgan.cli.progress import ProgressBar
        from vqgan.evaluation.reconstruction import pixels_psnr
        from vqgan.images import printable, save_png, to_uint8
        from vqgan.tokenizer import check_decoding, decode_within, encode_within
        from vqgan.types import Progress

        found, out = find_images(self.images), Path(self.out)
        names = [*(name for name, _ in found), *["comparison"] * self.compare]
        targets = [f"{name}.png" for name in different(names)]
        check_targets(out, targets, [path for _, path in found], overwrite=self.overwrite)
        size = parse_size(self.size)
        bytes_of(self.memory)  # a wrong number is refused before the model is read
        tokenizer, header, _ = load_tokenizer(self)
        memory = memory_of(self, tokenizer)
        info = {
            "model": header.digest[:12],
            "command": "reconstruct",
            "precision": precision_of(tokenizer),
            "fit": self.fit,
            "memory": str(self.memory),
        }
        paths, decibels = [], []
        shown: list[Pixels] = []
        with ProgressBar() as bar, torch.no_grad():
            for each in read_named(found, size=size, channels=tokenizer.image_channels):
                height, width = each.images.shape[2:]
                images = fitted(each, self.fit, tokenizer.downsample_factor)
                check_decoding(tokenizer, tokenizer.grid_size((images.shape[2], images.shape[3])), memory)
                indices = encode_within(tokenizer, images, memory, bar)
                result = decode_within(tokenizer, indices, memory, bar)[0, :, :height, :width].float().cpu()
                before, after = (to_uint8(x).numpy() for x in (images[0, :, :height, :width], result))
                decibels.append(pixels_psnr(before, after))
                paths.append(
                    save_png(result, out / f"{each.name}.png", {**info, "psnr": f"{decibels[-1]:.2f}"})
                )
                if self.compare and len(shown) < 2 * SHEET_IMAGES:
                    shown += [smaller(before, SHEET_SIDE), smaller(after, SHEET_SIDE)]
                bar(Progress("reconstruct", len(paths), len(found)))
                logger.info("`%s`: PSNR %.2f dB", printable(each.path), decibels[-1])
        logger.info("PSNR %.2f dB in the mean of %d", sum(decibels) / len(decibels), len(decibels))
        if self.compare:
            paths.append(save_png(_side_by_side(shown), out / targets[-1], info))
        for path in paths:
            print(printable(path))


def _side_by_side(pictures: "Sequence[Pixels]") -> "Float[Tensor, 'c R C']":
    """Pictures of any sizes, eight in a row, each in the top left of its cell."""
    import numpy as np

    from vqgan.images import grid, to_float

    height, width = (max(each.shape[axis] for each in pictures) for axis in (0, 1))
    cells = np.full((len(pictures), height, width, pictures[0].shape[2]), 255, np.uint8)
    for cell, each in zip(cells, pictures, strict=True):
        cell[: each.shape[0], : each.shape[1]] = each
    return grid(to_float(cells), columns=8)
