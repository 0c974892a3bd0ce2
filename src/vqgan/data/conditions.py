"""Conditions that lie beside the images: classes, captions, maps, poses and layouts, found by the images' paths."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vqgan.data.boxes import BoxTable
from vqgan.data.captions import Captions
from vqgan.data.class_table import ClassTable
from vqgan.data.condition_reader import ConditionReader, key_of
from vqgan.data.datasets import dataset_with
from vqgan.data.layouts import LayoutFile
from vqgan.data.maps import MapFolder
from vqgan.data.poses import PoseFile
from vqgan.data.source import Item, Part, Source
from vqgan.errors import DataError, printable, require

MAX_CHECKED = 2000
"""At most so many pairs are read before a training; that none is missing is checked of all."""

_SHOWN = 5
"""Images that a message names."""


@dataclass(frozen=True)
class Classes:
    """A class for each image."""


@dataclass(frozen=True)
class Texts:
    """Captions of each image."""


@dataclass(frozen=True)
class Layouts:
    """Boxes for each image.

    Attributes:
        num_classes: How many classes the condition knows; 0: as many as there are.
        max_objects: How many objects fit; 0: as many as there are.
        class_ids: The ids of the classes, if their order is another.
    """

    num_classes: int = 0
    max_objects: int = 0
    class_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Maps:
    """A second picture for each image.

    Attributes:
        channels: Of a picture.
        labels: How many labels there are, if it is a map of such; else 0.
        stretch: Whether only relative values count, as of depth: each map fills the range by itself.
    """

    channels: int
    labels: int = 0
    stretch: bool = False

    @classmethod
    def of(cls, name: str, channels: int, label_names: Sequence[str] = ()) -> "Maps":
        """What a tokenizer reads: labels if it names some, if they are called so, or by channels unlike a picture's."""
        what = f"the tokenizer of `pose` has {channels} channels, expected 3"
        hint = "give `--condition-tokenizer pose=RUN`, trained on drawings in colour"
        require(name != "pose" or channels == 3, what, hint=hint)
        has_labels = bool(label_names) or name == "segmentation" or channels not in (1, 3, 4)
        return cls(channels, channels if has_labels else 0, stretch=name == "depth" and channels == 1)


ConditionKind = Classes | Layouts | Maps | Texts
"""What a condition expects of the files beside the images."""


def open_layouts(path: str, config: object, kind: Layouts) -> LayoutFile | BoxTable:
    """The layouts of a file, or without a path those of the data set.

    Raises:
        DataError: If they cannot be used, or their classes are not those of the condition.
    """
    layouts: LayoutFile | BoxTable
    if path:
        layouts = LayoutFile(path, max_objects=kind.max_objects or None, class_ids=kind.class_ids)
    else:
        dataset = dataset_with("layout", config)
        layouts = BoxTable(dataset.name, dataset.folder, max_objects=kind.max_objects)
    if kind.num_classes not in (0, layouts.num_classes):
        raise DataError(
            f"`{printable(path) or 'layout'}` has {layouts.num_classes} categories, the condition {kind.num_classes} "
            "classes",
            hint="give layouts of the same categories: keep the `categories` of the file that was trained with",
        )
    return layouts


def open_reader(name: str, path: str, kind: ConditionKind, config: object) -> ConditionReader:
    """The reader of one condition; without a path, of that which the data set brings.

    Raises:
        DataError: If there is nothing at the path that it can read, or the classes are not those of the condition.
    """
    if isinstance(kind, Classes | Texts):
        table = ClassTable if isinstance(kind, Classes) else Captions
        return table(path or dataset_with(name, config).path)
    if isinstance(kind, Layouts):
        return open_layouts(path, config, kind)
    if name == "pose" and path.lower().endswith(".json"):
        return PoseFile(path)
    dataset = None if path else dataset_with(name, config)
    root, shift = (str(dataset.root(name)), dataset.facts.shift) if dataset else (path, 0)
    return MapFolder(root, channels=kind.channels, labels=kind.labels, stretch=kind.stretch, shift=shift)


