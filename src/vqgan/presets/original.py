"""Translates run files of the original (CompVis/taming-transformers) into runs of ours.

Nothing that such a file names is imported: classes are looked up in closed tables. Keys that are not read are logged.
"""

import logging
import os
from collections.abc import Container, Iterator, Mapping
from typing import Any, Literal

import msgspec

from vqgan.checkpoints.original_config import (
    FirstStage,
    SceneData,
    SecondStage,
    Sizes,
    Transformer,
    interpolated,
    read_part,
    translated,
)
from vqgan.conditioning import ClassLabelConfig
from vqgan.config import Config, Count, merge, value_at
from vqgan.errors import CheckpointError, ConfigError, closest, printable
from vqgan.tokenizer import TokenizerConfig
from vqgan.training.adversary import DiscriminatorConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorTaskConfig
from vqgan.training.run import DataConfig, PriorRun, Run, TokenizerRun
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import PerceptualConfig, TokenizerTaskConfig

logger = logging.getLogger(__name__)

LOSSES: dict[str, Literal["discriminator", "labels", "none"]] = {
    "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator": "discriminator",
    "ldm.modules.losses.vqperceptual.VQLPIPSWithDiscriminator": "discriminator",
    "taming.modules.losses.segmentation.BCELossWithQuant": "labels",
    "taming.modules.losses.DummyLoss": "none",
    "taming.modules.losses.vqperceptual.DummyLoss": "none",
    "torch.nn.Identity": "none",
}
"""Classes of losses: with pixels, perceptual network and discriminator, of label maps, or placeholders."""

IMAGES: dict[str, tuple[Literal["random", "center"], bool]] = {
    "taming.data.custom.CustomTrain": ("center", False),
    "taming.data.faceshq.CelebAHQTrain": ("center", False),
    "taming.data.faceshq.FFHQTrain": ("center", False),
    "taming.data.faceshq.FacesHQTrain": ("random", False),
    "taming.data.imagenet.ImageNetTrain": ("random", False),
    "taming.data.imagenet.ImageNetTrainWithDepth": ("random", True),
    "taming.data.imagenet.RINTrainWithDepth": ("random", True),
    "taming.data.ade20k.ADE20kTrain": ("random", False),
    "taming.data.coco.CocoImagesAndCaptionsTrain": ("random", False),
    "taming.data.annotated_objects_coco.AnnotatedObjectsCoco": ("center", False),
    "taming.data.annotated_objects_open_images.AnnotatedObjectsOpenImages": ("center", False),
}
"""Classes of training images: how they crop, and whether they flip."""

STEPS = 250_000
"""Optimizer steps of a run whose file does not set them; few files of the original do."""

MAX_WORKERS = 4
"""Processes that read images; files of the original ask for two per image of the batch."""

BATCH_SIZE = 4
"""Batch size if a file does not set it: some published files only describe the model."""


class Loss(msgspec.Struct):
    """Arguments of the first stage's loss, with the original's defaults."""

    disc_start: int = 0
    codebook_weight: float = 1.0
    disc_num_layers: int = 3
    disc_factor: float = 1.0
    disc_weight: float = 1.0
    perceptual_weight: float = 1.0
    disc_ndf: int = 64
    disc_loss: Literal["hinge", "vanilla"] = "hinge"
    pixel_loss: Literal["l1", "l2", "binary"] = "l1"


BASE_LEARNING_RATE, LOSS = 4.5e-6, Loss(disc_start=10_000, disc_weight=0.8)
"""Used where a file sets none: the values of the original's file for custom images."""


class ImageArguments(msgspec.Struct):
    """Arguments of the training images that decide how they are resized, cropped and flipped."""

    size: int | None = None
    crop_size: int | None = None
    target_image_size: int | tuple[int, int] | None = None
    random_crop: bool | None = None
    crop_method: str | None = None
    random_flip: bool | None = None

    def image_size(self) -> tuple[int, int] | None:
        """Rows and columns that training sees, if they are named."""
        size = self.crop_size or self.target_image_size or self.size
        return (size, size) if isinstance(size, int) else size


class OriginalRun(Config, frozen=True):
    """The training settings of a file, by their paths in it."""

    loss: str = msgspec.field(default="", name="model.params.lossconfig.target")
    keep_probability: float = msgspec.field(default=1.0, name="model.params.pkeep")
    learning_rate: float | None = msgspec.field(default=None, name="model.base_learning_rate")
    batch_size: Count | None = msgspec.field(default=None, name="data.params.batch_size")
    workers: int = msgspec.field(default=MAX_WORKERS, name="data.params.num_workers")
    images: str = msgspec.field(default="", name="data.params.train.target")
    accumulate: Count = msgspec.field(default=1, name="lightning.trainer.accumulate_grad_batches")
    steps: int = msgspec.field(default=-1, name="lightning.trainer.max_steps")


