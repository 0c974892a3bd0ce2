"""``vqgan train tokenizer`` and ``vqgan train prior``."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro

from vqgan.cli.options import OptionalInteger, OptionalText, Texts, parse_size

if TYPE_CHECKING:
    from vqgan.checkpoints.run_folder import Stage


def _optional(metavar: str, default: str = "") -> object:
    """Shows a placeholder in the help, and no `(default: None)`."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=default)


@dataclass(kw_only=True)
class _Train:
    preset: Annotated[OptionalText, tyro.conf.Positional, _optional("[PRESET|FILE.yaml]")] = None
    """A preset (`vqgan presets` lists them) or a YAML file, also one of the original; omit it with `--resume`."""

    data: Annotated[OptionalText, _optional("SOURCE")] = None
    """A folder (class = sub-folder), a text file of paths, `idx:FOLDER`, `digits`, or `atari:GAME,GAME`."""

    eval_data: Annotated[OptionalText, _optional("SOURCE")] = None
    """Held-out images; by default a fixed 5 % of the data."""

    out: Annotated[OptionalText, _optional("RUN")] = None
    """The run's folder; new or empty."""

    resume: Annotated[OptionalText, _optional("RUN")] = None
    """A run folder to continue, in place of `--out`; the run keeps its configuration."""

    start_from: Annotated[
        OptionalText, tyro.conf.arg(name="from", metavar="FILE|RUN", help_behavior_hint="")
    ] = None
    """Begin with the weights of this file or run."""

    steps: Annotated[OptionalInteger, _optional("N")] = None
    """Short for `--set training.steps=N`."""

    batch_size: Annotated[OptionalInteger, _optional("N")] = None
    """Short for `--set training.batch_size=N`."""

    image_size: Annotated[OptionalText, _optional("HEIGHTxWIDTH")] = None
    """Short for `--set data.image_size=[HEIGHT,WIDTH]`."""

    workers: Annotated[OptionalInteger, _optional("N")] = None
    """Processes that read images; short for `--set data.workers=N`."""

    set: Annotated[tyro.conf.UseAppendAction[Texts], tyro.conf.arg(metavar="KEY=VALUE")] = field(
        default_factory=list
    )
    """Any value of the run's configuration: `--set task.optimizer.learning_rate=1e-4`."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """`auto` (CUDA, MPS, CPU in that order), `cpu`, `cuda`, `cuda:1` or `mps`."""

    precision: Annotated[OptionalText, _optional("PRECISION", "(default: fp32)")] = None
    """`fp32`, `bf16` or `auto`."""

    seed: Annotated[OptionalInteger, _optional("N", "(default: 0)")] = None
    """The same seed gives the same result."""

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

    def train(self, stage: "Stage", tokenizer: str | None = None) -> None:
        """Trains, with a progress bar, and prints the run's folder."""
        from pathlib import Path

        from vqgan.presets import find_preset

        if self.preset is not None and Path(self.preset).suffix.lower() not in (".yaml", ".yml"):
            find_preset(self.preset)  # a wrong name is refused before PyTorch is imported
        from vqgan.checkpoints.run_folder import RunFolder
        from vqgan.cli.progress import ProgressBar
        from vqgan.config import require
        from vqgan.runs import train

        if self.resume is not None:
            self._check_resume(tokenizer)
        else:
            require(self.out is not None, "no folder was given", hint="give `--out RUN`, or `--resume RUN`")
        try:
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
                    stage=stage,
                )
        except KeyboardInterrupt:  # the second Ctrl-C, which stops before anything is said
            place = RunFolder(Path(self.resume or self.out or ""))
            hint = (
                f"\nhint: go on with `vqgan train {stage} --resume {place.path}`" if place.numbers() else ""
            )
            raise KeyboardInterrupt(f"interrupted{hint}") from None
        print(folder)

    def _check_resume(self, tokenizer: str | None) -> None:
        """Raises ConfigError if a flag was given that a resumed run would not heed."""
        from vqgan.config import require

        refused = {
            "--out": self.out,
            "PRESET": self.preset,
            "--tokenizer": tokenizer,
            "--from": self.start_from,
            "--precision": self.precision,
            "--seed": self.seed,
        }
        for name, value in refused.items():
            require(
                value is None,
                f"`{name}` is `{value}`, but a resumed run keeps what it was begun with",
                hint=f"omit `{name}`, or begin a new run with `--out RUN --from {self.resume}`",
            )


@dataclass(kw_only=True)
class TrainTokenizer(_Train):
    """Trains a tokenizer: images become grids of codes. Stopped by Ctrl-C, everything is saved for `--resume`."""

    def run(self) -> None:
        """Trains."""
        self.train("tokenizer")


@dataclass(kw_only=True)
class TrainPrior(_Train):
    """Trains a prior: a transformer learns the grids of a trained tokenizer.

    Stopped by Ctrl-C, everything is saved for `--resume`.
    """

    tokenizer: Annotated[OptionalText, _optional("FILE|RUN")] = None
    """The trained tokenizer: a file or a run folder."""

    def run(self) -> None:
        """Trains."""
        self.train("prior", self.tokenizer)
