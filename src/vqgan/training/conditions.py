"""Conditions that lie beside the images: which conditioners a run gets for them, and what these expect of the files."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from vqgan.checkpoints.format import tokenizer_of
from vqgan.checkpoints.load import find_header
from vqgan.conditioning import (
    ClassLabelConfig,
    Conditioner,
    SceneLayoutConfig,
    SingleConfig,
    TextConfig,
    TokenizedImage,
    TokenizedImageConfig,
    UnconditionalConfig,
    joined,
    parts_of,
)
from vqgan.data.boxes import BoxTable
from vqgan.data.conditions import Classes, ConditionKind, Layouts, Maps, Texts, open_layouts
from vqgan.data.datasets import DatasetConfig
from vqgan.errors import ConfigError, DataError, printable, require
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.training.run import DataConfig, PriorRun
from vqgan.types import ACTION, previous, previous_in

_POSITIONS = 1024
"""Of layouts whose condition is made for them: 32 x 32."""


def conditioned(
    run: PriorRun,
    tokenizers: Mapping[str, Tokenizer],
    *,
    tokenizer: str | Path | None,
    start_from: str | Path | None,
) -> PriorRun:
    """The run, steered by each of its ``data.conditions``: with conditioners for those that it has none for.

    Args:
        run: A prior's run; what its conditioner needs and no path is given for comes from its data set.
        tokenizers: Those of conditions that are maps, by name; others share the images' own.
        tokenizer: The images' own: a file or a run.
        start_from: What the prior begins with, if it does not begin anew; it brings its conditioner along, unless there
            are others beside the images.

    Raises:
        ConfigError: If a tokenizer is given for no condition, or does not fit the images' own.
        DataError: If layouts cannot be read, or have no box.
    """
    brought = run.data.source.conditions if isinstance(run.data.source, DatasetConfig) else ()
    bare = {each.name: "" for each in parts_of(run.conditioner) if each.name in brought}
    paths = {**bare, **run.data.conditions}
    data = msgspec.structs.replace(run.data, conditions=paths)
    run = msgspec.structs.replace(run, data=data)
    path = tokenizer if start_from is None else start_from
    if not (paths or tokenizers):
        return run
    if path is None:
        raise ConfigError("a prior is trained on a tokenizer's codes", hint='give `tokenizer="FILE|RUN"`')
    model = find_header(Path(path))[-1]
    own = parts_of(model.config.conditioner) if isinstance(model, Synthesizer) else ()
    if start_from is not None and paths.keys() <= {part.name for part in own}:
        require(
            not tokenizers,
            "a prior that starts from a file brings its conditions' tokenizers along",
            hint="omit `condition_tokenizers=`",
        )
        return msgspec.structs.replace(run, conditioner=joined(own))
    first = tokenizer_of(model, path)
    parts: list[SingleConfig] = [
        each for each in parts_of(run.conditioner) if not isinstance(each, UnconditionalConfig)
    ]
    known = [part.name for part in parts]
    parts += [_made_for(name, data, tokenizers, first) for name in paths if name not in known]
    parts = [_with_tokenizer(part, tokenizers) for part in parts]
    _check_tokenizers(parts, tokenizers, first)
    return msgspec.structs.replace(run, conditioner=joined(parts))


def _made_for(
    name: str, data: DataConfig, tokenizers: Mapping[str, Tokenizer], first: Tokenizer
) -> SingleConfig:
    """The conditioner of files that the run's configuration says nothing of."""
    require(
        name not in ("coordinates", "unconditional"),
        f"the condition `{name}` takes no files",
        hint=f"set `conditioner.kind={name}`",
    )
    if name in ("class", "text"):
        return ClassLabelConfig() if name == "class" else TextConfig()
    if name == "layout":
        layouts = open_layouts(data.conditions[name], data.source, Layouts())
        if not layouts.most_objects:
            what = f"no image has a box in `{printable(data.conditions[name])}`"
            raise DataError(what, hint="give `annotations`, each with a `bbox`")
        flags = layouts.num_flags if isinstance(layouts, BoxTable) else 0
        return SceneLayoutConfig(
            num_classes=layouts.num_classes,
            max_objects=layouts.most_objects,
            vocabulary_size=max(_POSITIONS, layouts.num_classes * 2**flags + 2),
            encode_crop=True,
            use_group=flags > 0,
            use_additional=flags > 1,
            class_ids=layouts.class_ids,
        )
    require(
        name in tokenizers or name != "segmentation",
        f"the condition `{name}` has no tokenizer, and that of the images knows no labels",
        hint=f"give `--condition-tokenizer {name}=RUN`, trained on such maps",
    )
    return TokenizedImageConfig(codebook_size=first.codebook_size, image=name)


