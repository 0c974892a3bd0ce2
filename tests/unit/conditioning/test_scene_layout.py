import msgspec
import pytest
import torch

import tiny
from vqgan.conditioning import (
    CoordinatesConfig,
    Layout,
    SceneLayout,
    SceneLayoutConfig,
    SceneObject,
    SeveralConfig,
)
from vqgan.errors import ConfigError
from vqgan.prior import PriorConfig
from vqgan.synthesizer import SynthesizerConfig

# 10 values for each token, 3 x 3 positions (0, 0.5 and 1 along each side), 9 for empty places.
CONFIG = SceneLayoutConfig(
    num_classes=3,
    max_objects=2,
    vocabulary_size=10,
    encode_crop=False,
    use_group=True,
    use_additional=False,
)
LEFT = SceneObject(class_number=1, box=(0.0, 0.0, 0.5, 1.0))
POINT = SceneObject(class_number=2, box=(1.0, 0.5, 0.0, 0.0), is_group=True)


def make(**changes):
    return SceneLayout(msgspec.structs.replace(CONFIG, **changes))


def test_an_object_is_its_class_and_two_corners():
    # Upper left (0, 0) is position 0, lower right (0.5, 1) position 2 * 3 + 1.
    assert make().to_tokens(Layout(objects=(LEFT,))) == [1, 0, 7, 9, 9, 9]


def test_the_order_of_the_objects_is_kept():
    assert make().to_tokens(Layout(objects=(POINT, LEFT))) == [5, 5, 5, 1, 0, 7]
    assert make().to_tokens(Layout(objects=(LEFT, POINT))) == [1, 0, 7, 5, 5, 5]


def test_centres_take_one_position():
    # The centre of the left half is (0.25, 0.5): 0.25 * 2 rounds to the even 0.
    assert make(boxes=False).to_tokens(Layout(objects=(LEFT,))) == [1, 3, 9, 9]


def test_flags_count_only_where_they_are_used():
    each = SceneObject(class_number=0, box=(0.0, 0.0, 1.0, 1.0), is_group=True, is_inside=True)
    wide = {"vocabulary_size": 100}
    found = [
        make(use_group=group, use_additional=additional, **wide).to_tokens(Layout(objects=(each,)))[0]
        for group, additional in ((False, False), (True, False), (False, True), (True, True))
    ]
    assert found == [0, 3, 24, 27]


def test_what_lies_outside_the_crop_is_left_out():
    right_half = Layout(objects=(LEFT, POINT), crop=(0.5, 0.0, 0.5, 1.0))
    assert make().to_tokens(right_half) == [5, 5, 5, 9, 9, 9]
    assert make(encode_crop=True).to_tokens(right_half) == [5, 5, 5, 9, 9, 9, 1, 8]


def test_mirroring_changes_sides():
    layout = Layout(objects=(LEFT,), crop=(0.0, 0.0, 0.5, 0.5), is_flipped=True)
    assert make(encode_crop=True).to_tokens(layout) == [1, 1, 8, 9, 9, 9, 1, 5]


def test_no_object_is_a_layout_too():
    assert make().to_tokens(Layout()) == [9] * 6
    assert make().to_layout([9] * 6) == Layout()


@pytest.mark.parametrize("changes", [{}, {"boxes": False}, {"encode_crop": True}])
def test_reading_back_gives_the_same_tokens(changes):
    conditioner = make(**changes)
    tokens = conditioner.to_tokens(Layout(objects=(POINT, LEFT)))
    assert conditioner.to_tokens(conditioner.to_layout(tokens)) == tokens


def test_what_is_read_back_is_the_layout_that_was_given():
    exact = Layout(objects=(POINT, LEFT), crop=(0.0, 0.0, 1.0, 0.5))
    conditioner = make(encode_crop=True)
    assert conditioner.to_layout(conditioner.to_tokens(exact)) == exact


