import pytest

from vqgan.conditioning import Layout, SceneObject
from vqgan.errors import ConfigError
from vqgan.layout import overlaps, within


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.25, 0.25, 0.5, 0.5), True),
        ((0.0, 0.0, 0.6, 0.6), True),
        ((0.0, 0.0, 0.5, 0.6), False),
        ((0.6, 0.0, 0.2, 0.5), False),
        ((0.5, 0.5, 0.0, 0.0), True),
        ((0.4, 0.5, 0.0, 0.0), False),
    ],
)
def test_a_box_is_seen_if_a_part_of_it_lies_in_the_crop(box, expected):
    assert overlaps(box, (0.5, 0.5, 0.5, 0.5)) is expected


def test_a_box_is_cut_at_the_far_sides_of_the_crop():
    assert within((0.25, 0.25, 0.75, 0.75), (0.0, 0.0, 0.5, 0.5)) == (0.5, 0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    "box",
    [(-0.1, 0.0, 0.5, 0.5), (0.6, 0.0, 0.5, 0.5), (0.0, 0.6, 0.5, 0.5), (0.0, 0.0, float("nan"), 0.5)],
)
def test_boxes_outside_the_picture_are_refused(box):
    with pytest.raises(
        ConfigError, match=r"`box` is .* expected 0 to 1, inside the picture\nhint: it is left"
    ):
        SceneObject(class_number=0, box=box)


def test_impossible_objects_and_crops_are_refused():
    with pytest.raises(ConfigError, match="`class_number` is -1"):
        SceneObject(class_number=-1, box=(0.0, 0.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match=r"`crop` is .* it has no area"):
        Layout(crop=(0.5, 0.5, 0.0, 0.5))
    with pytest.raises(ConfigError, match=r"`crop` is .* expected 0 to 1"):
        Layout(crop=(0.5, 0.5, 0.6, 0.5))
