"""``vqgan sample``: new images."""

import logging
from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import Decoding, Folder, Model, OptionalText, Size, parse_size

logger = logging.getLogger(__name__)


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

        from vqgan.cli.drawing import DrawnImages, check_condition, check_drawing, class_names, class_values
        from vqgan.cli.inputs import check_multiples, load_synthesizer
        from vqgan.cli.outputs import check_targets
        from vqgan.cli.progress import ProgressBar
        from vqgan.config import require

        require(self.count >= 1, f"`--count` is {self.count}, expected 1 or more")
        check_drawing(self, Path(self.out))
        size, settings = parse_size(self.size), self.settings()
        synthesizer, header = load_synthesizer(self)
        check_condition(synthesizer, self.classes)
        if size is not None:
            check_multiples("`--size`", size, synthesizer.tokenizer.downsample_factor)
        values = class_values(self.classes, class_names(synthesizer))
        wanted = [value for value in values for _ in range(self.count)]
        names = [*(f"{number:06d}.png" for number in range(len(wanted))), "grid.png"]
        check_targets(Path(self.out), names, overwrite=self.overwrite)
        if self.temperature == 0 and self.count > 1:
            of_class = " of a class" if self.classes is not None else ""
            logger.warning("at `--temperature 0` all %d images%s are the same", self.count, of_class)
        infos = [{} if value is None else {"class": str(value)} for value in wanted]
        drawn = DrawnImages(
            Path(self.out), flags=self, header=header, synthesizer=synthesizer, command="sample"
        )
        with ProgressBar() as bar:
            for start in range(0, len(wanted), self.batch_size):
                part = wanted[start : start + self.batch_size]
                images = synthesizer.sample(
                    len(part),
                    size=size,
                    condition={"class": part} if self.classes is not None else None,
                    **settings,
                    seed=self.seed + start,
                    on_progress=drawn.reports(bar, part=len(part), count=len(wanted), info=infos[0]),
                )
                for number, image in enumerate(images, start=start):
                    drawn.add(image, names[number], infos[number])
        drawn.write_grid({} if self.classes is None else {"class": self.classes})
        drawn.print_paths()
