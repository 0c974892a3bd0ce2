"""A prior that starts from a file: its whole model, or all but the rows of a condition that becomes another."""

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from vqgan.checkpoints.load import read_model
from vqgan.conditioning import (
    ClassLabelConfig,
    ConditionerConfig,
    SingleConfig,
    build_conditioner,
    joined,
    parts_of,
)
from vqgan.data.source import Source
from vqgan.errors import CheckpointError, DataError, require
from vqgan.prior import PriorConfig
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import Tokenizer
from vqgan.training.computed import completed
from vqgan.training.conditions import take_tokenizers
from vqgan.training.run import PriorRun

logger = logging.getLogger(__name__)

Names = Mapping[str, tuple[str, ...]]
"""Names of the classes that the data has, for each condition that is a class."""


def started_synthesizer(
    run: PriorRun,
    file: Path,
    *,
    names: Names,
    images: Source | None,
    seed: int,
    tokenizers: Mapping[str, Tokenizer],
) -> Synthesizer:
    """The model of a file, with the run's dropout.

    If the run has another condition, or its images other classes, the vectors of the condition's tokens are made anew;
    all else goes on, and one line says so.

    Raises:
        CheckpointError: If the file holds no prior.
        ConfigError: If it was trained on another size, or cannot do without its condition as the run asks.
        DataError: If the condition is a class and the images have none.
    """
    model, header = read_model(file)
    if not isinstance(model, Synthesizer):
        raise CheckpointError(
            f"`{file}` holds a {header.kind}, expected a prior", hint="give a prior's file or run"
        )
    old, tokenizer = model.config, model.tokenizer
    grid = tokenizer.grid_size(run.data.image_size)
    require(
        grid == old.window,
        f"images of {run.data.image_size} have a token grid of {grid}, the prior reads {old.window}",
        hint="set `data.image_size` to the size that the prior was trained on",
    )
    same = _kinds(old.conditioner) == _kinds(run.conditioner)
    found = old.conditioner if same else completed(run, tokenizer, images, seed)
    named = with_classes(found, names, may_change=same)
    shape = msgspec.structs.replace(old.prior.shape(), dropout=run.prior.dropout)
    if same and all(map(_means_the_same, parts_of(old.conditioner), parts_of(named))):
        require(
            run.task.condition_dropout == 0 or old.has_null_tokens,
            f"`task.condition_dropout` is {run.task.condition_dropout}, but the prior of `{file}` has no null tokens",
            hint=f'set it to 0, or train a new prior with `tokenizer="{file}"`',
        )
        prior = msgspec.structs.replace(old.prior, dropout=shape.dropout)
        synthesizer = Synthesizer(msgspec.structs.replace(old, prior=prior))
        synthesizer.load_state_dict(model.state_dict(), strict=True)
        return synthesizer
    changed = msgspec.structs.replace(run, conditioner=named, prior=shape, token_order=old.token_order)
    synthesizer = Synthesizer(synthesizer_config(changed, tokenizer))
    if same:
        synthesizer.conditioner.load_state_dict(model.conditioner.state_dict(), strict=True)
    else:
        take_tokenizers(synthesizer.conditioner, tokenizers)
    _take_all_but_the_condition(synthesizer, model)
    logger.warning(
        "the prior of `%s` was steered by %s, this one by %s: its condition's vectors are made anew, the rest goes on",
        *(file, _kinds(old.conditioner, sizes=True), _kinds(named, sizes=True)),
    )
    return synthesizer


@torch.no_grad()
def _take_all_but_the_condition(new: Synthesizer, old: Synthesizer) -> None:
    """Gives a synthesizer the weights of one that is steered by something else.

    Of tables that grow with the condition it takes what belongs to the image: vectors of codes stand before those of
    the condition, learned positions after them, and relative ones around offset 0. The projection of a text's vectors
    stays if the new ones are as wide.
    """
    stored = old.state_dict()
    for name, tensor in new.state_dict().items():
        if name not in stored or name.startswith(("conditioner.", "prior.cell_condition.")):
            continue
        given = stored[name]
        if name == "prior.token_embedding.weight":
            codes = new.prior.config.codebook_size + (new.prior.config.span is not None)
            tensor[:codes] = given[:codes]
        elif name == "prior.transformer.positions":
            fed = min(tensor.shape[1], given.shape[1])
            tensor[:, -fed:] = given[:, -fed:]
        elif name.endswith("attention.bias.table"):
            sides = [min(pair) for pair in zip(tensor.shape, given.shape, strict=True)]
            _middle(tensor, sides).copy_(_middle(given, sides))
        elif name != "prior.vector_projection.weight" or tensor.shape == given.shape:  # else another encoder
            tensor.copy_(given)


def _middle(table: Tensor, sides: list[int]) -> Tensor:
    """The part of these sides around the centre."""
    for dim, side in enumerate(sides):
        table = table.narrow(dim, (table.shape[dim] - side) // 2, side)
    return table


def _kinds(config: ConditionerConfig, *, sizes: bool = False) -> str:
    """What it consists of, for comparison and for messages."""
    return ", ".join(
        f"`{part.__struct_config__.tag}`" + (f" of {part.vocabulary_size} values" if sizes else "")
        for part in parts_of(config)
    )


def _means_the_same(old: SingleConfig, new: SingleConfig) -> bool:
    if not (isinstance(old, ClassLabelConfig) and isinstance(new, ClassLabelConfig)):
        return True
    return old.num_classes == new.num_classes and old.class_names in ((), new.class_names)


def with_classes(config: ConditionerConfig, names: Names, *, may_change: bool = False) -> ConditionerConfig:
    """The conditioner with the classes of the data, if it has any; others than its own are refused by default."""
    return joined([_class_label(each, names, may_change) for each in parts_of(config)])


def _class_label(config: SingleConfig, found: Names, may_change: bool) -> SingleConfig:
    if not isinstance(config, ClassLabelConfig):
        return config
    names, name = found.get(config.name, ()), config.name
    if not names:
        raise DataError(
            f"the condition is a {name}, but the images have none",
            hint="put the images of each class into a sub-folder"
            if name == "class"
            else "give frames of games",
        )
    if config.class_names not in ((), names) and not may_change:
        raise DataError(
            f"the images have the classes {_listed(names)}, the prior's are {_listed(config.class_names)}",
            hint="give images of these classes, in folders of these names",
        )
    return msgspec.structs.replace(config, num_classes=len(names), class_names=names)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")


def synthesizer_config(run: PriorRun, tokenizer: Tokenizer) -> SynthesizerConfig:
    """The complete configuration of the model that a prior's run trains on this tokenizer."""
    window = tokenizer.grid_size(run.data.image_size)
    conditioner = build_conditioner(run.conditioner, tokenizer).config
    null_tokens = len(parts_of(run.conditioner)) if run.task.condition_dropout else 0
    prior = PriorConfig(
        codebook_size=tokenizer.codebook_size,
        condition_size=conditioner.vocabulary_size + null_tokens,
        context_length=conditioner.num_tokens(window) + window[0] * window[1] - 1,
        **msgspec.structs.asdict(run.prior),
    )
    return SynthesizerConfig(
        tokenizer=tokenizer.config,
        conditioner=run.conditioner,
        prior=prior,
        window=window,
        token_order=run.token_order,
    )
