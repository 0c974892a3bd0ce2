"""Run files of the original (CompVis/taming-transformers) as runs of ours.

Nothing that such a file names is imported: classes are words of closed tables, and what was carried over, what was
not, and what is not known at all is logged.
"""

import logging
import os
from collections.abc import Container, Iterator, Mapping
from typing import Any, Literal

from vqgan.checkpoints.original_config import interpolated, model_config
from vqgan.checkpoints.taming_run import LEFT_OUT, MAPPED, Loss, OriginalTraining, read_training
from vqgan.conditioning import ClassLabelConfig
from vqgan.config import require
from vqgan.errors import CheckpointError, ConfigError, closest, printable
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import TokenizerConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorTaskConfig
from vqgan.training.run import DataConfig, PriorRun, Run, TokenizerRun
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import DiscriminatorConfig, PerceptualConfig, TokenizerTaskConfig

logger = logging.getLogger(__name__)

LOSSES: dict[str, Literal["adversarial", "none"]] = {
    "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator": "adversarial",
    "ldm.modules.losses.vqperceptual.VQLPIPSWithDiscriminator": "adversarial",
    "taming.modules.losses.DummyLoss": "none",
    "taming.modules.losses.vqperceptual.DummyLoss": "none",
    "torch.nn.Identity": "none",
}
"""Classes of losses: pixels, perceptual network and discriminator; or none that could train."""

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
"""Classes of training images: how they cut, and whether they mirror."""

STEPS = 250_000
"""Length of a run that does not say its own, as a file of the original seldom does."""

MAX_WORKERS = 4
"""Processes that read images; files of the original ask for two for each image of the batch."""

BASE_LEARNING_RATE, LOSS = 4.5e-6, Loss(disc_start=10_000, disc_weight=0.8)
"""What the original's file for images of one's own says, where a file does not."""

BATCH_SIZE = 4
"""Images of a batch where a file does not say: published ones may describe the model alone."""


def original_run(mapping: Mapping[str, Any], *, where: str, given: Container[str] = ()) -> Run:
    """The run that a configuration of the original describes; the images are still to be given.

    Args:
        mapping: The whole file.
        where: What it is, for messages.
        given: Keys of our configuration that will be set anew, such as ``training.steps``.

    Raises:
        ConfigError: If something that is needed is missing, a class of its model or its loss is not known, or
            a value cannot be.
    """
    mapping = interpolated(mapping)
    try:
        model = model_config(mapping, {}, where=where)
    except CheckpointError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    found = read_training(mapping, where=where)
    size = BATCH_SIZE if found.batch_size is None else found.batch_size
    for name, value in (("batch_size", size), ("accumulate", found.accumulate)):
        require(value >= 1, f"`{name}` of {where} is {value}, expected at least 1")
    processes = _processes()
    batch = found.accumulate * processes * size
    is_set = "task.optimizer.learning_rate" in given
    base = BASE_LEARNING_RATE if is_set or found.base_learning_rate is None else found.base_learning_rate
    rate = batch * base
    run: Run  # made first: what is refused was not mapped
    if isinstance(model, TokenizerConfig):
        run = _tokenizer_run(model, found, rate, batch, where, given)
    else:
        run = _prior_run(model, found, rate, batch, given)
    logger.info("%s is a configuration of the original; what became of its keys:", where)
    for line, is_known in account(mapping):
        logger.log(logging.INFO if is_known else logging.WARNING, "%s", line)
    if not is_set:
        logger.info(
            "learning rate %.4g = %d accumulated x %d processes x %d images x %.4g%s; "
            "another batch size does not change it",
            rate,
            found.accumulate,
            processes,
            size,
            base,
            " (`base_learning_rate` is not said)" if found.base_learning_rate is None else "",
        )
    if found.batch_size is None:
        logger.info("the size of a batch is not said: %d images; `data.params.batch_size` would say it", size)
    return run


