"""``vqgan sample``: new images."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import Decoding, Folder, Model, OptionalText, Size, check_batch_size, parse_size


@dataclass(kw_only=True)
class Sample(Decoding):
    """Draws new images and writes them as `000000.png`, `000001.png`, ... with `grid.png` of the first 64.

    Image i has the seed `--seed` + i; the same seed gives the same image whatever the batch size.
    """

    model: Model
    """A run folder or a weights file of a prior."""

    out: Folder
    """Where the results go."""

    count: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """Number of images; with `--class` the number of each class, class after class."""

    size: Size = None
    """By default the size it was trained on. On larger ones its window slides over the image."""

    classes: Annotated[
        OptionalText, tyro.conf.arg(name="class", metavar="CLASS[,CLASS...]", help_behavior_hint="")
    ] = None
    """Classes by number or name: `9,232`."""

    def run(self) -> None:
        """Samples; prints the paths of the images."""
        from pathlib import Path

        from vqgan.checkpoints.load import precision_of
        from vqgan.cli.drawing import DrawnImages, check_condition, class_names, class_values, share_of
        from vqgan.cli.inputs import check_multiples, load_synthesizer
        from vqgan.cli.progress import ProgressBar
        from vqgan.config import require

        require(self.count >= 1, f"`--count` is {self.count}, expected 1 or more")
        check_batch_size(self.batch_size)
        size = parse_size(self.size)
        synthesizer, header = load_synthesizer(self)
        check_condition(synthesizer, self.classes)
        if size is not None:
            check_multiples("`--size`", size, synthesizer.tokenizer.downsample_factor)
        values = class_values(self.classes, class_names(synthesizer))
        wanted = [value for value in values for _ in range(self.count)]
        drawn = DrawnImages(
            Path(self.out), flags=self, header=header, precision=precision_of(synthesizer), command="sample"
        )
        with ProgressBar() as bar:
            for start in range(0, len(wanted), self.batch_size):
                part = wanted[start : start + self.batch_size]
                images = synthesizer.sample(
                    len(part),
                    size=size,
                    condition={"class": part} if self.classes is not None else None,
                    temperature=self.temperature,
                    top_k=self.top_k,
                    top_p=self.top_p,
                    seed=self.seed + start,
                    on_progress=share_of(bar, done=start, part=len(part), count=len(wanted)),
                )
                for number, (image, value) in enumerate(zip(images, part, strict=True), start=start):
                    drawn.add(image, f"{number:06d}", {} if value is None else {"class": str(value)})
        drawn.write_grid({} if self.classes is None else {"class": self.classes})
        drawn.print_paths()
