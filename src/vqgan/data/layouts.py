"""JSON files as COCO and many tools write them: images, annotations and categories; and the layouts in them."""

import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vqgan.data.condition_reader import InMemory, key_of, read_lines
from vqgan.errors import DataError, VqganError, printable
from vqgan.layout import Layout, SceneObject

_LAST = "/m/01s55n"
"""A category of Open Images that the original puts behind all others."""

_FLAGS = ("is_group", "is_occluded", "is_depiction", "is_inside")

Row = tuple[float, float, float, float, int, int]
"""Of an object left, top, right and bottom (shares of the picture), class, and flags as bits."""


def in_order(ids: Iterable[Any]) -> list[Any]:
    """Ids of categories in the order of their classes: sorted, that of a suitcase last."""
    return sorted(ids, key=lambda each: (each == _LAST, each))


class AnnotationFile(InMemory):
    """What a file tells of its images; messages call it ``what``, and say that the file has ``needed``."""

    what: ClassVar[str]
    needed: ClassVar[str]
    keys: frozenset[str]

    def __init__(self, path: str) -> None:
        whole = read_json(path)
        try:
            sizes = {each["id"]: (int(each["height"]), int(each["width"])) for each in whole["images"]}
            if any(min(size) < 1 for size in sizes.values()):
                raise DataError("an image has no pixels")
            for name, ids in (("image", sizes), ("category", {each["id"] for each in whole["categories"]})):
                if lost := {each[f"{name}_id"] for each in whole["annotations"]} - {*ids}:
                    raise DataError(
                        f"an annotation has the `{name}_id` {min(lost, key=str)}, which does not exist"
                    )
            values = self._values(whole, sizes)
            keys = {key_of(str(each["file_name"])): each["id"] for each in whole["images"]}
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, VqganError) as error:
            reason = f"there is no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            what = f"the {self.what} `{printable(path)}` cannot be used: {printable(reason)}"
            hint = f"it needs `images`, {self.needed}, as COCO has them"
            raise DataError(what, hint=hint) from None
        self._sizes = {key: sizes[number] for key, number in keys.items()}
        self._found = {key: values[number] for key, number in keys.items()}
        self.keys = frozenset(keys)

    @abstractmethod
    def _values(self, whole: Any, sizes: dict[Any, tuple[int, int]]) -> dict[Any, Any]:
        """The value of each image, by the number that it and its size have in the file."""

    def check(self, key: str, size: tuple[int, int]) -> None:
        """Compares the size that the file tells."""
        rows, columns = self._sizes[key]
        if (rows, columns) != size:
            raise DataError(f"it is for {rows}x{columns} pixels, the image has {size[0]}x{size[1]}")


class LayoutFile(AnnotationFile):
    """The boxes of all images in one file.

    Read are ``images`` (``id``, ``file_name``, ``width``, ``height``), ``annotations`` (``image_id``, ``category_id``,
    ``bbox``: left, top, width and height in pixels, and ``iscrowd``: several objects) and ``categories`` (``id``). A
    class's number is the place of its category in the order of their ids, of which that of a suitcase comes last.

    Args:
        path: The file.
        max_objects: Of an image with more boxes the largest are taken; None takes all.
        class_ids: The ids in the order of the classes, if that is another; boxes of other categories are left out.

    Attributes:
        num_classes: How many categories there are.
        class_ids: The ids as given; none if their order is the plain one.

    Raises:
        DataError: If the file cannot be read, or lacks one of these, or has a box of an unknown image or category.
    """

    what, needed = "layouts", "`annotations` with a `bbox`, and `categories`"

    def __init__(self, path: str, *, max_objects: int | None = None, class_ids: Sequence[str] = ()) -> None:
        self._max_objects, self.class_ids = max_objects, tuple(class_ids)
        super().__init__(path)

    def _values(self, whole: Any, sizes: dict[Any, tuple[int, int]]) -> dict[Any, Layout]:
        given, ids = self.class_ids, in_order(part["id"] for part in whole["categories"])
        of_id = {each: number for number, each in enumerate(given or ids)}
        numbers = {each: of_id.get(str(each) if given else each) for each in ids}
        if {*numbers.values()} <= {None}:
            shown = ", ".join(map(str, ids[:5]))
            raise DataError(
                f"its categories are no classes of the prior: {shown}" if ids else "it has no categories"
            )
        self.num_classes, rows = len(of_id), {of: list[float]() for of in sizes}
        for each in whole["annotations"]:
            of, number = each["image_id"], numbers[each["category_id"]]
            if number is not None:
                rows[of] += (*sides_of(each["bbox"], sizes[of]), number, bool(each.get("iscrowd", False)))
        return {of: layout_of(found, self._max_objects) for of, found in rows.items()}

    @property
    def most_objects(self) -> int:
        """Objects of the image that has the most."""
        return max((len(each.objects) for each in self._found.values()), default=0)


def sides_of(bbox: Any, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of COCO's ``bbox`` as shares of a picture of this height and width.

    Example:
        >>> sides_of([8, 0, 16, 4], (8, 32))
        (0.25, 0.0, 0.75, 0.5)
    """
    left, top, width, height = bbox
    return left / size[1], top / size[0], (left + width) / size[1], (top + height) / size[0]


def layout_of(rows: Any, max_objects: int | None) -> Layout:
    """The objects of an image, in their order, cut at its borders.

    Args:
        rows: A :data:`Row` for each, one after the other.
        max_objects: Of more, the largest are taken; None takes all.
    """
    values = np.array(rows).reshape(-1, 6)
    starts = values[:, :2].clip(0, 1)
    extents = (values[:, 2:4].clip(0, 1) - starts).clip(0)
    largest = np.argsort(-extents.prod(axis=1), kind="stable")[:max_objects]
    objects = []
    for *box, number, bits in np.hstack([starts, extents, values[:, 4:]])[np.sort(largest)].tolist():
        flags = {name: bool(int(bits) >> bit & 1) for bit, name in enumerate(_FLAGS)}
        objects.append(SceneObject(class_number=int(number), box=tuple(box), **flags))
    return Layout(objects=tuple(objects))


def read_json(path: str) -> Any:
    """The object that a JSON file holds.

    Raises:
        DataError: If it cannot be read, or holds something else.
    """
    try:
        whole, reason = json.loads("".join(read_lines(Path(path), "file"))), "it holds no object, `{...}`"
    except (ValueError, RecursionError):
        whole, reason = None, "it is not JSON"
    if not isinstance(whole, dict):
        raise DataError(f"cannot read the file `{printable(path)}`: {reason}", hint="check the path")
    return whole
