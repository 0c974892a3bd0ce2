"""``vqgan reconstruct``: images to images, through the codes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vqgan.cli.options import Folder, ImagePaths, Model, Size, Use, bytes_of, parse_size

if TYPE_CHECKING:
    from vqgan.cli.inputs import Named
    from vqgan.tokenizer import Tokenizer
    from vqgan.types import Images, OnProgress

Fit = Literal["exact", "crop", "pad"]


@dataclass(kw_only=True)
class Reconstruct(Use):
    """Sends images through a tokenizer and writes what comes back as PNGs of the same names."""

    model: Model
    """A run folder or a weights file."""

    images: ImagePaths
    """Image files, or folders of them (read with their sub-folders)."""

    out: Folder
    """Where the results go."""

    size: Size = None
    """Resize and crop to this size first; by default every image keeps its size."""

    fit: Fit = "exact"
    """What to do with a size that the tokenizer's factor does not divide: refuse, crop, or pad and cut back."""

    def run(self) -> None:
        """Reconstructs; prints the paths of the results."""
        from pathlib import Path

        import torch

        from vqgan.checkpoints.load import precision_of
        from vqgan.cli.inputs import find_images, load_tokenizer, memory_of, read_named
        from vqgan.cli.outputs import check_targets
        from vqgan.cli.progress import ProgressBar
        from vqgan.images import printable, save_png
        from vqgan.types import Progress

        found = find_images(self.images)
        names = [f"{name}.png" for name, _ in found]
        check_targets(Path(self.out), names, [path for _, path in found], overwrite=self.overwrite)
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
        paths = []
        with ProgressBar() as bar, torch.no_grad():
            for each in read_named(found, size=size, channels=tokenizer.image_channels):
                result = reconstruction(tokenizer, each, self.fit, memory, bar)
                path = Path(self.out) / f"{each.name}.png"
                paths.append(save_png(result[0].float().cpu(), path, info))
                bar(Progress("reconstruct", len(paths), len(found)))
        for path in paths:
            print(printable(path))


def reconstruction(
    tokenizer: "Tokenizer", named: "Named", fit: Fit, memory: int, on_progress: "OnProgress"
) -> "Images":
    """What comes back of one image within so many bytes beside the weights.

    Raises:
        ConfigError: If the tokenizer's factor does not divide its size, and ``fit`` does not help; or ``memory`` is
            too little.
    """
    from vqgan.cli.inputs import check_multiples
    from vqgan.images import printable
    from vqgan.tokenizer import (
        check_decoding,
        crop_to_multiple,
        decode_within,
        encode_within,
        pad_to_multiple,
    )

    images, factor = named.images, tokenizer.downsample_factor
    height, width = images.shape[2:]
    what = f"`{printable(named.path)}`"
    if fit == "exact":
        hint = "add `--fit pad`, `--fit crop` or `--size HEIGHTxWIDTH`"
        check_multiples(what, (height, width), factor, hint=hint)
    elif fit == "crop" and min(height, width) < factor:
        check_multiples(what, (height, width), factor, hint="there is nothing to crop: `--fit pad`")
    if fit == "crop":
        images = crop_to_multiple(images, factor)
    elif fit == "pad":
        images, _ = pad_to_multiple(images, factor)
    grid = tokenizer.grid_size((images.shape[2], images.shape[3]))
    check_decoding(tokenizer, grid, memory)
    indices = encode_within(tokenizer, images, memory, on_progress)
    return decode_within(tokenizer, indices, memory, on_progress)[:, :, :height, :width]
