"""The boxes of COCO and of Open Images, filtered and numbered as the original does."""

import csv
import hashlib
import json
import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from operator import itemgetter
from pathlib import Path

import numpy as np

from vqgan.data.condition_reader import ConditionReader, key_of
from vqgan.data.layouts import in_order
from vqgan.errors import DataError, printable
from vqgan.layout import Layout, SceneObject

logger = logging.getLogger(__name__)

MAX_OBJECTS = 30  # of an image, unless the condition says something else
_COLUMNS = ("ImageID", "LabelName", "XMin", "YMin", "XMax", "YMax")
_FLAGS = {
    "IsGroupOf": "is_group",
    "IsOccluded": "is_occluded",
    "IsDepiction": "is_depiction",
    "IsInside": "is_inside",
}

Row = tuple[str, int, tuple[float, ...], int]
"""The key of an image; of an object the class, left, top, right and bottom (shares), and flags as bits."""


class BoxTable(ConditionReader):
    """Boxes of images, millions if need be, cut at the borders of the picture; without boxes a layout is empty.

    Args:
        rows: The boxes of all images.
        class_ids: The ids of the classes in the annotations, as texts, by number.
        max_objects: Of an image with more boxes the largest are taken; None takes all.
        num_flags: How many flags of an object matter: none, whether it is a group, or all four.
        least: Boxes with a smaller share of the picture are left out.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        class_ids: Sequence[str],
        *,
        max_objects: int | None,
        num_flags: int,
        least: float,
    ) -> None:
        self.class_ids, self.num_classes = tuple(class_ids), len(class_ids)
        self.num_flags, self._max_objects = num_flags, max_objects
        self._values: dict[str, array[float]] = {}
        for key, class_number, sides, flags in rows:
            if (sides[2] - sides[0]) * (sides[3] - sides[1]) >= least:
                if key not in self._values:
                    self._values[key] = array("d")
                self._values[key].extend((*sides, class_number, flags))

    @property
    def most_objects(self) -> int:
        """Objects of the image that has the most."""
        most = max((len(each) // 6 for each in self._values.values()), default=0)
        return most if self._max_objects is None else min(most, self._max_objects)

    def read(self, key: str) -> Layout:
        """The layout of an image; it may be empty."""
        rows = np.array(self._values.get(key, ())).reshape(-1, 6)
        rows[:, :4] = rows[:, :4].clip(0, 1)
        rows[:, 2:4] = (rows[:, 2:4] - rows[:, :2]).clip(0)
        largest = np.argsort(-rows[:, 2] * rows[:, 3], kind="stable")[: self._max_objects]
        objects = []
        for *box, number, bits in rows[np.sort(largest)].tolist():
            flags = {name: bool(int(bits) >> i & 1) for i, name in enumerate(_FLAGS.values())}
            objects.append(SceneObject(class_number=int(number), box=tuple(box), **flags))
        return Layout(objects=tuple(objects))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all boxes."""
        digest = hashlib.sha256(repr((self.num_classes, self._max_objects)).encode())
        for key, values in sorted(self._values.items()):
            digest.update(f"{key}\0".encode("utf-8", "replace") + values.tobytes())
        return digest.hexdigest()


def open_boxes(name: str, folder: Path, max_objects: int) -> BoxTable:
    """The boxes of a data set in its folder. Raises DataError if a file is missing or cannot be used."""
    read, num_flags, least = BOXES[name]
    logger.info("reading the boxes in `%s`", printable(folder))
    try:
        ids, rows = read(folder)
        return BoxTable(rows, ids, max_objects=max_objects, num_flags=num_flags, least=least)
    except (OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, csv.Error) as error:
        missing = repr(error.filename) if isinstance(error, FileNotFoundError) else error
        is_missing = isinstance(error, FileNotFoundError | KeyError)
        reason = printable(f"there is no {missing}" if is_missing else error)
        hint = "unpack the annotations of the data set there"
        raise DataError(f"the layouts `{printable(folder)}` cannot be used: {reason}", hint=hint) from None


def _coco(folder: Path) -> tuple[list[str], Iterator[Row]]:
    """Things and stuff without `other`; classes in the order of their ids as texts: 1, 10, 100, 101, ..."""

    def rows() -> Iterator[Row]:
        for part in ("train2017", "val2017"):
            for file in (folder / "annotations" / f"{kind}_{part}.json" for kind in kinds):
                whole = json.loads(file.read_text("utf-8"))
                images = {each["id"]: each for each in whole["images"]}
                for each in whole["annotations"]:
                    if (number := numbers.get(each["category_id"])) is not None:
                        image, (left, top, width, height) = images[each["image_id"]], each["bbox"]
                        across, down = image["width"], image["height"]
                        sides = (left / across, top / down, (left + width) / across, (top + height) / down)
                        yield key_of(f"{part}/{image['file_name']}"), number, sides, int(each["iscrowd"])
                del whole, images  # before the next file is read: each takes gigabytes

    kinds, categories = ("instances", "stuff"), []
    for kind in kinds:
        file = folder / "annotations" / f"{kind}_val2017.json"
        categories += json.loads(file.read_text("utf-8"))["categories"]
    names = sorted({each["id"] for each in categories if each["name"] != "other"}, key=str)
    numbers = {name: number for number, name in enumerate(names)}
    return [str(name) for name in names], rows()


def _open_images(folder: Path) -> tuple[list[str], Iterator[Row]]:
    """The classes that are described, in the order of their ids, a suitcase last; a flag of -1 counts as 0."""

    def table(ending: str) -> Iterator[list[str]]:
        file = min(folder.glob(f"*{ending}"), default=folder / ending)  # some begin with the version
        with file.open(encoding="utf-8", newline="") as text:
            yield from csv.reader(text)

    def rows() -> Iterator[Row]:
        for part in ("train", "validation"):
            lines = table(f"{part}-annotations-bbox.csv")
            chosen = itemgetter(*map(next(lines, []).index, (*_COLUMNS, *_FLAGS)))
            for image, category, left, top, right, bottom, *told in map(chosen, lines):
                if category in numbers:
                    sides = (float(left), float(top), float(right), float(bottom))
                    flags = sum([(each == "1") << bit for bit, each in enumerate(told)])
                    yield f"{part}/{image:0>16}", numbers[category], sides, flags

    names = in_order({row[0] for row in table("class-descriptions-boxable.csv") if row[0].startswith("/")})
    numbers = {name: number for number, name in enumerate(names)}
    return names, rows()


BOXES = {"coco": (_coco, 1, 1e-5), "openimages": (_open_images, 4, 1e-4)}
"""How they are read, how many flags they tell, and which share of the picture is the smallest."""