class Conditioned(Part):
    """Images with the conditions that lie beside them; classes and captions there replace the images' own.

    Args:
        source: The images.
        readers: The conditions by name.
    """

    def __init__(self, source: Source, readers: Mapping[str, ConditionReader]) -> None:
        super().__init__(source, np.arange(len(source)))
        self._all, self.held_out = dict(readers), source.held_out
        self._keys = [key_of(os.fsdecode(key)) for key in source.keys()]  # noqa: SIM118 (no mapping)
        self._readers = {name: each for name, each in readers.items() if name != "text"}
        if (captions := readers.get("text")) is not None:  # `check_pairs` refuses images without one
            self.captions = [captions.read(key) if captions.has(key) else () for key in self._keys]
        names = {name: each.class_names for name, each in readers.items() if each.class_names}
        self.class_names = names.pop("class", source.class_names)
        self.names_of = {**source.names_of, **names}

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """The image in its own size if there are maps, so that these have the same, with its conditions.

        Raises:
            DataError: If one of them cannot be read.
        """
        smallest = smallest_side if {*self._readers} <= {"class"} else None
        return self._with_conditions(index, super().read(index, channels, smallest))

    def read_map(self, index: int, labels: int = 0) -> Item:
        """The image as a map, with its conditions."""
        return self._with_conditions(index, super().read_map(index, labels))

    def _with_conditions(self, index: int, item: Item) -> Item:
        values = {name: reader.read(self._keys[index]) for name, reader in self._readers.items()}
        class_index = values.pop("class", item.class_index)
        return replace(item, class_index=class_index, condition={**item.condition, **values})

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the images' and of each condition's."""
        digest = hashlib.sha256(self._source.fingerprint.encode())
        for name, reader in sorted(self._all.items()):
            digest.update(f"{name}\0{reader.fingerprint}\n".encode())
        return digest.hexdigest()

    def check_pairs(self) -> None:
        """Checks that every image has every condition, and of a sample of them that these fit.

        Raises:
            DataError: If any does not; it tells how many, and of the first five why.
        """
        bad = {
            index: f"has no `{name}`"
            for name, reader in self._all.items()
            for index, key in enumerate(self._keys)
            if not reader.has(key)
        }
        for index in sorted({*self.spread(MAX_CHECKED)} - set(bad)):
            if reason := self._misfit(index):
                bad[index] = reason
        if bad:
            rows = [f"  `{self.label(index)}` {bad[index]}" for index in sorted(bad)[:_SHOWN]]
            rows += [f"  and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
            raise DataError(
                "\n".join([f"{len(bad)} of {len(self)} images do not fit their conditions:", *rows]),
                hint="a condition has the path of its image, with any ending, and its height and width",
            )

    def _misfit(self, index: int) -> str:
        try:
            size = self.size(index)
        except DataError:
            return ""  # the loader reports it
        for name, reader in self._all.items():
            try:
                reader.check(self._keys[index], size)
            except DataError as error:
                hint = f" ({error.hint})" if error.hint else ""
                return f"does not fit its `{name}`: {error.message}{hint}"
        return ""


def with_conditions(
    source: Source, paths: Mapping[str, str], kinds: Mapping[str, ConditionKind], config: object = None
) -> Source:
    """The images with the conditions at these paths, checked; the images alone if there are none.

    Without a path, a condition is that which the data set brings that ``config`` describes.

    Raises:
        ConfigError: If a path is given for what takes no files.
        DataError: If a condition cannot be read, or does not fit the images.
    """
    unknown = sorted(set(paths) - set(kinds))
    require(
        not unknown,
        f"the condition `{unknown[0] if unknown else ''}` takes no files",
        hint="conditions that do: " + (", ".join(f"`{name}`" for name in kinds) or "none of this run"),
    )
    own = {"class": source.class_names, "text": source.captions}
    beside = {name: path for name, path in paths.items() if path or not own.get(name)}
    if not beside:
        return source
    readers = {name: open_reader(name, path, kinds[name], config) for name, path in beside.items()}
    whole = Conditioned(source, readers)
    whole.check_pairs()
    return whole
