"""Poses: the key points of people in a picture, and how they are drawn.

A person's left is red, the right blue, both with the same green; what is neither has as much red as blue. Where strokes
overlap, each channel is the largest. So to mirror a drawing is to mirror its pixels and to exchange red and blue.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from vqgan.images.pixels import Pixels

_PARTS = "eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"
KEY_POINTS = ("nose", *(f"{side}_{part}" for part in _PARTS for side in ("left", "right")))
"""The key points of a person, as COCO names and orders them."""

_MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
_LEFT = ((0, 1), (1, 3), (3, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15))
_DOTS = tuple((number, number) for number in range(1, 17, 2))
# Where each stroke begins and ends, and its colour: the limbs of COCO, and a dot at each joint.
_STROKES = [(*ends, (60, 255, 60)) for ends in ((1, 2), (5, 6), (11, 12))] + [(0, 0, (255, 255, 255))]
for _number, (_start, _end) in enumerate(_LEFT + _DOTS):
    _green = 28 * _number if _number < len(_LEFT) else 255
    _STROKES.append((_start, _end, (255, _green, 60)))
    _STROKES.append((_MIRRORED[_start], _MIRRORED[_end], (60, _green, 255)))


@dataclass(frozen=True, eq=False, repr=False)
class Pose:
    """People in a picture of ``size`` (H, W): x and y (pixels) of ``KEY_POINTS``, and 0 for those that are not seen."""

    people: Float[np.ndarray, "n 17 3"]
    size: tuple[int, int]

    def __repr__(self) -> str:
        return f"Pose({self.people.tolist()}, {self.size})"

    def mirrored(self) -> "Pose":
        """That of the mirrored picture: what was left is right."""
        people = self.people[:, _MIRRORED]
        people[:, :, 0] = self.size[1] - people[:, :, 0]
        return replace(self, people=people)


def draw_people(people: Float[np.ndarray, "n 17 3"], size: tuple[int, int], side: float = 0.0) -> Pixels:
    """Draws limbs as lines and joints as dots on black, but for joints that are not seen and limbs that end there.

    Places are in pixels of the drawing, whose size is (H, W). Limbs are as thick as a 64th of its shorter side, or of
    ``side``, that of the whole picture if this is a part; at least a pixel.
    """
    canvas, radius = np.zeros((*size, 3), np.uint8), max(1.0, (side or min(size)) / 64) / 2
    for person in people:
        for start, end, colour in _STROKES:
            if person[start, 2] and person[end, 2]:
                _stroke(canvas, person[[start, end], :2], radius * (1.5 if start == end else 1), colour)
    return canvas


def _stroke(canvas: Pixels, ends: np.ndarray, radius: float, colour: tuple[int, ...]) -> None:
    """A line with round ends; at its border, a pixel is as bright as the share that is covered."""
    corners = ends.min(axis=0) - radius - 1, ends.max(axis=0) + radius + 2
    (left, top), (right, bottom) = np.clip(corners, 0, canvas.shape[1::-1]).astype(int)
    x, y = np.arange(left, right) + 0.5 - ends[0, 0], np.arange(top, bottom)[:, None] + 0.5 - ends[0, 1]
    dx, dy = ends[1] - ends[0]
    along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
    covered = np.clip(radius + 0.5 - np.hypot(x - along * dx, y - along * dy), 0, 1)
    part = canvas[top:bottom, left:right]
    np.maximum(part, np.rint(covered[:, :, None] * colour).astype(np.uint8), out=part)
