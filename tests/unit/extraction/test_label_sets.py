"""Labels of segmentation models, by name, as numbers of the published label sets."""

import logging
from importlib.resources import files

import pytest

from vqgan.errors import ConfigError
from vqgan.extraction.label_sets import LABEL_SETS, numbers_of

NEVER_SEEN = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""Numbers of COCO-Stuff that no picture has: the labels of models leave them out."""

PANOPTIC = (
    "tree-merged sky-other-merged wall-other-merged ceiling-merged window-blind playingfield grass-merged"
)


def first_names(labels):
    text = files("vqgan.extraction").joinpath(LABEL_SETS[labels][0]).read_text(encoding="utf-8")
    return [line.split(";")[0] for line in text.splitlines()]


def test_the_numbers_of_coco_stuff_are_the_official_ones():
    known = {
        "person": 1,
        "stop sign": 13,
        "toothbrush": 90,
        "banner": 92,
        "sky-other": 157,
        "tree": 169,
        "wood": 182,
    }
    assert numbers_of(list(known), "coco-stuff") == list(known.values())
    assert numbers_of(list(known), "s-flckr") == [number - 1 for number in known.values()]


def test_a_model_with_the_171_labels_that_occur_has_their_numbers_in_order():
    names = [name for number, name in enumerate(first_names("coco-stuff"), 1) if number not in NEVER_SEEN]
    assert len(names) == 171
    numbers = numbers_of(names, "coco-stuff")
    assert sorted(set(numbers)) == numbers
    assert set(range(1, 183)) - set(numbers) == set(NEVER_SEEN)


def test_what_is_a_thing_and_stuff_is_told_apart():
    names = [
        "door",
        "door-stuff",
        "mirror",
        "mirror-stuff",
        "desk",
        "desk-stuff",
        "dining table",
        "table",
        "clothes",
    ]
    assert numbers_of(names, "coco-stuff") == [71, 112, 66, 133, 69, 110, 67, 165, 105]


def test_panoptic_and_older_names_of_coco_are_known():
    assert numbers_of(PANOPTIC.split(), "coco-stuff") == [169, 157, 173, 102, 180, 145, 124]
    assert numbers_of(["tvmonitor", "Sofa", "traffic_light"], "coco-stuff") == [72, 63, 10]


def test_the_labels_of_ade20k_are_shifted_by_one():
    names = first_names("ade20k")
    assert len(names) == 150
    assert numbers_of(names, "ade20k") == list(range(1, 151))
    other = [
        "door, double door",
        "television receiver",
        "bed ",
        "windowpane",
        "screen",
        "screen door",
        "step",
        "flag",
    ]
    assert numbers_of(other, "ade20k") == [15, 90, 8, 9, 131, 59, 122, 150]


def test_few_labels_without_a_number_become_unknown_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        assert numbers_of([*first_names("ade20k")[:20], "spaceship"], "ade20k")[-1] == 0
    assert (
        "1 of the model's 21 labels are not in `ade20k`: `spaceship`; they become 0, unknown" in caplog.text
    )


def test_many_labels_without_a_number_are_refused_by_name():
    with pytest.raises(ConfigError, match="2 of the model's 3 labels are not in `ade20k`: `lane`, `ego`"):
        numbers_of(["road", "lane", "ego"], "ade20k")


def test_a_set_without_unknown_takes_no_other_label():
    with pytest.raises(ConfigError, match="1 of the model's 183 labels are not in `s-flckr`: `unlabeled`"):
        numbers_of(["unlabeled", *first_names("s-flckr")], "s-flckr")


def test_own_labels_keep_their_numbers_if_a_map_can_hold_them():
    assert numbers_of(["road", "lane"], "own") == [0, 1]
    with pytest.raises(ConfigError, match="the model has 257 labels, a map holds 256"):
        numbers_of(["x"] * 257, "own")


def test_an_unknown_set_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown labels `ade20`") as caught:
        numbers_of([], "ade20")
    assert caught.value.hint == "did you mean `ade20k`?"
