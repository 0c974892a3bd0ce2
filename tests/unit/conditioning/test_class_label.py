import numpy as np
import pytest
import torch

from vqgan.conditioning import ClassLabel, ClassLabelConfig
from vqgan.errors import ConfigError

NAMED = ClassLabel(ClassLabelConfig(num_classes=3, class_names=("cat", "dog", "fox")))
NUMBERED = ClassLabel(ClassLabelConfig(num_classes=10))


@pytest.mark.parametrize(
    "value",
    [
        [2, 0],
        (2, 0),
        ["fox", "cat"],
        ["fox", 0],
        np.array([2, 0]),
        torch.tensor([2, 0]),
        [np.int64(2), torch.tensor(0)],
    ],
)
def test_one_class_per_image_in_any_form(value):
    assert torch.equal(NAMED.tokens({"class": value}, 2, (4, 4)), torch.tensor([[2], [0]]))


@pytest.mark.parametrize("value", [1, "dog", [1], np.int64(1), torch.tensor(1), torch.tensor([1])])
def test_one_class_for_all_images(value):
    assert torch.equal(NAMED.tokens({"class": value}, 3, (4, 4)), torch.ones(3, 1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("conditioner", "condition", "message"),
    [
        (
            NAMED,
            None,
            "the condition `class` is missing\nhint: give `condition={.class.: 0}`: a number from 0 to 2, or a name \\(`",
        ),
        (NAMED, {"depth": 1}, "the condition `class` is missing"),
        (
            NAMED,
            {"class": [0, 1, 2]},
            "`class` has 3 values for 2 images, expected one for all or one per image",
        ),
        (NAMED, {"class": "dgo"}, "unknown class `dgo`\nhint: did you mean `dog`?"),
        (NUMBERED, {"class": "dog"}, "unknown class `dog`\nhint: give a number from 0 to 9"),
        (
            NAMED,
            {"class": 3},
            "class 3 does not exist\nhint: give a number from 0 to 2, or a name \\(`[a-z]+`, `[a-z]+`, `[a-z]+`\\)",
        ),
        (NAMED, {"class": -1}, "class -1 does not exist"),
        (NAMED, {"class": 1.0}, "class `1.0` is neither an integer nor a name"),
        (NAMED, {"class": torch.tensor([0.0, 1.0])}, "class `0.0` is neither an integer nor a name"),
    ],
)
def test_values_that_do_not_fit_are_named(conditioner, condition, message):
    with pytest.raises(ConfigError, match=message):
        conditioner.tokens(condition, 2, (4, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": -1}, "`num_classes` is -1, expected at least 0"),
        (
            {"num_classes": 3, "class_names": ("a", "b")},
            "`class_names` has 2 names, expected `num_classes` = 3",
        ),
        ({"num_classes": 2, "class_names": ("a", "a")}, "class name `a` stands twice"),
    ],
)
def test_impossible_configurations_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ClassLabelConfig(**arguments)


def test_without_a_number_there_are_as_many_classes_as_names():
    conditioner = ClassLabel(ClassLabelConfig(class_names=("cat", "dog")))
    assert conditioner.config.vocabulary_size == 2
    assert conditioner.tokens({"class": "dog"}, 1, (4, 4)).tolist() == [[1]]


def test_a_conditioner_without_classes_is_not_built():
    with pytest.raises(
        ConfigError, match="there are no classes: `num_classes` is 0 and `class_names` is empty"
    ):
        ClassLabel(ClassLabelConfig())
