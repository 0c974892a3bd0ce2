"""Published data sets by name, in the folders that their archives unpack to. Places and shifts are the original's."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from vqgan.config import Config
from vqgan.data.boxes import BOXES
from vqgan.data.image_files import FileSource, read_lines
from vqgan.errors import DataError, closest, printable, require
from vqgan.images import list_images


class Facts(NamedTuple):
    """What distinguishes a data set.

    Attributes:
        folders: Of images, all of them; the last is held out. Maps have the same folders and names.
        roots: Where these may be.
        maps: Where those of maps may be, by the name of the condition.
        shift: What is added to labels, modulo 256.
        lists: Files that name what is held out, in place of a folder; without them a share is.
        classes: What finds the class in a path.
        tables: Files with two words in each line: an image and its class, or a class and what it is.
    """

    folders: tuple[str, ...]
    roots: tuple[str, ...] = ("",)
    maps: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    shift: int = 0
    lists: tuple[str, ...] = ()
    classes: str = "()"
    tables: tuple[str, ...] = ()


_STUFF = ("stuffthingmaps", "cocostuffthings", "../cocostuffthings", "annotations")
_DEPTH = ("depth", "imagenet_depth", "../imagenet_depth")
_TABLES = ("LOC_val_solution.csv", "validation_synset.txt", "LOC_synset_mapping.txt", "synset_human.txt")
_ROW = re.compile(r"(\w+)(?:\.JPEG)?[\s,]+(n\d{8}|[^,]+)")

_ADE20K = Facts(("training", "validation"), ("images",), {"segmentation": ("annotations",)})
_IMAGENET = Facts(("train", "val"), ("", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC"), {"depth": _DEPTH})
_FACES = ("celebahqvalidation.txt", "ffhqvalidation.txt")

DATASETS = {
    "ade20k": _ADE20K._replace(tables=("sceneCategories.txt",)),
    # Its files count labels from 0, and 255 is unlabelled: it becomes 0.
    "coco": Facts(("train2017", "val2017"), ("", "images"), {"segmentation": _STUFF}, shift=1),
    "faceshq": Facts(("celebahq", "ffhq"), lists=_FACES, classes="^(celebahq|ffhq)/"),
    "imagenet": _IMAGENET._replace(classes=r"/(n\d{8})/", tables=_TABLES),
    "openimages": Facts(("train", "validation")),
    "sflckr": Facts(("",), ("sflckr_images",), {"segmentation": ("sflckr_segmentations",)}),
}


class DatasetConfig(Config, frozen=True, tag_field="kind", tag="dataset"):
    """A published data set.

    Attributes:
        name: `ade20k`, `coco`, `faceshq`, `imagenet`, `openimages` or `sflckr`.
        path: Its folder.
        maps: The condition whose maps are read in place of the images, to train a tokenizer of them.
    """

    name: str
    path: str
    maps: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        hint = closest(self.name, DATASETS)
        require(self.name in DATASETS, f"unknown data set `{self.name}`", hint=hint)
        hint, known = closest(self.maps, self.facts.maps), ("", *self.facts.maps)
        require(self.maps in known, f"the data set `{self.name}` has no maps `{self.maps}`", hint=hint)

    @property
    def facts(self) -> Facts:
        """What distinguishes it."""
        return DATASETS[self.name]

    @property
    def folder(self) -> Path:
        """Its folder."""
        return Path(self.path).expanduser()

    @property
    def conditions(self) -> tuple[str, ...]:
        """What lies beside the images."""
        return (*self.facts.maps, *["layout"] * (self.name in BOXES))

    def root(self, maps: str) -> Path:
        """Where the folders of images are, or those of maps. Raises DataError if one of them is missing."""
        roots = [self.folder / each for each in (self.facts.maps[maps] if maps else self.facts.roots)]
        for root in roots:
            if all((root / each).is_dir() for each in self.facts.folders):
                return root
        places = (
            " and ".join(f"`{printable(root / each)}`" for each in self.facts.folders) for root in roots
        )
        hint = "unpack the archives of the data set there, or link its folders"
        what = f"`{self.name}` lacks its {maps or 'images'}, expected {' or '.join(places)}"
        raise DataError(what, hint=hint)


def open_dataset(config: DatasetConfig) -> FileSource:
    """Lists the images with their classes, or the maps that are read in their place.

    Raises:
        DataError: If a folder is missing or empty, or a list cannot be read.
    """
    facts, root = config.facts, config.root(config.maps)
    found = ((folder, path) for folder in facts.folders for path in list_images(root / folder))
    paths = [Path(folder, path).as_posix() for folder, path in found]
    classes = [] if config.maps else _classes(config, paths)
    heldout = "" if facts.lists else facts.folders[-1]
    source = FileSource(name=printable(root), root=root, paths=paths, classes=classes, heldout_folder=heldout)
    source.shift = facts.shift
    lists = [config.folder / each for each in facts.lists]
    if any(each.exists() for each in lists):
        names = {line.strip() for each in lists for line in read_lines(each)}
        source.held_out = np.array([Path(path).name in names for path in paths])
    return source


def _classes(config: DatasetConfig, paths: list[str]) -> list[str]:
    """The class of each image, by its path or a table, and what it is; none if those of some are unknown."""
    files = [file for each in config.facts.tables if (file := config.folder / each).is_file()]
    rows = (_ROW.match(line) for file in files for line in read_lines(file))
    told = {row[1]: row[2].strip() for row in rows if row}
    found = (re.search(config.facts.classes, path) for path in paths)
    names = [
        (each and each[1]) or told.get(Path(path).stem, "") for each, path in zip(found, paths, strict=True)
    ]
    return [f"{name} {told.get(name, '')}".strip() for name in names] if all(names) else []


def dataset_with(condition: str, config: object) -> DatasetConfig:
    """The data set that brings a condition. Raises DataError if it does not, or the images are no data set."""
    if isinstance(config, DatasetConfig) and condition in config.conditions:
        return config
    tables = config.facts.tables[:1] if isinstance(config, DatasetConfig) and condition == "class" else ()
    expected = "".join(f": there is no `{each}`, or it lacks some" for each in tables)
    hint = f"say where it is: `--condition {condition}=PATH`"
    raise DataError(f"the images come without a `{condition}`{expected}", hint=hint)
