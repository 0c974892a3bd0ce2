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
    Node,
    SceneData,
    SecondStage,
    Sizes,
    Transformer,
    interpolated,
    model_config,
    unresolved,
)
from vqgan.conditioning import ClassLabelConfig
from vqgan.config import from_mapping, require
from vqgan.errors import CheckpointError, ConfigError, closest, printable
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import TokenizerConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorTaskConfig
from vqgan.training.run import DataConfig, PriorRun, Run, TokenizerRun
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import DiscriminatorConfig, PerceptualConfig, TokenizerTaskConfig

logger = logging.getLogger(__name__)

LOSSES: dict[str, Literal["discriminator", "none"]] = {
    "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator": "discriminator",
    "ldm.modules.losses.vqperceptual.VQLPIPSWithDiscriminator": "discriminator",
    "taming.modules.losses.DummyLoss": "none",
    "taming.modules.losses.vqperceptual.DummyLoss": "none",
    "torch.nn.Identity": "none",
}
"""Classes of losses: with pixels, perceptual network and discriminator, or placeholders."""

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
    pixel_loss: Literal["l1", "l2"] = "l1"


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


class _Parameters(msgspec.Struct):
    lossconfig: Node | None = None
    pkeep: float = 1.0


class _ModelPart(msgspec.Struct):
    target: str
    params: _Parameters
    base_learning_rate: float | None = None


class _Data(msgspec.Struct):
    batch_size: int | None = None
    num_workers: int | None = None
    train: Node | None = None


class _Loader(msgspec.Struct):
    params: _Data = msgspec.field(default_factory=_Data)


class _Trainer(msgspec.Struct):
    accumulate_grad_batches: int = 1
    max_steps: int | None = None


class _Lightning(msgspec.Struct):
    trainer: _Trainer = msgspec.field(default_factory=_Trainer)


class OriginalRun(msgspec.Struct):
    """The training settings of a file, under its own keys."""

    model: _ModelPart
    data: _Loader = msgspec.field(default_factory=_Loader)
    lightning: _Lightning = msgspec.field(default_factory=_Lightning)


_PARAMS, _TRAIN, _TRAINER = "model.params.", "data.params.train.params.", "lightning.trainer."
_READ = {
    *("model.target", "model.base_learning_rate", "data.params.batch_size", "data.params.num_workers"),
    *("data.params.train.target", f"{_TRAINER}accumulate_grad_batches", f"{_TRAINER}max_steps"),
    *(f"{_PARAMS}lossconfig.target", f"{_PARAMS}transformer_config.target", f"{_PARAMS}pkeep"),
    *(f"{_PARAMS}{each}" for each in (*FirstStage.__struct_fields__, *SecondStage.__struct_fields__)),
    *(f"{_PARAMS}ddconfig.{each}" for each in Sizes.__struct_fields__),
    *(f"{_PARAMS}lossconfig.params.{each}" for each in Loss.__struct_fields__),
    *(f"{_PARAMS}transformer_config.params.{each}" for each in Transformer.__struct_fields__),
    *(f"{_TRAIN}{part}{each}" for part in ("", "config.") for each in ImageArguments.__struct_fields__),
    *(f"{_TRAIN}{each}" for each in SceneData.__struct_fields__),
} - {f"{_PARAMS}{branch}" for branch in ("ddconfig", "transformer_config", "first_stage_config", "remap")}
"""Keys that are read; whole branches under their first key."""

