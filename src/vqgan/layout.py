"""What a scene layout is: objects, each a class and a box, and the part of the picture that is looked at."""

from vqgan.config import Config, Natural
from vqgan.errors import require

Box = tuple[float, float, float, float]
"""Left, top, width and height as shares of the picture, 0 to 1."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
"""The whole picture."""

_ROUNDING = 1e-6
"""How far a box may extend over the border: shares of pixels do not add up exactly."""


class SceneObject(Config, frozen=True):
    """One object of a scene.

    Attributes:
        class_number: What it is, numbered from 0.
        box: Where it is: left, top, width and height, 0 to 1. A box without area is a point.
        is_group: It is several objects of that class.
        is_occluded: Something hides a part of it.
        is_depiction: It is a picture of the object.
        is_inside: It is seen from inside.
    """

    class_number: Natural
    box: Box
    is_group: bool = False
    is_occluded: bool = False
    is_depiction: bool = False
    is_inside: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_box(self.box, "box")


class Layout(Config, frozen=True):
    """A scene: its objects in the order in which the prior reads them.

    Attributes:
        objects: The objects, with boxes on the uncropped picture.
        crop: The part of the picture that the image shows; None is the whole.
        is_flipped: Whether the image shows it mirrored, left for right.
    """

    objects: tuple[SceneObject, ...] = ()
    crop: Box | None = None
    is_flipped: bool = False

    def __post_init__(self) -> None:
        if self.crop is not None:
            check_box(self.crop, "crop")
            require(self.crop[2] > 0 and self.crop[3] > 0, f"`crop` is {self.crop}, it has no area")


def check_box(box: Box, name: str) -> None:
    """Raises ConfigError unless the box lies in the picture.

    Example:
        >>> check_box((0.5, 0.0, 0.5, 1.0), "box")
        >>> check_box((32.0, 0.0, 64.0, 64.0), "box")
        Traceback (most recent call last):
            ...
        vqgan.errors.ConfigError: `box` is (32.0, 0.0, 64.0, 64.0), expected 0 to 1, inside the picture
        hint: it is left, top, width and height, divided by the picture's sides
    """
    left, top, width, height = box
    inside = all(0 <= number <= 1 for number in box)
    require(
        inside and left + width <= 1 + _ROUNDING and top + height <= 1 + _ROUNDING,
        f"`{name}` is {box}, expected 0 to 1, inside the picture",
        hint="it is left, top, width and height, divided by the picture's sides",
    )


def overlaps(box: Box, crop: Box) -> bool:
    """Whether a part of the box is inside the crop; touching its border is not enough, but for a point.

    Example:
        >>> overlaps((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0))
        False
        >>> overlaps((0.5, 0.5, 0.0, 0.0), (0.5, 0.0, 0.5, 1.0))
        True
    """

    def along(axis: int) -> bool:
        start, length, first, last = box[axis], box[axis + 2], crop[axis], crop[axis] + crop[axis + 2]
        if length == 0:
            return first <= start <= last
        return min(start + length, last) > max(start, first)

    return along(0) and along(1)


def within(box: Box, crop: Box) -> Box:
    """The box as a part of the crop, as the original computes it.

    The corner is pushed inside; the width and height are kept as far as there is room. So a box that the
    crop's left or upper border cuts keeps its full width or height, and reaches further than what is seen.
    Published models were trained that way.

    Example:
        >>> within((0.0, 0.25, 0.5, 0.5), (0.25, 0.0, 0.5, 1.0))
        (0.0, 0.25, 1.0, 0.5)
    """
    left = min(max((box[0] - crop[0]) / crop[2], 0.0), 1.0)
    top = min(max((box[1] - crop[1]) / crop[3], 0.0), 1.0)
    return left, top, min(box[2] / crop[2], 1.0 - left), min(box[3] / crop[3], 1.0 - top)


def part_of(layout: Layout, place: Box) -> Layout:
    """The layout of the part of its image that lies at ``place``.

    Example:
        >>> part_of(Layout(crop=(0.5, 0.0, 0.5, 1.0)), (0.0, 0.0, 0.5, 1.0)).crop
        (0.5, 0.0, 0.25, 1.0)
        >>> part_of(Layout(crop=(0.5, 0.0, 0.5, 1.0), is_flipped=True), (0.0, 0.0, 0.5, 1.0)).crop
        (0.75, 0.0, 0.25, 1.0)
    """
    left, top, width, height = WHOLE if layout.crop is None else layout.crop
    x, y, columns, rows = mirrored(place) if layout.is_flipped else place
    crop = (left + x * width, top + y * height, columns * width, rows * height)
    return Layout(objects=layout.objects, crop=crop, is_flipped=layout.is_flipped)


def mirrored(box: Box) -> Box:
    """The box in the picture that is mirrored left for right.

    Example:
        >>> mirrored((0.0, 0.25, 0.25, 0.5))
        (0.75, 0.25, 0.25, 0.5)
    """
    left, top, width, height = box
    return 1.0 - (left + width), top, width, height
