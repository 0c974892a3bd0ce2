"""What the loop drives, for how long, and where it is kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from torch import Tensor

from vqgan.checkpoints.run_folder import KEPT_STEPS, RunFolder, Stage
from vqgan.config import Bounds, Config, Count, Natural
from vqgan.errors import require
from vqgan.training.engine import Engine
from vqgan.training.optimizers import TrainingState
from vqgan.types import Batch, Images, OnProgress

BETTER = {"psnr": 1, "ssim": 1, "perceptual": -1, "usage": 1, "perplexity": 1}
BETTER |= {"miou": 1, "accuracy": 1, "loss": -1, "unconditional_loss": -1}
"""Held-out numbers by which one model is better than another; 1 if more of it is better, else -1."""

USUAL = ("psnr", "miou", "loss")
"""A run has one of these, by which its best model is kept unless ``keep_best`` names another."""


class LoopConfig(Config, frozen=True):
    """How long a run trains, and how often it logs, evaluates and saves.

    Attributes:
        steps: Optimizer steps.
        batch_size: Images of one optimizer step, over all devices and micro-batches.
        accumulate: Micro-batches that a step is cut into, to save memory.
        compile: Whether networks are compiled for training, see :func:`~vqgan.training.compiled.compile_networks`.
        shard: Whether a prior is sharded where several processes train it, see :mod:`vqgan.training.sharding`.
        recompute: Whether a prior's blocks and an encoder's and decoder's levels keep only their inputs, and compute
            again in the backward pass: the same gradients in less memory, for about a third more time.
        ema_decay: Decay of the averaged weights, or none.
        log_every: Steps between two rows of ``metrics.jsonl``.
        evaluate_every: Steps between two evaluations on held-out images.
        evaluate_images: Held-out images of one evaluation.
        save_every: Steps between two saved steps.
        keep_last: Saved steps that are kept: to go on from the newest, or one before if it is damaged.
        keep_every: Of the steps saved, the multiples of this number are kept for good, or none.
        keep_best: Whether the model stays in a file of its own when its held-out number was best; which one: by default
            PSNR, mIoU or the loss, else that of this name: ``"ssim"``, ``"perceptual"``, ``"accuracy"``, ...
        pictures: Images on each picture; 0 writes none.
    """

    steps: Count
    batch_size: Count
    accumulate: Count = 1
    compile: bool = False
    shard: bool = False
    recompute: bool = False
    ema_decay: Annotated[float, Bounds("a number between 0 and 1", lambda value: 0 < value < 1)] | None = None
    log_every: Count = 10
    evaluate_every: Count = 500
    evaluate_images: Count = 256
    save_every: Count = 500
    keep_last: Count = KEPT_STEPS
    keep_every: Count | None = None
    keep_best: bool | str = True
    pictures: Natural = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.share(1)

    def share(self, processes: int) -> int:
        """Images of one process's micro-batch.

        Raises:
            ConfigError: If the batch cannot be divided equally.
        """
        parts = self.accumulate * processes
        require(
            self.batch_size % parts == 0,
            f"`batch_size` {self.batch_size} cannot be divided into {parts} equal micro-batches "
            f"(`accumulate` = {self.accumulate}, processes: {processes})",
            hint=f"make it a multiple of {parts}",
        )
        return self.batch_size // parts


@runtime_checkable
class Task(Protocol):
    """The training of a model.

    Attributes:
        stage: Which kind of model.
        loop: Its settings.
        state: Everything that a step changes.
        image_channels: Channels of the images that it trains on.
        num_labels: How many labels there are, if the images are label maps; else 0.
    """

    stage: Stage
    loop: LoopConfig
    state: TrainingState
    image_channels: int
    num_labels: int

    def train_step(self, batches: Sequence[Batch], step: int) -> Mapping[str, Tensor]:
        """One optimizer step from its micro-batches; returns scalars to log."""
        ...

    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """Held-out metrics, with the averaged weights where there are any; empty without images."""
        ...

    def pictures(self, batch: Batch, on_progress: OnProgress) -> Mapping[str, Images]:
        """Groups of images that show what the model can do by now."""
        ...


@dataclass(frozen=True)
class Session:
    """A run that begins or goes on.

    Attributes:
        task: What is trained.
        folder: Where steps are saved.
        engine: Device, precision, processes.
        values: Plain values that every saved step repeats (seed, fingerprints of the data).
        start: Optimizer steps already done; the state after them is saved.
        unfinished: The row of the last of them, if its evaluation was interrupted.
    """

    task: Task
    folder: RunFolder
    engine: Engine
    values: Mapping[str, Any]
    start: int = 0
    unfinished: Mapping[str, float] | None = None