_GPT = f"{_PARAMS}transformer_config.params."
_INSTEAD = {
    f"{_PARAMS}ckpt_path": "give weights to begin with by `start_from=`",
    f"{_PARAMS}first_stage_config": "the tokenizer is that of `tokenizer=`",
    f"{_PARAMS}temperature_scheduler_config": "the temperature is constant, `tokenizer.quantizer.temperature`",
    f"{_PARAMS}lossconfig.params.disc_conditional": "the discriminator sees only the image",
    f"{_PARAMS}lossconfig.params.use_actnorm": "the discriminator has batch normalization",
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
        model = model_config(mapping, {}, where=where)
    except CheckpointError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    try:
        found: OriginalRun = from_mapping(mapping, OriginalRun, where=where)
    except ConfigError as error:
        raise ConfigError(f"{error.message}{unresolved(mapping)}", hint=error.hint) from None
    accumulate, given_size = found.lightning.trainer.accumulate_grad_batches, found.data.params.batch_size
    size = BATCH_SIZE if given_size is None else given_size
    for name, value in (("batch_size", size), ("accumulate", accumulate)):
        require(value >= 1, f"`{name}` of {where} is {value}, expected at least 1")
    processes = _processes()
    batch = accumulate * processes * size
    is_set = "task.optimizer.learning_rate" in given
    told = found.model.base_learning_rate
    base = BASE_LEARNING_RATE if is_set or told is None else told
    rate = batch * base
    run: Run
    if isinstance(model, TokenizerConfig):
        run = _tokenizer_run(model, found, rate, batch, where, given)
    else:
        run = _prior_run(model, found, rate, batch, where, given)
    _log_unread(mapping, where)
    if not is_set:
        logger.info(
            "learning rate %.4g = %d accumulated x %d processes x %d images x %.4g%s; "
            "another batch size does not change it",
            rate,
            accumulate,
            processes,
            size,
            base,
            " (`base_learning_rate` is not set)" if told is None else "",
        )
    if given_size is None:
        logger.info("the batch size is not set: %d images; `data.params.batch_size` would set it", size)
    return run


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


def _tokenizer_run(
    model: TokenizerConfig,
    found: OriginalRun,
    rate: float,
    batch: int,
    where: str,
    given: Container[str],
) -> TokenizerRun:
    node = found.model.params.lossconfig or Node(target="")
    kind = LOSSES.get(node.target) if node.target else "discriminator"
    if kind is None:
        raise ConfigError(
            f"{where} names the unsupported loss `{printable(node.target)}`",
            hint="tokenizers of label maps are read, converted and used, but not trained"
            if node.target.rpartition(".")[2] in ("BCELoss", "BCELossWithQuant")
            else closest(node.target, LOSSES),
        )
    loss: Loss = from_mapping(node.params, Loss, where=f"the loss of {where}")
    if kind == "none":
        logger.info("the loss is a placeholder that cannot train: only pixels and quantizer count here")
        loss = Loss(disc_weight=0.0, perceptual_weight=0.0)
    if not node.target:
        loss = LOSS
        text = "the loss is not set: pixels, perceptual network, a discriminator of weight %g from step %d"
        logger.info(text, LOSS.disc_weight, LOSS.disc_start)
    size = (model.autoencoder.resolution, model.autoencoder.resolution)
    return TokenizerRun(
        tokenizer=model,
        task=TokenizerTaskConfig(
            optimizer=OptimizerConfig(learning_rate=rate, betas=(0.5, 0.9)),
            pixels=loss.pixel_loss,
            codebook_weight=loss.codebook_weight,
            perceptual=PerceptualConfig(weight=loss.perceptual_weight) if loss.perceptual_weight else None,
            discriminator=_discriminator(loss),
        ),
        data=_data(found, size, where, given),
        training=_loop(found, batch, given, least=2 * loss.disc_start),
    )


def _discriminator(loss: Loss) -> DiscriminatorConfig | None:
    """The discriminator, in the original's order of steps; None if its weight is 0."""
    weight = loss.disc_weight * loss.disc_factor
    if not weight:
        return None
    return DiscriminatorConfig(
        loss=loss.disc_loss,
        weight=weight,
        start=loss.disc_start,
        base_channels=loss.disc_ndf,
        num_layers=loss.disc_num_layers,
        reconstruction="updated",
    )


def _prior_run(
    model: SynthesizerConfig,
    found: OriginalRun,
    rate: float,
    batch: int,
    where: str,
    given: Container[str],
) -> PriorRun:
    if isinstance(model.conditioner, ClassLabelConfig):
        classes = model.conditioner.num_classes
        logger.info("`n_classes` = %d is not used: the classes are those of the images", classes)
    rows, columns = model.window
    factor = model.tokenizer.autoencoder.downsample_factor
    return PriorRun(
        conditioner=model.conditioner,
        prior=model.prior.shape(),
        task=PriorTaskConfig(
            optimizer=OptimizerConfig(learning_rate=rate, betas=(0.9, 0.95), weight_decay=0.01),
            token_keep_probability=found.model.params.pkeep,
        ),
        data=_data(found, (rows * factor, columns * factor), where, given),
        training=_loop(found, batch, given),
        token_order=model.token_order,
    )


def _data(found: OriginalRun, default: tuple[int, int], where: str, given: Container[str]) -> DataConfig:
    """How images become samples; the original's classes crop and flip in different ways."""
    data = found.data.params
    train = data.train or Node(target="")
    nested = train.params.get("config")
    named = {**train.params, **(nested if isinstance(nested, Mapping) else {})}
    images: ImageArguments = from_mapping(named, ImageArguments, where=f"the training images of {where}")
    crop, flip = IMAGES.get(train.target, ("random", False))
    if train.target and train.target not in IMAGES:
        logger.warning("the images' class `%s` is unknown: random crops", printable(train.target))
    if images.random_crop is not None:
        crop = "random" if images.random_crop else "center"
    if images.crop_method is not None:
        crop = "random" if images.crop_method.startswith("random") else "center"
    wanted = MAX_WORKERS if data.num_workers is None else data.num_workers
    if wanted > MAX_WORKERS and "data.workers" not in given:
        logger.info("images are read by %d processes, not by %d; give `--workers N`", MAX_WORKERS, wanted)
    return DataConfig(
        image_size=images.image_size() or default,
        crop=crop,
        resize=images.size if images.crop_size and images.size else "cover",
        flip=flip if images.random_flip is None else images.random_flip,
        workers=min(wanted, MAX_WORKERS),
    )


def _loop(found: OriginalRun, batch: int, given: Container[str], least: int = 0) -> LoopConfig:
    trainer = found.lightning.trainer
    steps = trainer.max_steps
    if steps is None or steps < 0:
        steps = max(STEPS, least)
        if "training.steps" not in given:
            logger.info("the length of the run is not set: %d steps; give `--steps N`", steps)
    return LoopConfig(
        steps=steps,
        batch_size=batch,
        accumulate=trainer.accumulate_grad_batches,
        evaluate_every=1000,
        save_every=1000,
    )
