from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqgan.errors import DataError
from vqgan.images import fit, from_array, read_pixels, to_float, to_uint8, with_channels


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_all_256_values_survive_the_way_to_floats_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = to_float(pixels)
    assert floats.shape == (1, 1, 16, 16)
    assert (float(floats.min()), float(floats.max())) == (-1, 1)
    assert np.array_equal(to_uint8(floats).numpy(), pixels)
    for low in (torch.float16, torch.bfloat16):
        assert (to_uint8(floats.to(low)).int() - torch.from_numpy(pixels).int()).abs().max() <= 1


def test_arrays_batched_or_not_give_the_same_floats() -> None:
    pixels = noise(2, 4, 5, 3)
    batch = to_float(pixels)
    assert batch.shape == (2, 3, 4, 5)
    assert torch.equal(to_float(pixels[1]), batch[1])
    assert torch.equal(batch[0, 2], torch.from_numpy(pixels)[0, :, :, 2] / 127.5 - 1)


def test_values_outside_the_range_are_clamped() -> None:
    images = torch.tensor([-9.0, -1.01, 1.01, 9.0]).reshape(1, 1, 4)
    assert to_uint8(images).flatten().tolist() == [0, 0, 255, 255]


def test_grey_becomes_colour_and_colour_becomes_luma() -> None:
    grey, colour = noise(4, 5, 1), noise(4, 5, 3)
    assert np.array_equal(with_channels(grey, 3), np.repeat(grey, 3, axis=2))
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(with_channels(colour, 1)[:, :, 0] - luma).max() <= 0.51
    assert with_channels(colour, 3) is colour


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_wanted_size_keeps_its_pixels(channels: int) -> None:
    pixels = noise(6, 7, channels)
    assert np.array_equal(fit(pixels, (6, 7), at=(0.9, 0.1)), pixels)


def test_an_image_that_fits_on_one_side_is_cut_without_resizing() -> None:
    pixels = noise(6, 11, 3)
    assert np.array_equal(fit(pixels, (6, 6)), pixels[:, 2:8])
    assert np.array_equal(fit(pixels, (6, 6), at=(0.0, 0.0)), pixels[:, :6])
    assert np.array_equal(fit(pixels, (6, 6), at=(1.0, 1.0)), pixels[:, 5:])


@pytest.mark.parametrize("size", [(8, 8), (5, 9), (40, 24), (1, 1)])
def test_the_middle_part_is_resized_as_a_whole(size: tuple[int, int]) -> None:
    pixels = noise(20, 30, 3)
    scale = max(size[0] / 20, size[1] / 30)
    rows, columns = size[0] / scale, size[1] / scale
    box = ((30 - columns) / 2, (20 - rows) / 2, (30 + columns) / 2, (20 + rows) / 2)
    expected = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC, box=box)
    result = fit(pixels, size)
    assert result.shape == (*size, 3)
    assert np.abs(result.astype(int) - np.asarray(expected)).max() <= 1


def test_making_an_image_smaller_averages_and_does_not_pick() -> None:
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(fit(stripes, (16, 16))[2:-2, 2:-2].astype(int) - 127).max() <= 4


def test_a_picture_larger_than_a_strip_is_decoded_whole(tmp_path: Path) -> None:
    pixels = noise(2100, 2100, 1)
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "a.bmp")
    assert np.array_equal(read_pixels(tmp_path / "a.bmp", 1), pixels)


def test_extreme_proportions_cost_no_more_memory_than_the_result() -> None:
    assert fit(noise(1, 60_000, 3), (256, 256)).shape == (256, 256, 3)


def test_arrays_of_8_and_16_bits_and_floats_become_the_same_pixels() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    wide = pixels.astype(np.uint16) * 257
    for array in (pixels, wide, wide.astype(">u2"), pixels / 255, (pixels / 255).astype(np.float16)):
        assert np.array_equal(from_array(array, "it"), pixels[:, :, None])
    assert from_array(noise(4, 5, 6), "it").shape == (4, 5, 6)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 3, 4, 1), np.uint8), "`x.npy` has shape (2, 3, 4, 1)"),
        (np.zeros(5, np.uint8), "has shape (5,)"),
        (np.zeros((0, 4), np.uint8), "has shape (0, 4)"),
        (np.zeros((4, 4), np.int64), "holds values of type int64"),
        (np.array([["a"]]), "holds values of type <U1"),
        (np.array([[0.0, 255.0]]), "holds values from 0 to 255"),
        (np.array([[0.0, np.nan]]), "holds values from nan to nan"),
    ],
)
def test_an_array_that_is_no_image_is_refused_with_what_was_expected(array: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match="uint8, uint16 or floats in") as refused:
        from_array(array, "`x.npy`")
    assert said in refused.value.message
