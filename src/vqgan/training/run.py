"""The types of a run: what is trained, how, on which images, for how long; and what may change on resuming."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from vqgan.checkpoints.format import tokenizer_of
from vqgan.checkpoints.load import find_header
from vqgan.checkpoints.renamed import with_new_names
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.conditioning import ConditionerConfig, UnconditionalConfig
from vqgan.config import Config, Natural, from_mapping, read_yaml, to_mapping
from vqgan.data import SourceConfig, open_source
from vqgan.data.conditions import Classes, ConditionKind, with_conditions
from vqgan.data.consecutive import Consecutive
from vqgan.data.given import MemoryConfig
from vqgan.data.image_files import WhichFrames
from vqgan.data.source import Source
from vqgan.data.transforms import Framing, TransformConfig
from vqgan.errors import CheckpointError, ConfigError, DataError, closest, require
from vqgan.evaluation.psnr import WINDOW
from vqgan.images import MAX_LABELS
from vqgan.prior import PriorShape, TokenOrder, check_token_order
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import AutoencoderConfig, TokenizerConfig
from vqgan.training.classifier_task import ClassifierTaskConfig
from vqgan.training.denoiser_task import DenoiserTaskConfig
from vqgan.training.prior_task import PriorTaskConfig
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import TokenizerTaskConfig

Given = tuple[SourceConfig | Source | None, SourceConfig | Source | None]
"""The images to train on and the held-out ones that were given beside a run's configuration."""