def _with_tokenizer(part: SingleConfig, tokenizers: Mapping[str, Tokenizer]) -> SingleConfig:
    own = tokenizers.get(part.name)
    if own is None or not isinstance(part, TokenizedImageConfig):
        return part
    return msgspec.structs.replace(part, tokenizer=own.config, codebook_size=own.codebook_size)


def _check_tokenizers(
    parts: list[SingleConfig], tokenizers: Mapping[str, Tokenizer], first: Tokenizer
) -> None:
    maps = [part.name for part in parts if isinstance(part, TokenizedImageConfig)]
    for name, own in tokenizers.items():
        require(
            name in maps,
            f"there is a tokenizer for `{name}`, which is no condition of this run that needs one",
            hint="conditions that do: " + (", ".join(f"`{each}`" for each in maps) or "none"),
        )
        factors = own.downsample_factor, first.downsample_factor
        require(
            factors[0] == factors[1],
            f"the tokenizer of `{name}` has {factors[0]} pixels per token side, that of the images {factors[1]}",
            hint="give one with the same downsample factor",
        )


def kinds_of(run: PriorRun, model: str | Path | None) -> dict[str, ConditionKind]:
    """What the run's conditions expect of the files beside the images; those that take none are left out.

    Args:
        run: With its conditioner.
        model: The file or run whose tokenizer pictures without one of their own share.
    """
    kinds: dict[str, ConditionKind] = {}
    for part in parts_of(run.conditioner):
        match part:
            case ClassLabelConfig():
                kinds[part.name] = Classes()
            case TextConfig():
                kinds[part.name] = Texts()
            case SceneLayoutConfig():
                kinds[part.name] = Layouts(part.num_classes, part.max_objects, part.class_ids)
            case TokenizedImageConfig():
                config = part.tokenizer
                if config is None and model is not None and run.data.conditions:
                    config = tokenizer_of(find_header(Path(model))[-1], model).config
                if config is not None:
                    kinds[part.name] = Maps.of(part.name, config.image_channels, config.label_names)
            case _:
                pass
    return kinds


def previous_frames(run: PriorRun) -> int | None:
    """How many frames before each image steer the run; none if neither these nor an action do."""
    names = {part.name for part in parts_of(run.conditioner)} - set(run.data.conditions)
    numbers = previous_in(names)
    return max(numbers, default=0) if numbers or ACTION in names else None


def check_conditions(run: PriorRun) -> None:
    """Checks that each condition that lies beside the images is given.

    Raises:
        ConfigError: If images are to be mirrored, but not the actions between them.
        DataError: If a condition is given nowhere.
    """
    parts = parts_of(run.conditioner)
    require(
        not run.data.flip or ACTION not in {part.name for part in parts},
        "`data.flip` is true, but in mirrored frames actions would mean something else",
        hint="set `data.flip=false`",
    )
    given = {*run.data.conditions, "class", ACTION, *map(previous, range(1, 1 + (previous_frames(run) or 0)))}
    for part in parts:
        if (
            isinstance(part, ClassLabelConfig | TokenizedImageConfig | SceneLayoutConfig)
            and part.name not in given
        ):
            raise DataError(
                f"the condition is a `{part.__struct_config__.tag}`, but the images come without one",
                hint=f"give `--condition {part.name}=PATH`; `edges`, `palette` and `low_resolution` come from the "
                "images themselves",
            )


def take_tokenizers(conditioner: Conditioner, tokenizers: Mapping[str, Tokenizer]) -> None:
    """Gives conditions that have a tokenizer of their own its weights.

    Raises:
        ConfigError: If it was not given.
    """
    for part in conditioner.parts:
        if isinstance(part, TokenizedImage) and part.tokenizer is not None:
            require(
                part.name in tokenizers,
                f"the tokenizer of the condition `{part.name}` is not trained",
                hint=f"give one that is: `--condition-tokenizer {part.name}=RUN`",
            )
            part.tokenizer.load_state_dict(tokenizers[part.name].state_dict(), strict=True)
