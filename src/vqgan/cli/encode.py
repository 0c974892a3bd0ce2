"""``vqgan encode``: images to codes."""

from dataclasses import dataclass

from vqgan.cli.options import Folder, ImagePaths, Model, Size, Use, bytes_of, parse_size


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
    """Resize and crop to this size first; without it all images must have one size."""

    def run(self) -> None:
        """Encodes; prints the paths of the two files."""
        from pathlib import Path

        import numpy as np
        import torch

        from vqgan.checkpoints.codes import save_codes
        from vqgan.cli.inputs import check_multiples, find_images, load_tokenizer, memory_of, read_named
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
        shape = (0, 0)
        with ProgressBar() as bar, torch.no_grad():
            for each in read_named(found, size=size, channels=tokenizer.image_channels):
                height, width = each.images.shape[2:]
                if codes and shape != (height, width):
                    raise DataError(
                        f"`{printable(each.path)}` has {height}x{width} pixels, "
                        f"the images before it {shape[0]}x{shape[1]}",
                        hint="bring them to one size with `--size HEIGHTxWIDTH`",
                    )
                shape = (height, width)
                hint = "give the images a common size with `--size HEIGHTxWIDTH`"
                check_multiples(f"`{printable(each.path)}`", shape, tokenizer.downsample_factor, hint=hint)
                codes[each.name] = encode_within(tokenizer, each.images, memory, bar)[0].cpu().numpy()
                bar(Progress("encode", len(codes), len(found)))
        array = np.stack(list(codes.values()))
        path = save_codes(Path(self.out), array, list(codes), tokenizer, digest=digest)
        for written in (path, path.with_suffix(".json")):
            print(printable(written))
