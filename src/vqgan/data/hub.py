"""Data sets of Hugging Face: saved on disk, or by their name on the hub. None of their code is run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqgan.config import Config
from vqgan.data.given import Items
from vqgan.data.image_files import HELD_OUT_FOLDERS, TRAIN_FOLDER, PackedSource
from vqgan.errors import ConfigError, DataError, closest, needing, printable, require
from vqgan.images.reading import Embedded, File


class HubConfig(Config, frozen=True, tag_field="kind", tag="hf"):
    """A data set of Hugging Face with a column of images.

    Attributes:
        path: A folder that ``save_to_disk`` wrote, one of Parquet files, or a name on the hub.
        subset: Which of several subsets (configurations).
        split: The one split to use. By default ``train`` is trained on, and the first of ``val``, ``valid``,
            ``validation`` and ``test`` is held out.
        image: The column of images; by default the only one of this type, or that of this name.
        classes: The column of classes; by default ``class``, ``label`` or ``labels``, if there is one.
        captions: That of captions, one or a list for each image; by default ``text``, ``caption`` or ``captions``.
    """

    path: str
    subset: str = ""
    split: str = ""
    image: str = ""
    classes: str = ""
    captions: str = ""


class HubSource(PackedSource):
    """The images of a table, whose keys are their numbers. ``rows`` are the images, each with its bytes or its path."""

    rows: Items

    def _open(self, index: int) -> File:
        ((_, image),) = self.rows[index].items()
        if image and image.get("path") and image.get("bytes") is None:
            return Path(image["path"])
        return Embedded(self.label(index), (image or {}).get("bytes") or b"")


def open_hub(config: HubConfig) -> HubSource:
    """Opens the table, which stays on disk, and reads its classes and captions.

    Raises:
        ConfigError: If ``datasets`` is not installed, or a column or split is not there.
        DataError: If the data set cannot be opened.
    """
    name = f"hf:{printable(config.path)}"
    with needing("datasets", f"the data source `{name}`", "data"):
        import datasets
    try:
        parts = _splits(name, config)
        features = parts[0].features
        images = [each for each, kind in features.items() if isinstance(kind, datasets.Image)]
        image = _column(config.image, images if len(images) == 1 else ("image",), images)
        what = f"`{name}` has {len(images)} columns of images, and none is called `image`"
        require(image != "", what, hint=f"give `data.source.image`; {closest('', features)}")
        classes = _column(config.classes, ("class", "label", "labels"), features)
        captions = _column(config.captions, ("text", "caption", "captions"), features)
        used = [*dict.fromkeys(filter(None, (image, classes, captions)))]
        plain = [part.with_format(None).select_columns(used) for part in parts]
        whole = datasets.concatenate_datasets(plain).cast_column(image, datasets.Image(decode=False))
        if not len(whole):
            raise ValueError("it holds no images")
        known = dict(enumerate(getattr(features.get(classes), "names", None) or ()))
        labels = [_label(each, known) for each in whole[classes]] if classes else [""] * len(whole)
        texts = [_said(each) for each in whole[captions]] if captions else [()] * len(whole)
        keys = [*map(str, range(len(whole)))]
        source = HubSource(name=name, keys=keys, classes=labels, captions=texts)
    except (ConfigError, MemoryError):
        raise
    except Exception as error:
        hint = "give a folder of `save_to_disk` or of Parquet files, or a name on huggingface.co"
        raise DataError(f"cannot open `{name}`: {printable(error)}", hint=hint) from None
    source.rows = whole.select_columns([image])
    if len(plain) > 1:
        source.held_out = np.arange(len(whole)) >= len(plain[0])
    return source


def _splits(name: str, config: HubConfig) -> list[Any]:
    """The splits that are used: the one that is named, or that to train on and the held-out one."""
    import datasets

    folder = Path(config.path).expanduser()
    if any((folder / each).is_file() for each in ("dataset_dict.json", "state.json")):
        found = datasets.load_from_disk(str(folder))
    else:
        place = str(folder) if folder.is_dir() else config.path
        found = datasets.load_dataset(place, config.subset or None)
    splits = dict(found) if isinstance(found, Mapping) else {TRAIN_FOLDER: found}
    first = config.split or (TRAIN_FOLDER if len(splits) > 1 else next(iter(splits)))
    hint = f"give `data.source.split`; {closest(first, splits)}"
    require(first in splits, f"`{name}` has no split `{printable(first)}`", hint=hint)
    held_out = [] if config.split else [each for each in HELD_OUT_FOLDERS if each in splits and each != first]
    return [splits[each] for each in (first, *held_out[:1])]


def _column(given: str, usual: Sequence[str], known: Iterable[str]) -> str:
    """The column that is named, else the first of the usual ones that is there, else none."""
    there = [*known]
    require(
        not given or given in there, f"there is no column `{printable(given)}`", hint=closest(given, there)
    )
    return given or next((each for each in usual if each in there), "")


def _label(value: Any, known: Mapping[Any, str]) -> str:
    """The name of a class, by the names of numbers if there are such; none where it is not known."""
    return known.get(value, "") if known else "" if value is None else str(value).strip()


def _said(value: Any) -> tuple[str, ...]:
    """The captions of an image: a text or a list of such."""
    texts = value if isinstance(value, list | tuple) else [value]
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
