"""A classifier tells the classes of images of any size, one by one."""

import pytest
import torch
from torch.testing import assert_close

import tiny
import vqgan
from vqgan.errors import CheckpointError, ConfigError
from vqgan.runs import train


def test_each_image_has_a_probability_of_each_class():
    probabilities = tiny.classifier().eval()(tiny.images(5))
    assert probabilities.shape == (5, 3)
    assert_close(probabilities.sum(dim=1), torch.ones(5))


def test_images_in_one_batch_do_not_change_each_other():
    model, images = tiny.classifier().train(), tiny.images(4)
    alone = torch.cat([model(image[None]) for image in images])
    assert_close(model(images), alone)


def test_larger_images_are_judged_as_they_look_when_they_are_small():
    model, images = tiny.classifier().eval(), tiny.images(2)
    enlarged = images.repeat_interleave(32, dim=2).repeat_interleave(24, dim=3)
    assert_close(model(enlarged), model(images), atol=0.02, rtol=0)
    assert model(tiny.images(1, side=5)).shape == (1, 3)


def test_a_score_is_the_probability_of_the_asked_class_or_else_the_highest():
    model, images = tiny.classifier().eval(), tiny.images(3)
    probabilities = model(images)
    assert_close(model.scores(images, [2, 0, 1]), probabilities[[0, 1, 2], [2, 0, 1]])
    assert_close(model.scores(images), probabilities.amax(dim=1))
    assert not model.scores(images).requires_grad


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([2], "there are 1 classes for 3 images, expected one for each"),
        ([0, 1, 2, 0], "there are 4 classes for 3 images"),
        ([0, 3, 1], "the class 3 does not exist, expected a number from 0 to 2"),
        ([0, -1, 1], "the class -1 does not exist, .*\nhint: their names, in this order, are"),
    ],
)
def test_classes_that_are_not_one_for_each_image_are_refused(classes, message):
    with pytest.raises(ConfigError, match=message):
        tiny.classifier().scores(tiny.images(3), classes)


def test_it_computes_in_half_precision_too():
    model = tiny.classifier().eval()
    expected = model(tiny.images(2))
    found = model.bfloat16()(tiny.images(2))
    assert found.dtype == torch.float32
    assert_close(found, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image_size": (8, 10)},
            "images of 8x10 pixels do not fit the classifier; height and width must be multiples of 4\nhint: the n",
        ),
        ({"class_names": ("cat",)}, "`class_names` has the length 1, expected at least 2"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message):
    with pytest.raises(ConfigError) as caught:
        tiny.classifier_config(**changes)
    assert str(caught.value).startswith(message)


def test_images_of_other_channels_are_refused():
    with pytest.raises(ConfigError, match="the images have 3 channels, expected 1"):
        tiny.classifier()(tiny.images(1, channels=3))


def test_its_file_opens_by_its_path_and_is_no_tokenizer(tmp_path):
    model, path = tiny.classifier().eval(), tmp_path / "judge.safetensors"
    vqgan.save_model(model, path)
    found = vqgan.load(path, device="cpu")
    assert isinstance(found, vqgan.Classifier)
    assert found.config.class_names == ("0", "1", "2")
    assert torch.equal(found(tiny.images(2)), model(tiny.images(2)))
    source = tiny.data(tmp_path / "data")
    with pytest.raises(CheckpointError, match="holds a classifier, expected a tokenizer or a prior"):
        train(tiny.prior_run(source), tokenizer=path, out=tmp_path / "run", device="cpu")
