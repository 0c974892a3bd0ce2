"""``vqgan complete``: the rest of given images."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import (
    Decoding,
    Folder,
    ImagePaths,
    Model,
    OptionalText,
    Size,
    parse_size,
)


@dataclass(kw_only=True)
class Complete(Decoding):
    """Keeps a part of each image and draws the rest; writes PNGs of the same names.

    What is kept are tokens: pixels near the border of the kept part may change a little.
    """

    model: Model
    """A run folder or a weights file of a prior."""

    images: ImagePaths
    """Image files, or folders of them (read with their sub-folders)."""

    out: Folder
    """Where the results go."""

    keep: Annotated[str, tyro.conf.arg(metavar="PART")] = "top=0.5"
    """What is kept: `top`, `bottom`, `left` or `right` with a share, or a picture's file that is white there."""

    size: Size = None
    """Resize and crop to this size first; by default the size the prior was trained on."""

    classes: Annotated[OptionalText, tyro.conf.arg(name="class", metavar="CLASS", help_behavior_hint="")] = (
        None
    )
    """The class of all images, by number or name."""

    def run(self) -> None:
        """Completes; prints the paths of the results."""
        from itertools import islice
        from pathlib import Path

        import torch

        from vqgan.cli.drawing import DrawnImages, check_condition, check_drawing, class_names, class_values
        from vqgan.cli.inputs import (
            check_multiples,
            find_images,
            known_tokens,
            load_synthesizer,
            read_named,
        )
        from vqgan.cli.outputs import check_targets
        from vqgan.cli.progress import ProgressBar
        from vqgan.config import require
        from vqgan.images import printable

        found = find_images(self.images)
        inputs = [*(path for _, path in found), Path(self.keep)]
        check_drawing(self, Path(self.out), inputs)
        names = [f"{name}.png" for name, _ in found]
        check_targets(Path(self.out), names, inputs, overwrite=self.overwrite)
        given, settings = parse_size(self.size), self.settings()
        synthesizer, header = load_synthesizer(self)
        check_condition(synthesizer, self.classes)
        value, *more = class_values(self.classes, class_names(synthesizer))
        require(
            not more, f"`--class` is `{self.classes}`, expected one class for all images", hint="name one"
        )
        tokenizer, (rows, columns) = synthesizer.tokenizer, synthesizer.config.window
        size = given or (rows * tokenizer.downsample_factor, columns * tokenizer.downsample_factor)
        check_multiples("`--size`", size, tokenizer.downsample_factor)
        known = known_tokens(self.keep, tokenizer.grid_size(size), tokenizer.downsample_factor)
        named = read_named(found, size=size, channels=tokenizer.image_channels)
        drawn = DrawnImages(
            Path(self.out),
            flags=self,
            header=header,
            synthesizer=synthesizer,
            command="complete",
        )
        done, info = 0, {"keep": printable(self.keep)} | ({} if value is None else {"class": str(value)})
        with ProgressBar() as bar:
            while part := list(islice(named, self.batch_size)):
                images = synthesizer.complete(
                    torch.cat([each.images for each in part]),
                    known.expand(len(part), -1, -1),
                    condition=None if value is None else {"class": value},
                    **settings,
                    seed=self.seed + done,
                    on_progress=drawn.reports(bar, part=len(part), count=len(found), info=info),
                )
                for image, each in zip(images, part, strict=True):
                    drawn.add(image, f"{each.name}.png", info)
                done += len(part)
        drawn.print_paths()
