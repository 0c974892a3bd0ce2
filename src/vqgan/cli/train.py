"""``vqgan train tokenizer`` and ``vqgan train prior``."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from vqgan.cli.options import Compute, parse_size


@dataclass(kw_only=True)
class _Train(Compute):
    preset: Annotated[str | None, tyro.conf.Positional] = None
    """A preset (`vqgan presets` lists them) or a YAML file; leave it away with `--resume`."""

    data: str | None = None
    """A folder (class = sub-folder), a text file of paths, `atari:MontezumaRevenge`, `digits`, an IDX file."""

    eval_data: str | None = None
    """Held-out images; by default a fixed 5 % of the data."""

    out: str | None = None
    """The run's folder; new or empty."""

    resume: str | None = None
    """A run folder to continue."""

    start_from: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Begin with the weights of this file or run."""

    steps: int | None = None
    """Short for `--set training.steps=N`."""

    batch_size: int | None = None
    """Short for `--set training.batch_size=N`."""

    image_size: str | None = None
    """`HEIGHTxWIDTH` or one number; short for `--set data.image_size=[H,W]`."""

    workers: int | None = None
    """Processes that read images; short for `--set data.workers=N`."""

    set: tyro.conf.UseAppendAction[list[str]] = field(default_factory=list)
    """Any value of the run's configuration, `--set task.optimizer.learning_rate=1e-4`; may be repeated."""

    def overrides(self) -> list[str]:
        """All changes of the configuration, short forms last."""
        size = parse_size(self.image_size)
        short = {
            "training.steps": self.steps,
            "training.batch_size": self.batch_size,
            "data.image_size": list(size) if size else None,
            "data.workers": self.workers,
        }
        return [*self.set, *(f"{key}={value}" for key, value in short.items() if value is not None)]

    def train(self, stage: str, tokenizer: str | None) -> None:
        """Trains, with a progress bar, and prints the run's folder."""
        from vqgan.cli.progress import ProgressBar
        from vqgan.errors import ConfigError
        from vqgan.runs import resolve, train

        if self.preset is not None and self.resume is None:
            kind = "tokenizer" if type(resolve(self.preset)).__name__ == "TokenizerRun" else "prior"
            if kind != stage:
                raise ConfigError(f"`{self.preset}` trains a {kind}", hint=f"use `vqgan train {kind}`")
        with ProgressBar() as bar:
            folder = train(
                self.preset,
                data=self.data,
                eval_data=self.eval_data,
                out=self.out,
                tokenizer=tokenizer,
                start_from=self.start_from,
                resume=self.resume,
                overrides=self.overrides(),
                device=self.device,
                precision=self.precision,
                seed=self.seed,
                on_progress=bar,
            )
        print(folder)


@dataclass(kw_only=True)
class TrainTokenizer(_Train):
    """Trains a tokenizer: images become grids of codes."""

    def run(self) -> None:
        """Trains."""
        self.train("tokenizer", None)


@dataclass(kw_only=True)
class TrainPrior(_Train):
    """Trains a prior: a transformer learns the grids of a trained tokenizer."""

    tokenizer: str | None = None
    """The trained tokenizer: a file or a run folder."""

    def run(self) -> None:
        """Trains."""
        self.train("prior", self.tokenizer)
