"""``vqgan encode``: images to codes."""

from dataclasses import dataclass

from vqgan.cli.options import Fit, Folder, ImagePaths, Model, Size, Use, bytes_of, parse_size


@dataclass(kw_only=True)
class Encode(Use):
    """Writes the codes of images as one array `codes.npy` (images, rows, columns) with `codes.json` beside it."""

    model: Model
    """A run folder or a weights file."""

    images: ImagePaths
    """Image files, or folders of them (read with their sub-folders)."""

    out: Folder
    """Where the two files go."""

    size: Size = None
    """Resize and crop to this size first; without it all images must give grids of one size."""

    fit: Fit = "pad"
    """What to do with a size that the tokenizer's factor does not divide: pad (`decode` cuts back), crop, or refuse."""

    def run(self) -> None:
        """Encodes; prints the paths of the two files."""
        from pathlib import Path

        import numpy as np
        import torch

        from vqgan.checkpoints.codes import save_codes
        from vqgan.cli.inputs import find_images, fitted, load_tokenizer, memory_of, read_named
        from vqgan.cli.outputs import check_targets
        from vqgan.cli.progress import ProgressBar
        from vqgan.errors import DataError
        from vqgan.images import printable
        from vqgan.tokenizer import encode_within
        from vqgan.types import Progress

        found = find_images(self.images)
        inputs = [path for _, path in found]
        check_targets(Path(self.out), ["codes.npy", "codes.json"], inputs, overwrite=self.overwrite)
        size = parse_size(self.size)
        bytes_of(self.memory)  # a wrong number is refused before the model is read
        tokenizer, _, digest = load_tokenizer(self)
        memory = memory_of(self, tokenizer)
        codes: dict[str, np.ndarray] = {}
        sizes: list[tuple[int, int]] = []
        with ProgressBar() as bar, torch.no_grad():
            for each in read_named(found, size=size, channels=tokenizer.image_channels):
                images = fitted(each, self.fit, tokenizer.downsample_factor)
                # What padding added is no part of the image.
                height, width = map(min, each.images.shape[2:], images.shape[2:])
                codes[each.name] = encode_within(tokenizer, images, memory, bar)[0].cpu().numpy()
                first = next(iter(codes.values()))
                if first.shape != codes[each.name].shape:
                    raise DataError(
                        f"`{printable(each.path)}` has {height}x{width} pixels, "
                        f"the images before it {sizes[-1][0]}x{sizes[-1][1]}",
                        hint="bring them to one size with `--size HEIGHTxWIDTH`",
                    )
                sizes.append((height, width))
                bar(Progress("encode", len(codes), len(found)))
        array = np.stack(list(codes.values()))
        path = save_codes(Path(self.out), array, list(codes), tokenizer, digest=digest, sizes=sizes)
        for written in (path, path.with_suffix(".json")):
            print(printable(written))
