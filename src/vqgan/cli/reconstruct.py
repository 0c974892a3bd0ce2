"""``vqgan reconstruct``: images to images, through the codes."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vqgan.cli.options import Compute, parse_size


@dataclass(kw_only=True)
class Reconstruct(Compute):
    """Sends images through a tokenizer and writes what comes back as PNGs of the same names."""

    model: Annotated[str, tyro.conf.Positional]
    """A run folder or a weights file."""

    images: Annotated[list[str], tyro.conf.Positional]
    """Image files, or folders of them."""

    out: str
    """The folder for the results."""

    size: str | None = None
    """Resize and crop to `HEIGHTxWIDTH` first; by default every image keeps its size."""

    fit: Literal["exact", "crop", "pad"] = "exact"
    """What to do with a size that the tokenizer's factor does not divide: refuse, crop, or pad and cut back."""

    def run(self) -> None:
        """Reconstructs; prints the paths of the results."""
        from pathlib import Path

        import torch

        from vqgan.cli.inputs import find_images, load_tokenizer, read_named
        from vqgan.cli.progress import ProgressBar
        from vqgan.images import save_png
        from vqgan.tokenizer.sizes import crop_to_multiple, pad_to_multiple
        from vqgan.types import Progress

        found = find_images(self.images)
        tokenizer, header = load_tokenizer(self.model, device=self.device, precision=self.precision)
        factor = tokenizer.downsample_factor
        info = {"model": header.digest[:12], "command": "reconstruct", "precision": self.precision}
        size = parse_size(self.size)
        written = []
        with ProgressBar() as bar, torch.no_grad():
            for number, each in enumerate(
                read_named(found, size=size, channels=tokenizer.image_channels), start=1
            ):
                images = each.images
                height, width = images.shape[2:]
                if self.fit == "crop":
                    images = crop_to_multiple(images, factor)
                elif self.fit == "pad":
                    images, _ = pad_to_multiple(images, factor)
                else:
                    tokenizer.grid_size((height, width))
                result = tokenizer.decode(tokenizer.encode(images))
                if self.fit == "pad":
                    result = result[:, :, :height, :width]
                path = Path(self.out) / f"{each.name}.png"
                written.append(save_png(result[0].float().cpu(), path, info))
                bar(Progress("reconstruct", number, len(found)))
        for path in written:
            print(path)
