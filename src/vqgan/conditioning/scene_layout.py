"""Which objects are where: a few tokens for each object of a scene."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Annotated, Any

import torch
from torch import Tensor

from vqgan.conditioning.base import Conditioner, Grid
from vqgan.config import Bounds, Config, Count, from_mapping
from vqgan.errors import ConfigError, require
from vqgan.layout import WHOLE, Box, Layout, SceneObject, mirrored, overlaps, part_of, within
from vqgan.types import Condition, ConditionTokens

_GROUP, _OCCLUDED, _DEPICTION, _INSIDE = 1, 2, 4, 8
"""What an object's flags add to its class, in units of the number of classes."""


class SceneLayoutConfig(Config, frozen=True, tag_field="kind", tag="scene_layout"):
    """Objects and their places steer the prior.

    Attributes:
        num_classes: Classes of objects, numbered from 0.
        max_objects: Places for objects; those that stay empty hold the last token of the vocabulary.
        vocabulary_size: Different tokens, which are shared by classes and positions: a position is one of S x S,
            S the whole root of this number.
        encode_crop: Whether two more tokens say which part of the picture the image shows; boxes then refer
            to the whole picture, else to the part.
        use_group: Whether the class's token tells groups of objects apart.
        use_additional: Whether it tells apart what is occluded, a depiction, or seen from inside.
        boxes: Whether a place is a box (two positions) or its centre (one).
        class_ids: The ids of the classes in files, by number; other categories are no classes. Without them, files have
            these classes in the order of their ids.
    """

    num_classes: Count
    max_objects: Count
    vocabulary_size: Annotated[int, Bounds("at least 4", lambda value: value >= 4)]
    encode_crop: bool
    use_group: bool
    use_additional: bool
    boxes: bool = True
    class_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.class_ids) in (0, self.num_classes),
            f"`class_ids` has {len(self.class_ids)} ids, expected `num_classes` = {self.num_classes}",
        )
        require(
            self.num_classes < self.vocabulary_size,
            f"`num_classes` is {self.num_classes}, expected less than `vocabulary_size` = {self.vocabulary_size}",
        )

    @property
    def name(self) -> str:
        """The name of its value."""
        return "layout"

    @property
    def object_length(self) -> int:
        """Tokens of one object: its class and one or two positions."""
        return 3 if self.boxes else 2

    def num_tokens(self, grid: Grid) -> int:
        """Those of all places and of the crop, for every grid."""
        return self.max_objects * self.object_length + (2 if self.encode_crop else 0)


