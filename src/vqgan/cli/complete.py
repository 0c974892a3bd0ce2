"""``vqgan complete``: the rest of given images."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import Decoding, parse_size


@dataclass(kw_only=True)
class Complete(Decoding):
    """Keeps a part of each image and draws the rest."""

    model: Annotated[str, tyro.conf.Positional]
    """A run folder or weights file of a prior."""

    images: Annotated[list[str], tyro.conf.Positional]
    """Image files, or folders of them."""

    out: str
    """The folder for the results."""

    keep: str = "top=0.5"
    """What is kept: `top=0.5`, `bottom`, `left` or `right` with a share, or a picture that is white there."""

    size: str | None = None
    """Resize and crop to `HEIGHTxWIDTH` first; by default the size the prior was trained on."""

    classes: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """The class of all images, by number or name."""

    def run(self) -> None:
        """Completes; prints the paths of the results."""
        from pathlib import Path

        import torch

        from vqgan.cli.drawing import class_values, write_drawn
        from vqgan.cli.inputs import find_images, known_tokens, load_synthesizer, read_named
        from vqgan.cli.progress import ProgressBar
        from vqgan.config import require

        require(self.batch_size >= 1, f"`--batch-size` is {self.batch_size}, expected 1 or more")
        found = find_images(self.images)
        synthesizer, header = load_synthesizer(self.model, device=self.device, precision=self.precision)
        tokenizer = synthesizer.tokenizer
        factor = tokenizer.downsample_factor
        rows, columns = synthesizer.config.window
        size = parse_size(self.size) or (rows * factor, columns * factor)
        known = known_tokens(self.keep, tokenizer.grid_size(size))
        named = list(read_named(found, size=size, channels=tokenizer.image_channels))
        classes = class_values(self.classes)
        condition = {"class": classes} if self.classes else None
        results = []
        with ProgressBar() as bar:
            for start in range(0, len(named), self.batch_size):
                images = torch.cat([each.images for each in named[start : start + self.batch_size]])
                results.append(
                    synthesizer.complete(
                        images,
                        known.expand(len(images), -1, -1),
                        condition=condition,
                        temperature=self.temperature,
                        top_k=self.top_k,
                        top_p=self.top_p,
                        seed=self.seed + start,
                        on_progress=bar,
                    )
                )
        extra = [{"keep": self.keep, "image": each.name} for each in named]
        for path in write_drawn(Path(self.out), results, self, header, "complete", extra):
            print(path)
