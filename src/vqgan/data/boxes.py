"""The boxes of COCO and of Open Images, filtered and numbered as the original does."""

import csv
import hashlib
import json
import logging
from array import array
from collections.abc import Iterator
from functools import cached_property
from operator import itemgetter
from pathlib import Path

from vqgan.data.condition_reader import ConditionReader, key_of
from vqgan.data.layouts import Row, in_order, layout_of, sides_of
from vqgan.errors import DataError, printable
from vqgan.layout import Layout

logger = logging.getLogger(__name__)

MAX_OBJECTS = 30  # of an image, unless the condition says something else
_COLUMNS = ("ImageID", "LabelName", "XMin", "YMin", "XMax", "YMax")
_FLAGS = ("IsGroupOf", "IsOccluded", "IsDepiction", "IsInside")


class BoxTable(ConditionReader):
    """The boxes of a data set, millions if need be; without boxes a layout is empty.

    Args:
        name: Of the data set.
        folder: Where it is.
        max_objects: Of an image with more boxes the largest are taken; 0 reads the classes alone, which is faster.

    Attributes:
        class_ids: The ids of the classes in the annotations, as texts, by number.
        num_classes: How many there are.
        num_flags: How many flags of an object matter: whether it is a group, or all four.
        most_objects: Objects of an image.

    Raises:
        DataError: If a file is missing or cannot be used.
    """

    def __init__(self, name: str, folder: Path, *, max_objects: int) -> None:
        read, self.num_flags, least = BOXES[name]
        self.most_objects = max_objects or MAX_OBJECTS
        self._values: dict[str, array[float]] = {}
        try:
            ids, rows = read(folder)
            self.class_ids, self.num_classes = tuple(ids), len(ids)
            if max_objects:
                logger.info("reading the boxes in `%s`", printable(folder))
            for key, row in rows if max_objects else ():
                if (row[2] - row[0]) * (row[3] - row[1]) >= least:
                    self._values.setdefault(key, array("d")).extend(row)
        except (
            OSError,
            LookupError,
            TypeError,
            ValueError,
            ArithmeticError,
            AttributeError,
            csv.Error,
        ) as error:
            missing = repr(error.filename) if isinstance(error, FileNotFoundError) else error
            is_missing = isinstance(error, FileNotFoundError | KeyError)
            reason = printable(f"there is no {missing}" if is_missing else error)
            hint = "unpack the annotations of the data set there"
            raise DataError(
                f"the layouts `{printable(folder)}` cannot be used: {reason}", hint=hint
            ) from None

    def read(self, key: str) -> Layout:
        """The layout of an image; it may be empty."""
        return layout_of(self._values.get(key, ()), self.most_objects)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all boxes."""
        digest = hashlib.sha256(repr((self.num_classes, self.most_objects)).encode())
        for key, values in sorted(self._values.items()):
            digest.update(f"{key}\0".encode("utf-8", "replace") + values.tobytes())
        return digest.hexdigest()


def _coco(folder: Path) -> tuple[list[str], Iterator[tuple[str, Row]]]:
    """Things and stuff without `other`; classes in the order of their ids as texts: 1, 10, 100, 101, ..."""

    def rows() -> Iterator[tuple[str, Row]]:
        for part in ("train2017", "val2017"):
            for file in (folder / "annotations" / f"{kind}_{part}.json" for kind in kinds):
                whole = json.loads(file.read_text("utf-8"))
                images = {each["id"]: each for each in whole["images"]}
                for each in whole["annotations"]:
                    if (number := numbers.get(each["category_id"])) is not None:
                        image = images[each["image_id"]]
                        sides = sides_of(each["bbox"], (image["height"], image["width"]))
                        yield key_of(f"{part}/{image['file_name']}"), (*sides, number, int(each["iscrowd"]))
                del whole, images  # before the next file is read: each takes gigabytes

    kinds, categories = ("instances", "stuff"), []
    for kind in kinds:
        file = folder / "annotations" / f"{kind}_val2017.json"
        categories += json.loads(file.read_text("utf-8"))["categories"]
    names = sorted({each["id"] for each in categories if each["name"] != "other"}, key=str)
    numbers = {name: number for number, name in enumerate(names)}
    return [str(name) for name in names], rows()


def _open_images(folder: Path) -> tuple[list[str], Iterator[tuple[str, Row]]]:
    """The classes that are described, in the order of their ids, a suitcase last; a flag of -1 counts as 0."""

    def table(ending: str) -> Iterator[list[str]]:
        file = min(folder.glob(f"*{ending}"), default=folder / ending)  # some begin with the version
        with file.open(encoding="utf-8", newline="") as text:
            yield from csv.reader(text)

    def rows() -> Iterator[tuple[str, Row]]:
        for part in ("train", "validation"):
            lines = table(f"{part}-annotations-bbox.csv")
            chosen = itemgetter(*map(next(lines, []).index, (*_COLUMNS, *_FLAGS)))
            for image, category, left, top, right, bottom, *told in map(chosen, lines):
                if category in numbers:
                    flags = sum([(each == "1") << bit for bit, each in enumerate(told)])
                    sides = (float(left), float(top), float(right), float(bottom))
                    yield f"{part}/{image:0>16}", (*sides, numbers[category], flags)

    names = in_order({row[0] for row in table("class-descriptions-boxable.csv") if row[0].startswith("/")})
    numbers = {name: number for number, name in enumerate(names)}
    return names, rows()


BOXES = {"coco": (_coco, 1, 1e-5), "openimages": (_open_images, 4, 1e-4)}
"""How they are read, how many flags they tell, and which share of the picture is the smallest."""
