"""Conditions that lie beside the images: classes, captions, maps, poses and layouts, found by the images' paths."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from vqgan.data.boxes import MAX_OBJECTS, BoxTable, open_boxes
from vqgan.data.captions import Captions
from vqgan.data.class_table import ClassTable
from vqgan.data.condition_reader import ConditionReader, key_of
from vqgan.data.datasets import dataset_with
from vqgan.data.layouts import LayoutFile
from vqgan.data.maps import MapFolder
from vqgan.data.poses import PoseFile
from vqgan.data.source import Item, Source
from vqgan.errors import DataError, require

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
        num_classes: How many classes the condition knows.
        max_objects: How many objects fit.
        class_ids: The ids of the classes, if their order is another.
    """

    num_classes: int
    max_objects: int
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
    def of(cls, name: str, channels: int) -> "Maps":
        """What a tokenizer of this number of channels reads: labels if they are called so, or if it is no picture's."""
        what = f"the tokenizer of `pose` has {channels} channels, expected 3"
        hint = "give `--condition-tokenizer pose=RUN`, trained on drawings in colour"
        require(name != "pose" or channels == 3, what, hint=hint)
        has_labels = name == "segmentation" or channels not in (1, 3, 4)
        return cls(channels, channels if has_labels else 0, stretch=name == "depth" and channels == 1)


ConditionKind = Classes | Layouts | Maps | Texts
"""What a condition expects of the files beside the images."""


def open_layouts(
    path: str, config: object, max_objects: int | None = None, class_ids: tuple[str, ...] = ()
) -> LayoutFile | BoxTable:
    """The layouts of a file, or without a path those of the data set. Raises DataError if they cannot be used."""
    if path:
        return LayoutFile(path, max_objects=max_objects, class_ids=class_ids)
    dataset = dataset_with("layout", config)
    return open_boxes(dataset.name, dataset.folder, max_objects or MAX_OBJECTS)


def open_reader(name: str, path: str, kind: ConditionKind, config: object) -> ConditionReader:
    """The reader of one condition; without a path, of that which the data set brings.

    Raises:
        DataError: If there is nothing at the path that it can read, or the classes are not those of the condition.
    """
    if isinstance(kind, Classes):
        return ClassTable(path or dataset_with(name, config).path)
    if isinstance(kind, Texts):
        return Captions(path or dataset_with(name, config).path)
    if name == "pose" and path.lower().endswith(".json"):
        return PoseFile(path)
    if isinstance(kind, Maps):
        dataset = None if path else dataset_with(name, config)
        root, shift = (str(dataset.root(name)), dataset.facts.shift) if dataset else (path, 0)
        return MapFolder(root, channels=kind.channels, labels=kind.labels, stretch=kind.stretch, shift=shift)
    layouts = open_layouts(path, config, kind.max_objects, kind.class_ids)
    if layouts.num_classes != kind.num_classes:
        raise DataError(
            f"`{path or name}` has {layouts.num_classes} categories, the condition {kind.num_classes} classes",
            hint="give layouts of the same categories",
        )
    return layouts


class Conditioned(Source):
    """Images with the conditions that lie beside them; classes and captions there replace the images' own.

    Args:
        source: The images.
        readers: The conditions by name.
    """

    def __init__(self, source: Source, readers: Mapping[str, ConditionReader]) -> None:
        self._source, self._all, self._readers = source, dict(readers), dict(readers)
        self._keys = [key_of(os.fsdecode(key)) for key in source.keys()]  # noqa: SIM118 (no mapping)
        self.name, self.held_out, self.max_checked = source.name, source.held_out, source.max_checked
        classes, captions = self._readers.pop("class", None), self._readers.pop("text", None)
        self.captions = source.captions
        if captions is not None:  # `check_pairs` refuses images without one
            self.captions = [captions.read(key) if captions.has(key) else () for key in self._keys]
        self._classes, self.class_names = classes, classes.class_names if classes else source.class_names
        self.names_of = {name: each.class_names for name, each in self._readers.items() if each.class_names}
        self.steps = source.steps

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """The image in its own size, so that its maps have the same, with its conditions.

        Raises:
            DataError: If one of them is missing or cannot be read.
        """
        key, smallest = self._keys[index], None if self._readers else smallest_side
        item = self._source.read(index, channels, smallest)
        for name, reader in (("class", self._classes), *self._readers.items()):
            if reader is not None and not reader.has(key):
                raise DataError(f"it has no `{name}`")
        class_index = item.class_index if self._classes is None else self._classes.read(key)
        values = {name: reader.read(key) for name, reader in self._readers.items()}
        return Item(item.pixels, class_index, {**item.condition, **values})

    def check(self, index: int, channels: int) -> int:
        """Checks the image alone; :meth:`check_pairs` checks the rest."""
        return self._source.check(index, channels)

    def size(self, index: int) -> tuple[int, int]:
        """That of the image."""
        return self._source.size(index)

    def label(self, index: int) -> str:
        """That of the image."""
        return self._source.label(index)

    def keys(self) -> list[bytes]:
        """Those of the images."""
        return self._source.keys()

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
        bad: dict[int, str] = {}
        for name, reader in self._all.items():
            for index, key in enumerate(self._keys):
                if not reader.has(key):
                    bad.setdefault(index, f"has no `{name}`")
        count = min(len(self), MAX_CHECKED)
        for index in sorted({number * len(self) // count for number in range(count)} - set(bad)):
            reason = self._misfit(index)
            if reason:
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
            size = self._source.size(index)
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
    beside = {name: path for name, path in paths.items() if path or name != "class" or not source.class_names}
    if not beside:
        return source
    readers = {name: open_reader(name, path, kinds[name], config) for name, path in beside.items()}
    whole = Conditioned(source, readers)
    whole.check_pairs()
    return whole