_PARAMS, _TRAIN, _TRAINER = "model.params.", "data.params.train.params.", "lightning.trainer."
_GPT, _LOSS = f"{_PARAMS}transformer_config.params.", f"{_PARAMS}lossconfig.params."
_READ = {
    *("model.target", f"{_PARAMS}transformer_config.target", *OriginalRun.__struct_encode_fields__),
    *(f"{_PARAMS}{each}" for each in (*FirstStage.__struct_fields__, *SecondStage.__struct_fields__)),
    *(f"{_PARAMS}ddconfig.{each}" for each in Sizes.__struct_fields__),
    *(f"{_LOSS}{each}" for each in Loss.__struct_fields__),
    *(f"{_GPT}{each}" for each in Transformer.__struct_fields__),
    *(f"{_TRAIN}{part}{each}" for part in ("", "config.") for each in ImageArguments.__struct_fields__),
    *(f"{_TRAIN}{each}" for each in SceneData.__struct_fields__),
} - {f"{_PARAMS}{branch}" for branch in ("ddconfig", "transformer_config", "first_stage_config", "remap")}
"""Keys that are read; whole branches under their first key."""

_INSTEAD = {
    f"{_PARAMS}ckpt_path": "give weights to begin with by `start_from=`",
    f"{_PARAMS}first_stage_config": "the tokenizer is that of `tokenizer=`",
    f"{_PARAMS}temperature_scheduler_config": "the temperature is constant, `tokenizer.quantizer.temperature`",
    f"{_LOSS}disc_conditional": "the discriminator sees only the image",
    f"{_LOSS}use_actnorm": "the discriminator has batch normalization",
    f"{_GPT}embd_pdrop": "there is one dropout, `prior.dropout`",
    f"{_GPT}attn_pdrop": "there is one dropout, `prior.dropout`",
    f"{_TRAIN}training_images_list_file": "give this file by `data=`",
    f"{_TRAIN}data_path": "give this folder by `data=`",
    "data.params.validation": "give held-out images by `eval_data=`",
    "data.params.test": "give held-out images by `eval_data=`",
    f"{_TRAINER}max_epochs": 'give `overrides=["training.steps=N"]`',
    f"{_TRAINER}precision": 'give `precision="bf16"`',
    f"{_TRAINER}gpus": "give `device=`",
}
"""Keys that are not read although they affect training, and what to use instead."""


def original_run(mapping: Mapping[str, Any], *, where: str, given: Container[str] = ()) -> Run:
    """The run that a configuration of the original describes; the images are given separately.

    Args:
        mapping: The whole file.
        where: Its name in messages.
        given: Keys of our configuration that the caller overrides, such as ``training.steps``.

    Raises:
        ConfigError: If a required value is missing, the class of its model or its loss is unknown, or a
            value is invalid.
    """
    mapping = interpolated(mapping)
    try:
        model = translated(mapping, {}, where=where)
    except CheckpointError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    paths = {path: value_at(mapping, path) for path in OriginalRun.__struct_encode_fields__}
    present = {path: value for path, value in paths.items() if value is not None}
    found: OriginalRun = read_part(present, OriginalRun, where, hint="")
    images: ImageArguments = read_part(
        _image_arguments(mapping), ImageArguments, f"the training images of {where}", hint=""
    )
    processes = _processes()
    batch = found.accumulate * processes * (found.batch_size or BATCH_SIZE)
    rate = _learning_rate(found, processes, given)
    run: Run
    if isinstance(model, TokenizerConfig):
        loss = _loss(found.loss, value_at(mapping, "model.params.lossconfig.params") or {}, where)
        assert model.autoencoder is not None
        side = model.autoencoder.resolution
        run = TokenizerRun(
            tokenizer=model,
            task=_tokenizer_task(loss, rate),
            data=_data(found, images, (side, side), given),
            training=_loop(found, batch, given, least=2 * loss.disc_start),
        )
    else:
        if isinstance(model.conditioner, ClassLabelConfig):
            classes = model.conditioner.num_classes
            logger.info("`n_classes` = %d is not used: the classes are those of the images", classes)
        (rows, columns), factor = model.window, model.tokenizer.downsample_factor
        run = PriorRun(
            conditioner=model.conditioner,
            prior=model.prior.shape(),
            task=PriorTaskConfig(
                optimizer=OptimizerConfig(learning_rate=rate, betas=(0.9, 0.95), weight_decay=0.01),
                token_keep_probability=found.keep_probability,
            ),
            data=_data(found, images, (rows * factor, columns * factor), given),
            training=_loop(found, batch, given),
            token_order=model.token_order,
        )
    _log_unread(mapping, where)
    return run


def _learning_rate(found: OriginalRun, processes: int, given: Container[str]) -> float:
    """The base learning rate times the batch size of the whole step."""
    is_set, size = "task.optimizer.learning_rate" in given, found.batch_size or BATCH_SIZE
    base = BASE_LEARNING_RATE if is_set or found.learning_rate is None else found.learning_rate
    rate = found.accumulate * processes * size * base
    if not is_set:
        logger.info(
            "learning rate %.4g = %d accumulated x %d processes x %d images x %.4g%s; "
            "another batch size does not change it",
            *(rate, found.accumulate, processes, size, base),
            " (`base_learning_rate` is not set)" if found.learning_rate is None else "",
        )
    if found.batch_size is None:
        logger.info("the batch size is not set: %d images; `data.params.batch_size` would set it", size)
    return rate


