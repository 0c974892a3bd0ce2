import pytest
import torch

from vqgan.errors import ConfigError
from vqgan.tokenizer.sizes import crop_to_multiple, pad_to_multiple
from vqgan.types import grid_size


def test_a_size_that_does_not_fit_is_refused_with_the_nearest_that_do():
    with pytest.raises(ConfigError) as caught:
        grid_size((63, 80), 16)
    assert str(caught.value) == (
        "images of 63x80 pixels do not fit the tokenizer; height and width must be multiples of 16\n"
        "hint: the next sizes are 48x80 and 64x80"
    )


@pytest.mark.parametrize("size", [(15, 80), (0, 16)])
def test_images_smaller_than_a_token_have_one_next_size(size):
    with pytest.raises(ConfigError) as caught:
        grid_size(size, 16)
    assert caught.value.hint == f"the next size is 16x{size[1]}"


def test_cropping_keeps_the_centre():
    images = torch.arange(7.0).view(1, 1, 1, 7).expand(1, 1, 5, 7)
    cropped = crop_to_multiple(images, 4)
    assert cropped.shape == (1, 1, 4, 4)
    assert cropped[0, 0, 0].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_cropping_an_image_smaller_than_a_token_is_refused():
    with pytest.raises(ConfigError, match="images of 3x8 pixels cannot be cropped to multiples of 4"):
        crop_to_multiple(torch.zeros(1, 1, 3, 8), 4)


def test_padding_repeats_the_border_and_can_be_undone():
    images = torch.randn(2, 3, 5, 8)
    padded, (height, width) = pad_to_multiple(images, 4)
    assert padded.shape == (2, 3, 8, 8)
    assert torch.equal(padded[..., 7, :], images[..., 4, :])
    assert torch.equal(padded[..., :height, :width], images)
