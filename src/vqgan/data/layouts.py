"""JSON files as COCO and many tools write them: images, annotations and categories; and the layouts in them."""

import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vqgan.data.condition_reader import InMemory, key_of
from vqgan.errors import DataError, VqganError, printable, reason_of
from vqgan.layout import Layout, SceneObject

_LAST = "/m/01s55n"
"""A category of Open Images that the original puts behind all others."""


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
        num_flags: How many flags of an object matter: none, whether it is a group, or all four.

    Raises:
        DataError: If the file cannot be read, or lacks one of these, or has a box of an unknown image or category.
    """

    what, needed = "layouts", "`annotations` with a `bbox`, and `categories`"
    num_flags = 0

    def __init__(self, path: str, *, max_objects: int | None = None, class_ids: Sequence[str] = ()) -> None:
        self._max_objects, self.class_ids = max_objects, tuple(class_ids)
        super().__init__(path)

    def _values(self, whole: Any, sizes: dict[Any, tuple[int, int]]) -> dict[Any, Layout]:
        ids = in_order(part["id"] for part in whole["categories"])
        given = self.class_ids
        of_id = {each: i for i, each in enumerate(given or ids)}
        numbers = {each: of_id[key] for each in ids if (key := str(each) if given else each) in of_id}
        others = {*ids} - {*numbers}
        if others and not numbers:
            raise DataError(f"its categories are no classes of the prior: {', '.join(map(str, ids[:5]))}")
        self.num_classes, boxes = len(of_id), {of: list[SceneObject]() for of in sizes}
        for each in whole["annotations"]:
            of, category = each["image_id"], each["category_id"]
            if category not in others:
                boxes[of].append(_object(each, numbers[category], sizes[of]))
        return {of: Layout(objects=_largest(found, self._max_objects)) for of, found in boxes.items()}

    @property
    def most_objects(self) -> int:
        """Objects of the image that has the most."""
        return max((len(each.objects) for each in self._found.values()), default=0)


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is not JSON"
        raise DataError(f"cannot read `{printable(path)}`: {reason}", hint="check the path") from None


def _object(annotation: dict[str, Any], number: int, size: tuple[int, int]) -> SceneObject:
    """An annotation, with its box cut at the borders of the picture."""
    left, top, width, height = (float(each) for each in annotation["bbox"])
    shares = (left / size[1], top / size[0], (left + width) / size[1], (top + height) / size[0])
    x, y, right, bottom = (min(max(share, 0.0), 1.0) for share in shares)
    group = bool(annotation.get("iscrowd", False))
    return SceneObject(
        class_number=number, box=(x, y, max(0.0, right - x), max(0.0, bottom - y)), is_group=group
    )


def _largest(objects: list[SceneObject], count: int | None) -> tuple[SceneObject, ...]:
    """The largest objects, in the given order."""
    kept = sorted(range(len(objects)), key=lambda i: -objects[i].box[2] * objects[i].box[3])[:count]
    return tuple(objects[i] for i in sorted(kept))
