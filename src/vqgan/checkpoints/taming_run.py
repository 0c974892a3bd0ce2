"""What the original's configurations say of training, read strictly, and what each of their keys means to us."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from vqgan.checkpoints.original_config import Node, unresolved
from vqgan.config import convert
from vqgan.errors import ConfigError

_SIZES = {
    "ch": "base_channels",
    "ch_mult": "channel_multipliers",
    "num_res_blocks": "num_residual_blocks",
    "attn_resolutions": "attention_resolutions",
    "in_channels": "image_channels",
    "resolution": "resolution",
    "z_channels": "latent_channels",
    "dropout": "dropout",
    "attn_type": "middle_attention",
}
_LOSS = {
    "disc_start": "discriminator.start",
    "disc_weight": "discriminator.weight",
    "disc_factor": "discriminator.weight",
    "disc_num_layers": "discriminator.num_layers",
    "disc_ndf": "discriminator.base_channels",
    "disc_loss": "discriminator.loss",
    "codebook_weight": "codebook_weight",
    "perceptual_weight": "perceptual.weight",
    "pixel_loss": "pixels",
}
_PARAMS, _LOSSES, _GPT = "model.params.", "model.params.lossconfig.", "model.params.transformer_config."
_TRAIN = "data.params.train.params."

MAPPED: dict[str, str] = {
    "model.target": "kind",
    "model.base_learning_rate": "task.optimizer.learning_rate",
    **{f"{_PARAMS}ddconfig.{key}": f"tokenizer.autoencoder.{ours}" for key, ours in _SIZES.items()},
    f"{_PARAMS}embed_dim": "tokenizer.quantizer.codebook_dim",
    f"{_PARAMS}n_embed": "tokenizer.quantizer.codebook_size",
    f"{_PARAMS}kl_weight": "tokenizer.quantizer.kl_weight",
    f"{_LOSSES}target": "task",
    **{f"{_LOSSES}params.{key}": f"task.{ours}" for key, ours in _LOSS.items()},
    f"{_GPT}params.n_layer": "prior.depth",
    f"{_GPT}params.n_embd": "prior.width",
    f"{_GPT}params.n_head": "prior.num_heads",
    f"{_GPT}params.resid_pdrop": "prior.dropout",
    f"{_PARAMS}cond_stage_config": "conditioner",
    f"{_PARAMS}cond_stage_key": "conditioner",
    f"{_PARAMS}sos_token": "conditioner",
    f"{_PARAMS}unconditional": "conditioner",
    f"{_PARAMS}permuter_config": "token_order",
    f"{_PARAMS}pkeep": "task.token_keep_probability",
    "data.params.batch_size": "training.batch_size",
    "data.params.num_workers": "data.workers",
    **{
        f"{_TRAIN}{part}{key}": f"data.{ours}"
        for part in ("", "config.")
        for key, ours in (
            ("size", "image_size"),
            ("crop_size", "image_size"),
            ("target_image_size", "image_size"),
            ("random_crop", "crop"),
            ("crop_method", "crop"),
            ("random_flip", "flip"),
        )
    },
    "lightning.trainer.accumulate_grad_batches": "training.accumulate",
    "lightning.trainer.max_steps": "training.steps",
}
"""Keys that are carried over, and where to; whole branches under their first key."""

_IMAGES = "the images are those of `data=`"
_LAYOUT = "read for the condition; images come without layouts"

LEFT_OUT: dict[str, str] = {
    **{
        f"{_PARAMS}ddconfig.{key}": "only the published value can be built"
        for key in ("out_ch", "double_z", "resamp_with_conv", "tanh_out")
    },
    f"{_PARAMS}ckpt_path": "give weights to begin with by `start_from=`",
    f"{_PARAMS}ignore_keys": "weights are taken as a whole",
    f"{_PARAMS}image_key": _IMAGES,
    f"{_PARAMS}first_stage_key": _IMAGES,
    f"{_PARAMS}monitor": "held-out numbers are in `metrics.jsonl`",
    f"{_PARAMS}colorize_nlabels": "pictures are written as they are",
    f"{_PARAMS}remap": "a codebook is remapped after training",
    f"{_PARAMS}sane_index_shape": "codes always have the shape of the grid",
    f"{_PARAMS}temperature_scheduler_config": "the temperature is constant, `tokenizer.quantizer.temperature`",
    f"{_PARAMS}n_labels": _IMAGES,
    f"{_PARAMS}downsample_cond_size": "only conditions of the image's own size can be built",
    f"{_LOSSES}params.pixelloss_weight": "the original does not use it",
    f"{_LOSSES}params.disc_in_channels": "the discriminator sees the channels of the images",
    f"{_LOSSES}params.disc_conditional": "the discriminator sees the image alone",
    f"{_LOSSES}params.use_actnorm": "the discriminator has batch normalization",
    f"{_PARAMS}first_stage_config": "the tokenizer is that of `tokenizer=`",
    f"{_GPT}target": "there is one kind of transformer",
    f"{_GPT}params.vocab_size": "follows from the tokenizer",
    f"{_GPT}params.block_size": "follows from the size of the images and the condition",
    f"{_GPT}params.n_unmasked": "tokens look back alone",
    f"{_GPT}params.embd_pdrop": "one dropout for all, `prior.dropout`",
    f"{_GPT}params.attn_pdrop": "one dropout for all, `prior.dropout`",
    "data.target": _IMAGES,
    "data.params.wrap": "every epoch is whole",
    "data.params.train.target": _IMAGES,
    f"{_TRAIN}training_images_list_file": "give this file by `data=`",
    f"{_TRAIN}data_path": "give this folder by `data=`",
    f"{_TRAIN}coord": "positions are computed",
    **{
        f"{_TRAIN}{key}": _LAYOUT
        for key in (
            "no_tokens",
            "no_object_classes",
            "use_group_parameter",
            "use_additional_parameters",
            "encode_crop",
            "max_objects_per_image",
            "keys",
        )
    },
    "data.params.validation": "give held-out images by `eval_data=`",
    "data.params.test": "give held-out images by `eval_data=`",
    "lightning.trainer.max_epochs": 'give `overrides=["training.steps=N"]`',
    "lightning.trainer.gpus": "give `device=`",
    "lightning.trainer.precision": 'give `precision="bf16"`',
    "lightning.trainer.distributed_backend": "processes are those of the launcher",
    "lightning.trainer.benchmark": "no such switch",
    "lightning.callbacks": "pictures and rows come as `training` says",
    "lightning.modelcheckpoint": "checkpoints come as `training.save_every` says",
    "lightning.logger": "numbers are in `metrics.jsonl`",
}
"""Keys that are understood and not carried over, and why or what to do instead."""


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


class Images(msgspec.Struct):
    """Arguments of the training images that say what becomes of them."""

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


class _Stage(msgspec.Struct, rename={"loss": "lossconfig", "keep_probability": "pkeep"}):
    loss: Node | None = None
    keep_probability: float = 1.0


class _Model(msgspec.Struct):
    target: str
    params: _Stage
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


class _File(msgspec.Struct):
    model: _Model
    data: _Loader = msgspec.field(default_factory=_Loader)
    lightning: _Lightning = msgspec.field(default_factory=_Lightning)


@dataclass(frozen=True)
class OriginalTraining:
    """How a configuration of the original trains.

    Attributes:
        base_learning_rate: For one image of the batch, if it says so.
        batch_size: Images that one process computes at once, if it says so.
        workers: Processes that read images, if it says so.
        accumulate: Micro-batches of a step.
        steps: Optimizer steps, if it says so.
        loss_class: The class of the first stage's loss; empty for a second stage.
        loss: That class's arguments.
        keep_probability: Share of the tokens that a second stage reads as they are.
        images_class: The class of the training images, if it says so.
        images: That class's arguments.
    """

    base_learning_rate: float | None
    batch_size: int | None
    workers: int | None
    accumulate: int
    steps: int | None
    loss_class: str
    loss: Loss
    keep_probability: float
    images_class: str
    images: Images


def read_training(mapping: Mapping[str, Any], *, where: str) -> OriginalTraining:
    """Reads the parts of a configuration that concern training; classes are kept as words.

    Raises:
        ConfigError: If a value that is needed is missing, or one has the wrong type.
    """
    try:
        file: _File = convert(mapping, _File, where=where)
    except ConfigError as error:
        raise ConfigError(f"{error.message}{unresolved(mapping)}", hint=error.hint) from None
    loss, data, trainer = file.model.params.loss, file.data.params, file.lightning.trainer
    train = data.train if data.train is not None else Node(target="")
    nested = train.params.get("config")
    named = {**train.params, **(nested if isinstance(nested, Mapping) else {})}
    return OriginalTraining(
        base_learning_rate=file.model.base_learning_rate,
        batch_size=data.batch_size,
        workers=data.num_workers,
        accumulate=trainer.accumulate_grad_batches,
        steps=trainer.max_steps,
        loss_class=loss.target if loss is not None else "",
        loss=convert(loss.params if loss is not None else {}, Loss, where=f"the loss of {where}"),
        keep_probability=file.model.params.keep_probability,
        images_class=train.target,
        images=convert(named, Images, where=f"the training images of {where}"),
    )
