"""Poses: key points in a JSON file, as COCO and many tools write them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vqgan.data.layouts import AnnotationFile
from vqgan.errors import DataError
from vqgan.images import KEY_POINTS, Pose
from vqgan.images.ours import PEOPLE_MARK
from vqgan.output_files import write_text


class PoseFile(AnnotationFile):
    """The people of all images in one file.

    ``keypoints`` of an annotation are column, row, and 0 (left out), 1 or 2 for each of the category's ``keypoints``:
    COCO's names in any order. ``skeleton`` is not read. Points may lie outside, by up to the picture's size.
    """

    what, needed = "poses", "`annotations` and `categories` with `keypoints`"

    def _values(self, whole: Any, sizes: dict[Any, tuple[int, int]]) -> dict[Any, Pose]:
        orders = {each["id"]: _order(each.get("keypoints", [])) for each in whole["categories"]}
        if not any(orders.values()):
            raise DataError("no category has `keypoints`")
        people: dict[Any, list[np.ndarray]] = {number: [] for number in sizes}
        for each in whole["annotations"]:
            of, order = each["image_id"], orders[each["category_id"]]
            if order:
                people[of].append(_person(each["keypoints"], sizes[of])[order])
        return {of: Pose(np.reshape(people[of], (-1, 17, 3)), sizes[of]) for of in sizes}


def write_poses(poses: Mapping[str, Pose], path: Path) -> Path:
    """Writes poses as :class:`PoseFile` reads them, by the paths of their pictures. Raises OutputError."""
    images = [
        {"id": number, "file_name": name, "height": pose.size[0], "width": pose.size[1]}
        for number, (name, pose) in enumerate(poses.items(), 1)
    ]
    people = [(number, person) for number, pose in enumerate(poses.values(), 1) for person in pose.people]
    annotations = [
        {
            "id": i,
            "image_id": number,
            "category_id": 1,
            "keypoints": (person - (0.5, 0.5, 0)).round(3).ravel().tolist(),
        }
        for i, (number, person) in enumerate(people, 1)
    ]
    category = {"id": 1, "name": "person", "keypoints": KEY_POINTS}
    whole = {"images": images, "annotations": annotations, "categories": [category]}
    write_text(path, PEOPLE_MARK + json.dumps(whole)[1:] + "\n")
    return path


def _order(names: list[Any]) -> list[int]:
    """Where each of our key points stands among the names, if there are any."""
    if names and {*names} != {*KEY_POINTS}:
        raise DataError(f"a category has the key points {names}, expected COCO's: {', '.join(KEY_POINTS)}")
    return [names.index(each) for each in KEY_POINTS] if names else []


def _person(numbers: Any, size: tuple[int, int]) -> Float[np.ndarray, "17 3"]:
    """Key points as they stand there; a whole number is the middle of a pixel."""
    person, half = np.array(numbers, np.float64), np.array(size[::-1]) / 2
    if person.shape != (51,):
        raise DataError(f"`keypoints` has {person.size} numbers, expected 51: 3 for each of 17")
    x_y, seen = np.split(person.reshape(17, 3), [2], axis=1)
    if not {*seen.flat} <= {0, 1, 2}:
        raise DataError("a key point's third number is not 0, 1 or 2")
    far = (seen > 0) & ~(np.abs(x_y - half) <= 3 * half)
    if far.any():
        raise DataError(f"a key point at {x_y[far][0]:g} lies far outside of {size[0]}x{size[1]} pixels")
    return np.concatenate([x_y + 0.5, seen], axis=1)
