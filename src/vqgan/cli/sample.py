"""``vqgan sample``: new images."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import Decoding, parse_size


@dataclass(kw_only=True)
class Sample(Decoding):
    """Draws new images and writes them as `000000.png`, `000001.png`, ... with a grid of all beside them."""

    model: Annotated[str, tyro.conf.Positional]
    """A run folder or weights file of a prior."""

    out: str
    """The folder for the results."""

    count: int = 8
    """Number of images; with `--class` the number of each class, class after class."""

    size: str | None = None
    """`HEIGHTxWIDTH`; by default the size it was trained on. On larger ones its window slides."""

    classes: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Classes by number or name, separated by commas: `9,232`."""

    def run(self) -> None:
        """Samples; prints the paths of the results."""
        from pathlib import Path

        from vqgan.cli.drawing import class_values, write_drawn
        from vqgan.cli.inputs import load_synthesizer
        from vqgan.cli.progress import ProgressBar
        from vqgan.config import require
        from vqgan.types import Progress

        require(self.count >= 1, f"`--count` is {self.count}, expected 1 or more")
        require(self.batch_size >= 1, f"`--batch-size` is {self.batch_size}, expected 1 or more")
        synthesizer, header = load_synthesizer(self.model, device=self.device, precision=self.precision)
        classes = class_values(self.classes)
        wanted = [value for value in classes for _ in range(self.count)]
        size = parse_size(self.size)
        results = []
        with ProgressBar() as bar:
            for start in range(0, len(wanted), self.batch_size):
                part = wanted[start : start + self.batch_size]

                def report(progress: Progress, done: int = start, batch: int = len(part)) -> None:
                    total = progress.total * len(wanted)
                    bar(Progress("tokens", done * progress.total + progress.step * batch, total))

                results.append(
                    synthesizer.sample(
                        len(part),
                        size=size,
                        condition={"class": part} if self.classes else None,
                        temperature=self.temperature,
                        top_k=self.top_k,
                        top_p=self.top_p,
                        seed=self.seed + start,
                        on_progress=report,
                    )
                )
        extra = [{"class": str(value)} for value in wanted] if self.classes else [{}] * len(wanted)
        for path in write_drawn(Path(self.out), results, self, header, "sample", extra):
            print(path)