def _log_unread(mapping: Mapping[str, Any], where: str) -> None:
    """Logs the keys that are not read and, for keys that affect training, what to use instead."""
    unread = list(_unread(mapping))
    for path in unread:
        if path in _INSTEAD:
            logger.info("`%s` of %s is not read: %s", path, where, _INSTEAD[path])
    others = ", ".join(f"`{printable(path)}`" for path in unread if path not in _INSTEAD)
    if others:
        logger.info("keys of %s that are not read: %s", where, others)


def _unread(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys that are not read; a branch without any key that is read is named as a whole."""
    for key, value in mapping.items():
        path = f"{prefix}{key}"
        if path in _READ:
            continue
        if isinstance(value, Mapping) and any(each.startswith(f"{path}.") for each in _READ):
            yield from _unread(value, f"{path}.")
        else:
            yield path


def _processes() -> int:
    """Processes that the launcher started."""
    count = os.environ.get("WORLD_SIZE", "1")
    return int(count) if count.isdecimal() and int(count) else 1


def _loss(name: str, arguments: Any, where: str) -> Loss:
    """The loss of a first stage; the original's if none is named."""
    if not name:
        text = "the loss is not set: pixels, perceptual network, a discriminator of weight %g from step %d"
        logger.info(text, LOSS.disc_weight, LOSS.disc_start)
        return LOSS
    if name not in LOSSES:
        raise ConfigError(
            f"{where} names the unsupported loss `{printable(name)}`",
            hint=closest(name, LOSSES),
        )
    if LOSSES[name] == "none":
        logger.info("the loss is a placeholder that cannot train: only pixels and quantizer count here")
        return Loss(disc_weight=0.0, perceptual_weight=0.0)
    loss: Loss = read_part(arguments, Loss, f"the loss of {where}", hint="")
    if LOSSES[name] == "labels":
        return Loss(
            codebook_weight=loss.codebook_weight, disc_weight=0, perceptual_weight=0, pixel_loss="binary"
        )
    return loss


def _tokenizer_task(loss: Loss, rate: float) -> TokenizerTaskConfig:
    """The task with the discriminator in the original's order of steps, and none if its weight is 0."""
    discriminator = None
    if weight := loss.disc_weight * loss.disc_factor:
        discriminator = DiscriminatorConfig(
            loss=loss.disc_loss,
            weight=weight,
            start=loss.disc_start,
            base_channels=loss.disc_ndf,
            num_layers=loss.disc_num_layers,
            reconstruction="updated",
        )
    return TokenizerTaskConfig(
        optimizer=OptimizerConfig(learning_rate=rate, betas=(0.5, 0.9)),
        pixels=loss.pixel_loss,
        codebook_weight=loss.codebook_weight,
        perceptual=PerceptualConfig(weight=loss.perceptual_weight) if loss.perceptual_weight else None,
        discriminator=discriminator,
    )


def _image_arguments(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the training images, which may be one level deeper, in `config`."""
    branches = (value_at(mapping, f"data.params.train.params{below}") for below in ("", ".config"))
    return merge(*(branch for branch in branches if isinstance(branch, Mapping)))


def _data(
    found: OriginalRun, images: ImageArguments, default: tuple[int, int], given: Container[str]
) -> DataConfig:
    """How images become samples; the original's classes crop and flip in different ways."""
    crop, flip = IMAGES.get(found.images, ("random", False))
    if found.images and found.images not in IMAGES:
        logger.warning("the images' class `%s` is unknown: random crops", printable(found.images))
    if images.random_crop is not None:
        crop = "random" if images.random_crop else "center"
    if images.crop_method is not None:
        crop = "random" if images.crop_method.startswith("random") else "center"
    if found.workers > MAX_WORKERS and "data.workers" not in given:
        logger.info(
            "images are read by %d processes, not by %d; give `--workers N`", MAX_WORKERS, found.workers
        )
    return DataConfig(
        image_size=images.image_size() or default,
        crop=crop,
        resize=images.size if images.crop_size and images.size else "cover",
        flip=flip if images.random_flip is None else images.random_flip,
        workers=min(found.workers, MAX_WORKERS),
    )


def _loop(found: OriginalRun, batch: int, given: Container[str], least: int = 0) -> LoopConfig:
    steps = found.steps
    if steps < 0:
        steps = max(STEPS, least)
        if "training.steps" not in given:
            logger.info("the length of the run is not set: %d steps; give `--steps N`", steps)
    return LoopConfig(
        steps=steps,
        batch_size=batch,
        accumulate=found.accumulate,
        evaluate_every=1000,
        save_every=1000,
    )
