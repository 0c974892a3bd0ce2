"""Of many images, those that a judge likes best are kept."""

import pytest
import torch

import tiny
import vqgan
from vqgan.errors import ConfigError
from vqgan.sampling.judge import best_of


def brightness(images):
    return images.mean(dim=(1, 2, 3))


def test_the_kept_ones_are_exactly_those_with_the_best_scores_best_first():
    images = tiny.images(10)
    kept, scores = vqgan.keep_best(images, brightness, 0.25, batch_size=4)
    expected = sorted(range(10), key=lambda number: -float(brightness(images)[number]))[:3]
    assert torch.equal(kept, images[expected])
    assert torch.equal(scores, brightness(images)[expected])


def test_the_judge_sees_few_images_at_once():
    seen = []
    vqgan.keep_best(
        tiny.images(10), lambda part: seen.append(len(part)) or brightness(part), 1.0, batch_size=4
    )
    assert seen == [4, 4, 2]


@pytest.mark.parametrize(
    ("count", "share", "kept"), [(100, 0.07, 7), (10, 0.01, 1), (3, 0.5, 2), (3, 1.0, 3)]
)
def test_a_share_is_rounded_up_to_whole_images(count, share, kept):
    assert len(best_of(torch.arange(count).float(), share)) == kept


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match=r"`share` is .*, expected 0 < share <= 1"):
        vqgan.keep_best(tiny.images(2), brightness, share)


@pytest.mark.parametrize(
    "judge",
    [lambda images: tiny.classifier()(images), lambda images: 0.5, lambda images: brightness(images) / 0 * 0],
)
def test_a_judge_that_gives_no_number_for_each_image_is_refused(judge):
    with pytest.raises(
        ConfigError, match=r"for 2 images, expected a number for each\nhint: of a classifier's"
    ):
        vqgan.keep_best(tiny.images(2), judge, 0.5)
