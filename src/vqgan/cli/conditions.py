"""The conditions that ``--condition`` and ``--class`` ask for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vqgan.cli import commands
from vqgan.cli.flags import Size, named_values
from vqgan.conditioning import (
    ClassLabel,
    Conditioner,
    Edges,
    Layout,
    LowResolution,
    SceneLayout,
    SceneLayoutConfig,
    Text,
    TokenizedImage,
)
from vqgan.config import from_mapping
from vqgan.data.condition_reader import ConditionReader
from vqgan.data.conditions import Layouts, Maps, open_layouts
from vqgan.data.layouts import read_json
from vqgan.data.poses import PoseFile
from vqgan.data.transforms import fit_pose
from vqgan.errors import ConfigError, DataError, closest, printable, require
from vqgan.images import map_tensor, read_images, read_map, read_pixels, to_float
from vqgan.synthesizer import Synthesizer
from vqgan.types import Condition, next_sizes


@dataclass
class Asked:
    """What the images of a command are steered by.

    Attributes:
        classes: A condition for each class that is asked for, or each pair of two kinds; without a value if none is.
        shared: Values that are the same for all images.
        text: What all conditions are, as they were asked for.
        size: Height and width of the images: as asked for, or else those of the maps.
    """

    classes: list[Condition] = field(default_factory=lambda: [{}])
    shared: dict[str, Any] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    size: Size | None = None

    def size_for(self, model: Synthesizer) -> Size:
        """The size of the images, from now on by default that of the window."""
        (rows, columns), factor = model.config.window, model.tokenizer.downsample_factor
        self.size = self.size or (rows * factor, columns * factor)
        return self.size

    def only(self) -> Condition:
        """The condition of all images. Raises ConfigError if there are several."""
        asked = " ".join(f"{name}={self.text[name]}" for name in self.classes[0])
        what = f"`{asked}` names {len(self.classes)} classes, expected one for all images"
        require(len(self.classes) == 1, what, hint="name one")
        return {**self.shared, **self.classes[0]}


def asked_of(flags: commands.Steered, model: Synthesizer, apart: Collection[str] = ()) -> Asked:
    """Reads all values, but those of the conditions ``apart``.

    Raises:
        ConfigError: If one is missing, malformed, not for this model, or of another size than the images.
        DataError: If a file cannot be read.
    """
    parts = {part.name: part for part in model.conditioner.parts if part.needs_value}
    parts = {name: part for name, part in parts.items() if name not in apart}
    given = named_values("--condition", flags.condition)
    steered = f"is steered by {_quoted([part.name for part in model.conditioner.parts])}"
    if model.conditioner.name == "unconditional":
        steered = "takes no condition"
    if flags.class_ is not None:
        require("class" not in given, "both `--class` and `--condition class=` are given", hint="omit one")
        require("class" in parts, f"`--class` was given, but this prior {steered}", hint="omit `--class`")
        given["class"] = flags.class_
    for name in given:
        hint = closest(name, parts) if parts else "omit it"
        require(name in parts, f"`--condition {name}=` was given, but this prior {steered}", hint=hint)
    asked = Asked(size=flags.size)
    # Maps come first: they tell the size; `edges` may also be a photograph, which is fitted.
    points = {name for name, text in given.items() if text.lower().endswith(".json")}
    maps = {name for name, part in parts.items() if isinstance(part, TokenizedImage | Edges)} - points
    order = sorted(parts.items(), key=lambda each: (each[0] not in maps, isinstance(each[1], Edges)))
    for name, part in order:
        if name not in given:
            _check_missing(part, steered, is_needed=not model.config.has_null_tokens)
            continue
        asked.text[name] = printable(given[name])
        if isinstance(part, ClassLabel):
            values = class_values(given[name], part.config.class_names)
            asked.classes = [{**others, name: each} for others in asked.classes for each in values]
        else:
            try:
                asked.shared[name] = _value(part, given[name], asked, model)
            except DataError as error:
                hint = error.hint or f"give `--condition {name}=FILE` of one picture or map that fits"
                raise DataError(error.message, hint=hint) from None
    return asked


def _check_missing(part: Conditioner, steered: str, *, is_needed: bool) -> None:
    hint = f"give `--condition {part.name}={'WORDS' if isinstance(part, Text) else 'FILE'}`"
    what = f"{steered}, but there is no `{part.name}`"
    if isinstance(part, ClassLabel):
        flag = "--class " if part.name == "class" else f"--condition {part.name}="
        hint = f"name one or several: `{flag}0,1`; each is {part.known}"
        what = "draws images of a class" if part.name == "class" else what
    require(not is_needed, f"this prior {what}", hint=hint)


def class_values(text: str, names: Sequence[str] = (), *, flag: str = "--class") -> list[int | str]:
    """Classes from ``--class`` or another flag: digits are a number unless a class has that name.

    Args:
        text: What was given.
        names: The model's classes.
        flag: Where it was given.

    Example:
        >>> class_values("9,fox"), class_values("1,2", names=["0", "1"])
        ([9, 'fox'], ['1', 2])
    """
    words = [word.strip() for word in text.split(",")]
    hint = f"name one or several: `{flag} 0,1`"
    require(all(words), f"`{flag}` is `{text}`, expected numbers or names with commas between", hint=hint)
    return [int(word) if word.isdecimal() and word not in names else word for word in words]


def _value(part: Conditioner, text: str, asked: Asked, model: Synthesizer) -> Any:
    """A text, a layout, or a picture or map (1 c H W) or (1 H W), of the size of the images."""
    if isinstance(part, Text):
        return text
    if isinstance(part, SceneLayout):
        return _layout(text, part.config)
    if not isinstance(part, TokenizedImage):
        return _computed(part, text, asked, model)
    if part.name == "pose" and text.lower().endswith(".json"):
        return fit_pose(_only(PoseFile(text), text), asked.size_for(model))
    kind = Maps.of(part.name, part.encoder.image_channels, part.encoder.config.label_names)
    values = map_tensor(read_map(Path(text).expanduser(), kind.channels, kind.labels, stretch=kind.stretch))[
        None
    ]
    return _map(values, part, text, asked, model.tokenizer.downsample_factor)


def _computed(part: Conditioner, text: str, asked: Asked, model: Synthesizer) -> Tensor:
    """A photograph that is fitted to the images; an edge map, which is black and white alone; or a small copy."""
    path, channels = Path(text).expanduser(), model.tokenizer.image_channels
    picture = to_float(read_pixels(path, channels))[None]
    if isinstance(part, Edges) and bool(((picture.abs() == 1) & (picture == picture[:, :1])).all()):
        return _map(picture[:, 0] > 0, part, text, asked, model.tokenizer.downsample_factor)
    height, width = asked.size_for(model)
    is_small = isinstance(part, LowResolution) and picture.shape[2] * width == picture.shape[3] * height
    return picture if is_small else read_images(path, (height, width), channels=channels)


def _map(values: Tensor, part: Conditioner, text: str, asked: Asked, factor: int) -> Tensor:
    """The map, which has the size of the images: whole tokens of ``factor`` pixels."""
    height, width = values.shape[-2:]
    asked.size = asked.size or (height, width)
    require(
        asked.size == (height, width),
        f"`{printable(text)}` has {height}x{width} pixels, the images {asked.size[0]}x{asked.size[1]}",
        hint=f"give a `{part.name}` of that size, or `--size {height}x{width}`",
    )
    require(
        height % factor == width % factor == 0,
        f"`{printable(text)}` has {height}x{width} pixels, and so would the images: expected multiples of {factor}",
        hint=f"cut the `{part.name}` and its photograph; {next_sizes((height, width), factor)}",
    )
    return values


def _layout(text: str, config: SceneLayoutConfig) -> Layout:
    """The only layout of a file like COCO's, or one with the fields of :class:`Layout`."""
    whole, kind = read_json(text), Layouts(config.num_classes, config.max_objects, config.class_ids)
    try:
        if "annotations" not in whole:
            return from_mapping(whole, Layout, where=f"`{printable(text)}`")
    except ConfigError as error:
        hint = error.hint or 'write `{"objects": [{"class_number": 2, "box": [0, 0, 0.5, 1]}]}`'
        raise DataError(error.message, hint=hint) from None
    found: Layout = _only(open_layouts(text, None, kind), text)
    return found


def _only(file: ConditionReader, name: str) -> Any:
    """The value of the only image of a file."""
    keys = file.keys or ()
    if len(keys) != 1:
        raise DataError(
            f"`{printable(name)}` has {len(keys)} images, expected one", hint="cut one out of the file"
        )
    return file.read(*keys)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