def test_layouts_mappings_and_rows_of_tokens_are_the_same_condition():
    plain = {"objects": [{"class_number": 1, "box": [0, 0, 0.5, 1]}]}
    row = torch.tensor([[1, 0, 7, 9, 9, 9]])
    for value in (Layout(objects=(LEFT,)), plain, [plain], row, row.to(torch.uint8)):
        assert torch.equal(make().tokens({"layout": value}, 2, (4, 4)), row.expand(2, -1))
    both = make().tokens({"layout": [plain, Layout()]}, 2, (4, 4))
    assert torch.equal(both, torch.tensor([[1, 0, 7, 9, 9, 9], [9] * 6]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the condition `layout` is missing\nhint: give"),
        (3, "`layout` holds a `int`, expected layouts or a tensor of their tokens"),
        ([], "`layout` holds 0 layouts, expected one for all images or one for each of 3"),
        ([Layout()] * 2, "`layout` holds 2 layouts, expected one for all"),
        (torch.zeros(3, 5, dtype=torch.int64), r"of the shape \(3, 5\)"),
        (torch.zeros(3, 6), "`layout` holds torch.float32"),
        (torch.full((1, 6), 10), "a token of `layout` is out of range, expected 0 to 9"),
        ({"objects": [{"klass": 1}]}, "of layout: unknown key `klass`|missing key"),
        (
            {"objects": [{"class_number": 1, "box": [10, 20, 30, 40]}]},
            "`box` is .*, expected 0 to 1, inside the picture",
        ),
        (Layout(objects=(LEFT,) * 3), "the layout has 3 objects, expected at most 2\nhint: leave"),
        (
            Layout(objects=(SceneObject(class_number=3, box=(0.0, 0.0, 1.0, 1.0)),)),
            "class 3 of an object does not exist, expected 0 to 2",
        ),
    ],
)
def test_layouts_that_do_not_fit_are_named(value, message):
    with pytest.raises(ConfigError, match=message):
        make().tokens({"layout": value}, 3, (4, 4))


def test_a_class_may_not_take_the_token_of_an_empty_place():
    each = SceneObject(class_number=4, box=(0.0, 0.0, 1.0, 1.0), is_group=True)
    with pytest.raises(ConfigError, match="class 4 with its flags has the token 9, expected less than 9"):
        make(num_classes=5).to_tokens(Layout(objects=(each,)))


def test_each_place_of_a_window_has_the_tokens_of_what_it_shows():
    conditioner, layout = make(encode_crop=True, vocabulary_size=26), Layout(objects=(LEFT, POINT))
    found = conditioner.in_windows({"layout": [layout]}, 2, (2, 4), (2, 2), memory=None).unflatten(1, (3, 8))
    whole, crops = conditioner.to_tokens(layout), [[0, 22], [1, 23], [2, 24]]
    assert found[0, 1].tolist() == [
        *whole[:3],
        25,
        25,
        25,
        *crops[1],
    ]  # the middle: the left object, not the point
    assert found[1, :, -2:].tolist() == crops
    ready = torch.tensor([whole])
    assert torch.equal(conditioner.in_windows({"layout": ready}, 2, (2, 4), (2, 2)), found.flatten(1))
    cut = conditioner.in_windows({"layout": Layout(objects=(LEFT, LEFT, POINT))}, 1, (1, 4), (1, 2))
    assert cut.unflatten(1, (3, 8))[0, 2].tolist() == [5, 14, 14, 25, 25, 25, 2, 24]  # three in all, one here


def test_larger_scenes_beside_another_condition_and_with_guidance_do_not_depend_on_the_batch():
    scene = msgspec.structs.replace(CONFIG, encode_crop=True)
    both = SeveralConfig(conditioners=(CoordinatesConfig(num_values=5, downsample_factor=4), scene))
    sizes = {"depth": 1, "width": 16, "num_heads": 2, "codebook_size": tiny.CODES}
    prior = PriorConfig(condition_size=15 + 2, context_length=15, **sizes)
    config = SynthesizerConfig(
        tokenizer=tiny.tokenizer_config(), conditioner=both, prior=prior, window=(2, 2)
    )
    model = tiny.random_synthesizer(config)
    layouts = [Layout(objects=(LEFT, POINT)), Layout(objects=(POINT,))]
    drawn = model.sample(2, (12, 16), {"layout": layouts}, guidance=1.0)
    alone = model.sample(1, (12, 16), {"layout": layouts[1]}, guidance=1.0, seed=1)
    torch.testing.assert_close(drawn[1:], alone)
    assert not torch.equal(drawn, model.sample(2, (12, 16), {"layout": layouts}))
    assert not torch.equal(alone, model.sample(1, (12, 16), {"layout": layouts[0]}, guidance=1.0, seed=1))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([9] * 5, "a layout of 5 tokens, expected 6"),
        ([0, 9, 9, 9, 9, 9], "token 9 is not a position, expected 0 to 8"),
    ],
)
def test_tokens_that_are_no_layout_are_named(tokens, message):
    with pytest.raises(ConfigError, match=message):
        make().to_layout(tokens)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "`num_classes` is 0"),
        ({"class_ids": ("1", "7")}, "`class_ids` has 2 ids, expected `num_classes` = 3"),
        ({"max_objects": 0}, "`max_objects` is 0"),
        ({"vocabulary_size": 3}, "`vocabulary_size` is 3, expected at least 4"),
        ({"num_classes": 10}, "`num_classes` is 10, expected less than `vocabulary_size` = 10"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**changes)