class SceneLayout(Conditioner):
    """A layout as tokens: class, upper left and lower right (or centre) of each object, then the crop's corners.

    A position is ``round(y * (S - 1)) * S + round(x * (S - 1))``, halves to the even side. The objects keep their
    order (the original shuffles them); those outside the crop are left out.
    """

    is_spatial = False
    follows_window = True
    config: SceneLayoutConfig

    def __init__(self, config: SceneLayoutConfig) -> None:
        super().__init__(config)
        self.empty_token = config.vocabulary_size - 1
        self.positions_per_side = math.isqrt(config.vocabulary_size)

    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """The tokens of layouts, one for all images or one each.

        The value is a :class:`Layout`, a mapping with its fields (as JSON has it), a list of such, or an integer
        tensor (b m) of ready tokens.

        Raises:
            ConfigError: If the value is none of these, or a layout does not fit.
        """
        return self.in_windows(condition, count, grid, grid)

    def in_windows(
        self, condition: Condition | None, count: int, grid: Grid, window: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """At each place of the window, the tokens of the part of the layout that it shows, as crops have in training.

        Raises:
            ConfigError: As :meth:`tokens`.
        """
        value = self.required(condition, hint='give `condition={"layout": Layout(objects=(...,))}`')
        if isinstance(value, Tensor):
            self._check(value, count)
            if window == grid:
                return value.to(torch.int64).expand(count, -1)
            layouts = [self.to_layout(row) for row in value.tolist()]
        else:
            layouts = self._layouts(value, count)
        (rows, columns), (height, width) = grid, window
        starts = product(range(rows - height + 1), range(columns - width + 1))
        places = [(left / columns, top / rows, width / columns, height / rows) for top, left in starts]
        found = [[self.to_tokens(part_of(each, place)) for place in places] for each in layouts]
        return torch.tensor(found).flatten(1).expand(count, -1)

    def _check(self, rows: Tensor, count: int) -> None:
        length = self.config.num_tokens((1, 1))
        integers = not (rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool)
        require(
            integers and rows.ndim == 2 and rows.shape[0] in (1, count) and rows.shape[1] == length,
            f"`layout` holds {rows.dtype} of the shape {tuple(rows.shape)}, "
            f"expected integers (1, {length}) or ({count}, {length})",
        )
        require(
            bool(((rows >= 0) & (rows < self.config.vocabulary_size)).all()),
            f"a token of `layout` is out of range, expected 0 to {self.config.vocabulary_size - 1}",
        )

    def to_tokens(self, layout: Layout) -> list[int]:
        """The tokens of one layout.

        Raises:
            ConfigError: If there are more objects in the crop than places, or a class has no token.
        """
        crop = WHOLE if layout.crop is None else layout.crop
        shown = [each for each in layout.objects if overlaps(each.box, crop)]
        require(
            len(shown) <= self.config.max_objects,
            f"the layout has {len(shown)} objects, expected at most {self.config.max_objects}",
            hint="leave the least important ones out",
        )
        frame = WHOLE if self.config.encode_crop else crop
        tokens: list[int] = []
        for each in shown:
            box = within(each.box, frame)
            tokens += [self._class_token(each), *self._places(mirrored(box) if layout.is_flipped else box)]
        empty = self.config.max_objects - len(shown)
        tokens += [self.empty_token] * (empty * self.config.object_length)
        if self.config.encode_crop:
            tokens += self._corners(mirrored(crop) if layout.is_flipped else crop)
        return tokens

    def to_layout(self, tokens: Sequence[int]) -> Layout:
        """Reads one row of tokens back; places are exact to a step of the positions, a centre is a box without area.

        Boxes refer to the picture as the image shows it: what was flipped comes back as its mirror image.

        Raises:
            ConfigError: If these are not the tokens of a layout.
        """
        length, count = self.config.object_length, self.config.num_tokens((1, 1))
        require(len(tokens) == count, f"a layout of {len(tokens)} tokens, expected {count}")
        rest = list(tokens)
        crop = self._box(rest[-2], rest[-1]) if self.config.encode_crop else None
        places = [
            rest[start : start + length] for start in range(0, self.config.max_objects * length, length)
        ]
        objects = tuple(self._object(place) for place in places if place[0] != self.empty_token)
        return Layout(objects=objects, crop=crop)

    def _layouts(self, value: Any, count: int) -> list[Layout]:
        values = list(value) if isinstance(value, list | tuple) else [value]
        layouts = []
        for each in values:
            if not isinstance(each, Layout | Mapping):
                raise ConfigError(
                    f"`layout` holds a `{type(each).__name__}`, expected layouts or a tensor of their tokens",
                    hint="`vqgan.conditioning.Layout` is one",
                )
            layouts.append(each if isinstance(each, Layout) else from_mapping(each, Layout, where="layout"))
        require(
            len(layouts) in (1, count),
            f"`layout` holds {len(layouts)} layouts, expected one for all images or one for each of {count}",
        )
        return layouts

    def _class_token(self, each: SceneObject) -> int:
        classes = self.config.num_classes
        require(
            each.class_number < classes,
            f"class {each.class_number} of an object does not exist, expected 0 to {classes - 1}",
            hint="classes are numbered in the order of the ids of the categories",
        )
        flags = _GROUP * each.is_group if self.config.use_group else 0
        if self.config.use_additional:
            flags += _OCCLUDED * each.is_occluded + _DEPICTION * each.is_depiction + _INSIDE * each.is_inside
        token = each.class_number + classes * flags
        require(
            token < self.empty_token,
            f"class {each.class_number} with its flags has the token {token}, "
            f"expected less than {self.empty_token}, the token of an empty place",
        )
        return token

    def _object(self, place: Sequence[int]) -> SceneObject:
        flags, class_number = divmod(place[0], self.config.num_classes)
        return SceneObject(
            class_number=class_number,
            box=self._box(place[1], place[2]) if self.config.boxes else (*self._point(place[1]), 0.0, 0.0),
            is_group=bool(flags & _GROUP),
            is_occluded=bool(flags & _OCCLUDED),
            is_depiction=bool(flags & _DEPICTION),
            is_inside=bool(flags & _INSIDE),
        )

    def _places(self, box: Box) -> list[int]:
        if self.config.boxes:
            return self._corners(box)
        left, top, width, height = box
        return [self._position(left + width / 2, top + height / 2)]

    def _corners(self, box: Box) -> list[int]:
        left, top, width, height = box
        return [self._position(left, top), self._position(left + width, top + height)]

    def _position(self, x: float, y: float) -> int:
        last = self.positions_per_side - 1
        return round(y * last) * self.positions_per_side + round(x * last)

    def _point(self, token: int) -> tuple[float, float]:
        side = self.positions_per_side
        require(0 <= token < side * side, f"token {token} is not a position, expected 0 to {side * side - 1}")
        y, x = divmod(token, side)
        return x / (side - 1), y / (side - 1)

    def _box(self, first: int, second: int) -> Box:
        (left, top), (right, bottom) = self._point(first), self._point(second)
        return left, top, right - left, bottom - top