class DataConfig(Framing, frozen=True, kw_only=True):
    """Which images, and how they become training samples; held-out images are cropped at the centre, not mirrored.

    Attributes:
        source: Where the images come from; usually given by ``--data``.
        eval_source: Held-out images, in place of a fixed part of ``source``. If it brings held-out images of its
            own, only those are used; those of ``source`` are never trained on.
        frames: Of an animated GIF, WebP, PNG or a TIFF of several pages: ``"first"``, or ``"all"`` as images of
            their own; those of a file are all trained on or all held out.
        workers: Processes that read images; 0 reads them in the training process.
        cached_codes: How many variants of each picture (shifted by less than a cell, some mirrored) a prior's tokenizer
            encodes whole before the first step; training samples are random crops of their codes. 0 encodes each crop
            when it is due.
        conditions: Where conditions lie beside the images, by name: a table (`class`), captions (`text`), a file of
            boxes (`layout`) or of key points (`pose`), else a folder of maps; an empty path takes those that a data set
            brings.
        eval_conditions: Those of `eval_source`, where they lie elsewhere.
    """

    source: SourceConfig | MemoryConfig | None = None
    eval_source: SourceConfig | MemoryConfig | None = None
    frames: WhichFrames = "first"
    workers: Natural = 0
    cached_codes: Natural = 0
    conditions: dict[str, str] = msgspec.field(default_factory=dict)
    eval_conditions: dict[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, needed in (("resize", None), ("crop", "random"), ("context", 0), ("stretch", False)):
            value, text = getattr(self, name), "null" if needed is None else needed
            require(
                self.cached_codes == 0 or value == needed,
                f"`data.{name}` is {value}, expected {text}: with `data.cached_codes`, samples are random crops of the "
                "codes of whole pictures, which are encoded at their own resolution",
                hint=f"set `data.{name}={text}`, or `data.cached_codes=0`",
            )
        beside = sorted({*self.conditions, *self.eval_conditions} - {"class", "text"})
        require(
            self.cached_codes == 0 or not beside,
            f"`data.cached_codes` is {self.cached_codes}, but the condition `{beside[0] if beside else ''}` must be "
            "cut out with each crop",
            hint="set `data.cached_codes=0`",
        )

    def transform(self, channels: int, *, coordinates: bool = False, labels: int = 0) -> TransformConfig:
        """How an image becomes a tensor of this number of channels, perhaps with its place; or label maps."""
        framing = {name: getattr(self, name) for name in Framing.__struct_fields__}
        return TransformConfig(image_channels=channels, coordinates=coordinates, labels=labels, **framing)


def open_sources(
    data: DataConfig,
    given: Given = (None, None),
    *,
    kinds: Mapping[str, ConditionKind] | None = None,
    previous: int | None = None,
) -> tuple[Source, Source]:
    """The training images and the held-out images of a run.

    Args:
        data: Where they come from.
        given: Replaces its two sources where the images themselves were given.
        kinds: What the conditions expect of the files beside the images; with classes, both must have the same.
        previous: How many frames before each image, and the action in between, come with it; none if they do not.

    Raises:
        ConfigError: If no source is named.
        DataError: If a source or a condition cannot be read, they do not fit, or the classes differ.
    """
    source, own = (
        each if isinstance(each, Source) else config
        for each, config in zip(given, (data.source, data.eval_source), strict=True)
    )
    if source is None:
        raise ConfigError("no images were given", hint='give `data="FOLDER"`')
    opened = partial(open_source, frames=data.frames, consecutive=previous is not None)
    whole = with_conditions(opened(source), data.conditions, kinds or {}, source)
    if own is None:
        images, others = whole.part("train"), whole.part("heldout")
    else:
        paths = {**data.conditions, **data.eval_conditions}
        other = with_conditions(opened(own), paths, kinds or {}, own)
        images = whole.part("all" if whole.held_out is None else "train")
        others = other.part("all" if other.held_out is None else "heldout")
    if Classes in map(type, (kinds or {}).values()) and images.class_names != others.class_names:
        raise DataError(
            "the held-out images have other classes than the training images",
            hint="give held-out images in folders of the same names, or omit `eval_data=`",
        )
    if "text" in (kinds or {}) and not (images.captions and others.captions):
        what = "the condition is a `text`, but the images or the held-out ones come without"
        raise DataError(what, hint="give `--condition text=PATH`, or in Python images as (image, caption)")
    if previous is None:
        return images, others
    return Consecutive(images, previous), Consecutive(others, previous)


def _check_best(training: LoopConfig, *measured: str) -> None:
    """Raises ConfigError if the best model shall be found by a number that this run does not measure."""
    name = training.keep_best
    require(
        isinstance(name, bool) or name in measured,
        f"`training.keep_best` is `{name}`, expected true, false, or a number that this run measures",
        hint=closest(str(name), measured),
    )


def _refuse_what_is_for_priors(data: DataConfig, training: LoopConfig, kind: str) -> None:
    for name in ("context", "cached_codes"):
        value = getattr(data, name)
        require(
            value == 0,
            f"`data.{name}` is {value}, expected 0: a {kind} learns from what it sees",
            hint="set it in the run of a prior",
        )
    require(
        not training.shard,
        f"`training.shard` is true, expected false: a {kind} fits one card, only priors are sharded",
        hint="set `training.recompute=true` to save memory",
    )


class TokenizerRun(Config, frozen=True, tag_field="kind", tag="tokenizer"):
    """Trains a tokenizer."""

    tokenizer: TokenizerConfig
    task: TokenizerTaskConfig
    data: DataConfig
    training: LoopConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_what_is_for_priors(self.data, self.training, "tokenizer")
        require(
            not (self.data.conditions or self.data.eval_conditions),
            "`data.conditions` are given, but a tokenizer takes none",
            hint="set them in the run of a prior",
        )
        task, has_layers = self.task, self.tokenizer.autoencoder is not None
        optional = {"ssim": min(self.data.image_size) >= WINDOW, "perceptual": task.perceptual is not None}
        pictures = ["psnr", *(name for name, is_measured in optional.items() if is_measured)]
        measured = ["miou", "accuracy"] if task.is_of_labels else pictures
        _check_best(self.training, *measured, "usage", "perplexity")
        require(
            has_layers or (task.discriminator is None and task.perceptual is None),
            "without `tokenizer.autoencoder` there is nothing that a discriminator or a perceptual loss could improve",
            hint="set `task.discriminator=null` and `task.perceptual=null`",
        )
        for name, off in (("trained", "all"), ("codebook_decay", None)):
            require(
                has_layers or getattr(task, name) == off,
                f"`task.{name}` is {getattr(task, name)}, but without `tokenizer.autoencoder` the codebook "
                "that follows its gradient is all there is",
                hint=f"set `task.{name}={'null' if off is None else off}`",
            )
        labels = self.tokenizer.image_channels
        have = (
            f"{labels} channels, expected one for each of 2 to {MAX_LABELS} labels"
            if has_layers
            else "no layers"
        )
        require(
            not task.is_of_labels or (has_layers and 2 <= labels <= MAX_LABELS),
            f"`task.pixels` is `{task.pixels}`, a loss of label maps, but `tokenizer.autoencoder` has {have}",
            hint="set `tokenizer.autoencoder.image_channels` to the number of labels",
        )
        require(
            task.is_of_labels or not self.tokenizer.label_names,
            f"the tokenizer is one of {labels} labels, but `task.pixels` is `{task.pixels}`, a loss of pictures",
            hint="set `task.pixels=cross_entropy`",
        )


class PriorRun(Config, frozen=True, tag_field="kind", tag="prior"):
    """Trains a prior on the codes of a trained tokenizer, which it reads in ``token_order``."""

    conditioner: ConditionerConfig
    prior: PriorShape
    task: PriorTaskConfig
    data: DataConfig
    training: LoopConfig
    token_order: TokenOrder = "raster"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_token_order(self.token_order)
        _check_best(self.training, "loss", *["unconditional_loss"] * (self.task.condition_dropout > 0))
        require(
            self.task.condition_dropout == 0
            or bool(self.data.conditions)
            or not isinstance(self.conditioner, UnconditionalConfig),
            f"`task.condition_dropout` is {self.task.condition_dropout}, but there is no condition to hide",
            hint="set `task.condition_dropout=0`, or choose another `conditioner.kind`",
        )


class ClassifierRun(Config, frozen=True, tag_field="kind", tag="classifier"):
    """Trains a classifier of the images' classes, with an encoder of these sizes."""

    encoder: AutoencoderConfig
    task: ClassifierTaskConfig
    data: DataConfig
    training: LoopConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_what_is_for_priors(self.data, self.training, "classifier")
        _check_best(self.training, "loss", "accuracy")


class DenoiserRun(Config, frozen=True, tag_field="kind", tag="denoiser"):
    """Trains a denoiser, with encoder and decoder of these sizes."""

    encoder: AutoencoderConfig
    task: DenoiserTaskConfig
    data: DataConfig
    training: LoopConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_what_is_for_priors(self.data, self.training, "denoiser")
        _check_best(self.training, "psnr")


Run = TokenizerRun | PriorRun | ClassifierRun | DenoiserRun


def run_from_mapping(mapping: Mapping[str, Any], *, where: str) -> Run:
    """The typed run of plain mappings.

    Raises:
        ConfigError: If a key or a value does not fit, or nothing says what kind of run it is.
    """
    if "kind" not in mapping:
        hint = "write `kind: tokenizer`, `prior`, `classifier` or `denoiser`, or `preset: NAME`"
        raise ConfigError(f"{where} has no `kind`", hint=hint)
    run: Run = from_mapping(mapping, Run, where=where)
    return run


def read_run(folder: RunFolder) -> tuple[Run, dict[str, Any]]:
    """The run that a folder records, and the precision and seed that it began with.

    Raises:
        CheckpointError: If it is not a run folder, or its records are damaged.
    """
    if not folder.config.is_file() or not folder.environment.is_file():
        raise CheckpointError(
            f"`{folder.path}` is not a run folder", hint="give the folder that `out=` named"
        )
    try:
        environment = json.loads(folder.environment.read_text(encoding="utf-8"))
        begun = {name: environment[name] for name in ("precision", "seed")}
        return run_from_mapping(with_new_names(read_yaml(folder.config)), where=f"`{folder.config}`"), begun
    except ConfigError as error:
        raise CheckpointError(error.message, hint=error.hint) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"`{folder.environment}` is damaged: {type(error).__name__} {error}",
            hint="write `precision` and `seed` into it as they were when the run began",
        ) from None


