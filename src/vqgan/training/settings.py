"""Settings that both stages share: which images, how long, how often."""

from typing import Literal

from vqgan.config import Config, require
from vqgan.data import MemoryConfig, Source, SourceConfig, Split, WhichFrames, brings_heldout, open_source
from vqgan.data.transforms import Resize, TransformConfig
from vqgan.errors import ConfigError, DataError

Given = tuple[SourceConfig | Source | None, SourceConfig | Source | None]
"""Images to train on and held-out ones, as they were given beside a run's configuration."""


class DataConfig(Config, frozen=True):
    """Which images, and how they become training samples.

    Attributes:
        source: Where the images come from; usually given by ``--data``.
        eval_source: Held-out images, in place of a fixed part of ``source``. Of a source that brings held-out
            images of its own, only these; and such images of ``source`` are still not trained on.
        image_size: Rows and columns of a training image.
        crop: ``"random"`` or ``"center"``; held-out images are always cropped at the centre.
        resize: Length of an image's shorter side before it is cropped, or a range of lengths, one drawn for each
            sample: of photographs of 4000 pixels, a crop at 512 shows details and not the whole. ``"cover"`` crops
            as little as possible; none leaves an image its own size.
        flip: Mirrors half of the training images.
        frames: Of an animated GIF, WebP, PNG or a TIFF of several pages: ``"first"``, or ``"all"`` as images of
            their own; those of a file are all trained on or all held out.
        workers: Processes that read images; 0 reads them in the training process.
    """

    image_size: tuple[int, int]
    source: SourceConfig | MemoryConfig | None = None
    eval_source: SourceConfig | MemoryConfig | None = None
    crop: Literal["random", "center"] = "random"
    resize: Resize = "cover"
    flip: bool = False
    frames: WhichFrames = "first"
    workers: int = 0

    def __post_init__(self) -> None:
        require(min(self.image_size) >= 1, f"`image_size` is {self.image_size}, expected at least (1, 1)")
        require(self.workers >= 0, f"`workers` is {self.workers}, expected at least 0")

    def transform(self, channels: int, *, training: bool) -> TransformConfig:
        """How an image becomes a tensor; without augmentation unless ``training``."""
        config = TransformConfig(
            image_size=self.image_size,
            image_channels=channels,
            crop=self.crop,
            flip=self.flip,
            resize=self.resize,
        )
        return config if training else config.without_chance()


def open_sources(
    data: DataConfig, given: Given = (None, None), *, by_class: bool = False
) -> tuple[Source, Source]:
    """The training images and the held-out images of a run.

    Args:
        data: Where they come from.
        given: In place of its two sources, those of which the images themselves were given.
        by_class: Whether both must have the same classes.

    Raises:
        ConfigError: If no source is named.
        DataError: If a source cannot be read, or the classes differ.
    """
    source, own = (
        each if isinstance(each, Source) else config
        for each, config in zip(given, (data.source, data.eval_source), strict=True)
    )
    if source is None:
        raise ConfigError("no images were given", hint='give `data="FOLDER"`')
    train: Split = "train" if own is None or brings_heldout(source) else "all"
    heldout: Split = "heldout" if own is None or brings_heldout(own) else "all"
    images = open_source(source, train, frames=data.frames)
    others = open_source(own or source, heldout, frames=data.frames)
    if by_class and images.class_names != others.class_names:
        raise DataError(
            "the held-out images have other classes than the training images",
            hint="give held-out images in folders of the same names, or omit `eval_data=`",
        )
    return images, others


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
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name not in ("pictures", "ema_decay"):
                require(value >= 1, f"`{name}` is {value}, expected at least 1")
        require(self.pictures >= 0, f"`pictures` is {self.pictures}, expected at least 0")
        require(
            self.batch_size % self.accumulate == 0,
            f"`batch_size` {self.batch_size} cannot be cut into {self.accumulate} equal micro-batches",
            hint="make it a multiple of `accumulate`",
        )
        decay = self.ema_decay
        require(
            decay is None or 0 < decay < 1,
            f"`ema_decay` is {decay}, expected a number between 0 and 1, or none",
        )

    def share(self, processes: int) -> int:
        """Images that one process computes at once.

        Raises:
            ConfigError: If the batch cannot be shared equally.
        """
        parts = self.accumulate * processes
        require(
            self.batch_size % parts == 0,
            f"`batch_size` {self.batch_size} cannot be shared by {processes} processes with "
            f"{self.accumulate} micro-batches each",
            hint=f"make it a multiple of {parts}",
        )
        return self.batch_size // parts