def account(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """What became of every key: a line, and whether the key is known. A branch has one line if none of it is known."""
    known = (*MAPPED, *LEFT_OUT)
    for key, value in mapping.items():
        path = f"{prefix}{key}"
        name, shown = f"`{printable(path)}`", _shown(value)
        if path in MAPPED:
            yield f"{name}{shown} became `{MAPPED[path]}`", True
        elif path in LEFT_OUT:
            yield f"{name}{shown} is left out: {LEFT_OUT[path]}", True
        elif isinstance(value, Mapping) and any(each.startswith(f"{path}.") for each in known):
            yield from account(value, f"{path}.")
        else:
            yield f"{name}{shown} is not known and left out", False


def _shown(value: Any) -> str:
    """A value as a part of a line: whole if it is short, of a branch its class and the file of its weights."""
    if isinstance(value, Mapping):
        params = value.get("params")
        weights = params.get("ckpt_path") if isinstance(params, Mapping) else None
        parts = [part for part in (value.get("target"), weights) if isinstance(part, str)]
        return f" ({', '.join(printable(part) for part in parts)})" if parts else ""
    text = printable(str(value))
    return f" = {text}" if len(text) <= 80 else f" = {text[:80]}..."


def _processes() -> int:
    """Processes that the launcher started."""
    count = os.environ.get("WORLD_SIZE", "1")
    return int(count) if count.isdecimal() and int(count) else 1


def _tokenizer_run(
    model: TokenizerConfig,
    found: OriginalTraining,
    rate: float,
    batch: int,
    where: str,
    given: Container[str],
) -> TokenizerRun:
    kind = LOSSES.get(found.loss_class) if found.loss_class else "adversarial"
    if kind is None:
        raise ConfigError(
            f"{where} names the loss `{printable(found.loss_class)}`, which a tokenizer cannot be trained with here",
            hint="tokenizers of label maps are read, converted and used, but not trained"
            if found.loss_class.rpartition(".")[2] in ("BCELoss", "BCELossWithQuant")
            else closest(found.loss_class, LOSSES),
        )
    if kind == "none":
        logger.info("the loss is a stand-in that cannot train: pixels and quantizer alone count here")
    loss = found.loss if kind == "adversarial" else Loss(disc_weight=0.0, perceptual_weight=0.0)
    if not found.loss_class:
        loss, text = (
            LOSS,
            "the loss is not said: pixels, perceptual network, a discriminator of weight %g from step %d",
        )
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
        data=_data(found, size, given),
        training=_loop(found, batch, given, least=2 * loss.disc_start),
    )


def _discriminator(loss: Loss) -> DiscriminatorConfig | None:
    """The discriminator, in the original's order of steps; none if it would never be felt."""
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
    model: SynthesizerConfig, found: OriginalTraining, rate: float, batch: int, given: Container[str]
) -> PriorRun:
    if isinstance(model.conditioner, ClassLabelConfig):
        classes = model.conditioner.num_classes
        logger.info("`n_classes` = %d is left out: the classes are those of the images", classes)
    rows, columns = model.window
    factor = model.tokenizer.autoencoder.downsample_factor
    return PriorRun(
        conditioner=model.conditioner,
        prior=model.prior.shape(),
        task=PriorTaskConfig(
            optimizer=OptimizerConfig(learning_rate=rate, betas=(0.9, 0.95), weight_decay=0.01),
            token_keep_probability=found.keep_probability,
        ),
        data=_data(found, (rows * factor, columns * factor), given),
        training=_loop(found, batch, given),
        token_order=model.token_order,
    )


def _data(found: OriginalTraining, default: tuple[int, int], given: Container[str]) -> DataConfig:
    """How images become samples; the classes of the original cut and mirror in ways of their own."""
    images, crop, flip = found.images, *IMAGES.get(found.images_class, ("random", False))
    if found.images_class and found.images_class not in IMAGES:
        logger.warning("the images' class `%s` is not known: random crops", printable(found.images_class))
    if images.random_crop is not None:
        crop = "random" if images.random_crop else "center"
    if images.crop_method is not None:
        crop = "random" if images.crop_method.startswith("random") else "center"
    wanted = MAX_WORKERS if found.workers is None else found.workers
    if wanted > MAX_WORKERS and "data.workers" not in given:
        logger.info("images are read by %d processes, not by %d; give `--workers N`", MAX_WORKERS, wanted)
    return DataConfig(
        image_size=images.image_size() or default,
        crop=crop,
        resize=images.size if images.crop_size and images.size else "cover",
        flip=flip if images.random_flip is None else images.random_flip,
        workers=min(wanted, MAX_WORKERS),
    )


def _loop(found: OriginalTraining, batch: int, given: Container[str], least: int = 0) -> LoopConfig:
    steps = found.steps
    if steps is None or steps < 0:
        steps = max(STEPS, least)
        if "training.steps" not in given:
            logger.info("how long to train is not said: %d steps; give `--steps N`", steps)
    return LoopConfig(
        steps=steps, batch_size=batch, accumulate=found.accumulate, evaluate_every=1000, save_every=1000
    )