_MAY_DIFFER = (
    "data.workers",
    "training.compile",
    "training.recompute",
    "training.shard",
    "data.source",
    "data.eval_source",
    "data.conditions",
    "data.eval_conditions",
    "conditioner.encoder",
    "task.perceptual.weights",
    "training.keep_",
)
"""What may change on resuming, besides the device: paths, processes, what is kept. The data's fingerprint must stay."""


def refuse_changes(recorded: Run, settings: Run) -> None:
    """Compares a run with how it began.

    Raises:
        ConfigError: If it differs in more than a resumed run may; with both values.
    """
    for key, old, new in differences(to_mapping(recorded), to_mapping(settings)):
        grows = key == "training.steps" and new > old
        require(
            grows or key.startswith(_MAY_DIFFER),
            f"`{key}` is {new}, but the run began with {old}",
            hint="a resumed run keeps its configuration, only `training.steps` may grow; "
            "begin a new one with `start_from=`",
        )


def refuse_other(run: Run, start_from: str | Path | None, overrides: Sequence[str]) -> None:
    """Raises ConfigError, with both values, if an override sets a size or a text encoder unlike that of the file.

    Or if nothing is given to start from, but only a decoder is to be trained.
    """
    require(
        start_from is not None or not isinstance(run, TokenizerRun) or run.task.trained == "all",
        "`task.trained` is `decoder`, but there is no encoder whose codes it could learn",
        hint="give a trained tokenizer with `start_from=`",
    )
    if start_from is None or not overrides or isinstance(run, ClassifierRun | DenoiserRun):
        return
    model = find_header(Path(start_from))[-1]
    whole = to_mapping(
        model.config
        if isinstance(model, Synthesizer)
        else {"tokenizer": tokenizer_of(model, start_from).config}
    )
    keys = tuple(f"{item.partition('=')[0].strip()}." for item in overrides)
    for key, wanted, found in differences(to_mapping(run), whole):
        is_size = key.startswith(("tokenizer.", "prior.", "token_order")) and key != "prior.dropout"
        stays = is_size or (key == "conditioner.encoder" and found is not None)
        require(
            not stays or not f"{key}.".startswith(keys),
            f"`{key}` is set to {wanted}, but in `{start_from}` it is {found}",
            hint="omit one of the two",
        )


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Key, old and new value of everything that differs."""
    for name in sorted({*old, *new}):
        key, before, after = f"{prefix}{name}", old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from differences(before, after, f"{key}.")
        elif before != after:
            yield key, before, after
