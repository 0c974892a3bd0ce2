"""Settings that both stages share: which images, how long, how often."""

from typing import Literal

from vqgan.config import Config, require
from vqgan.data import SourceConfig
from vqgan.data.transforms import TransformConfig


class DataConfig(Config, frozen=True):
    """Which images, and how they become training samples.

    Attributes:
        source: Where the images come from; usually given by ``--data``.
        eval_source: Held-out images; by default a fixed part of ``source``.
        image_size: Rows and columns of a training image.
        crop: ``"random"`` or ``"center"``; held-out images are always cropped at the centre.
        flip: Mirrors half of the training images.
        workers: Processes that read images; 0 reads them in the training process.
    """

    image_size: tuple[int, int]
    source: SourceConfig | None = None
    eval_source: SourceConfig | None = None
    crop: Literal["random", "center"] = "random"
    flip: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        require(min(self.image_size) > 0, f"image_size is {self.image_size}, expected two positive numbers")
        require(self.workers >= 0, f"workers is {self.workers}, expected 0 or more")

    def transform(self, channels: int, *, training: bool) -> TransformConfig:
        """How an image becomes a tensor; without augmentation unless ``training``."""
        return TransformConfig(
            image_size=self.image_size,
            image_channels=channels,
            crop=self.crop if training else "center",
            flip=self.flip and training,
        )


class LoopConfig(Config, frozen=True):
    """How long, and how often what is done on the way.

    Attributes:
        steps: Optimizer steps.
        batch_size: Images of one optimizer step, over all devices and micro-batches together.
        accumulate: Micro-batches that a step is cut into, to save memory.
        ema_decay: Decay of the averaged weights, or none.
        log_every: Steps between two rows of ``metrics.jsonl``.
        evaluate_every: Steps between two evaluations on held-out images.
        evaluate_images: Held-out images of one evaluation.
        save_every: Steps between two committed checkpoints.
        pictures: Images on each picture; 0 writes none.
    """

    steps: int
    batch_size: int
    accumulate: int = 1
    ema_decay: float | None = None
    log_every: int = 10
    evaluate_every: int = 500
    evaluate_images: int = 256
    save_every: int = 500
    pictures: int = 8

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "evaluate_every", "save_every"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, expected 1 or more")
        require(
            self.batch_size % self.accumulate == 0,
            f"batch_size {self.batch_size} cannot be cut into {self.accumulate} equal micro-batches",
            hint="make batch_size a multiple of accumulate",
        )
        require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            f"ema_decay is {self.ema_decay}, expected 0 to 1",
        )
