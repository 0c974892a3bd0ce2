import math

import numpy as np
import pytest

from vqgan.evaluation.reconstruction import (
    codebook_usage,
    moving_mask,
    moving_psnr,
    psnr,
    reconstruction_psnr,
    squared_error,
)


def random_frames(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 4, 3), dtype=np.uint8)


def test_psnr_of_a_uniform_error_is_the_textbook_value():
    frames = np.full((2, 6, 4, 3), 100, dtype=np.uint8)
    assert reconstruction_psnr(frames, frames + 10) == pytest.approx(20 * math.log10(255 / 10))


def test_psnr_is_of_the_summed_error_not_the_mean_of_pictures():
    frames = np.full((2, 6, 4, 3), 100, dtype=np.uint8)
    others = frames.copy()
    others[0] += 20
    assert reconstruction_psnr(frames, others) == pytest.approx(10 * math.log10(255**2 / 200))


def test_psnr_of_equal_pictures_is_infinite():
    frames = random_frames(2)
    assert reconstruction_psnr(frames, frames) == math.inf


def test_psnr_of_nothing_is_refused():
    with pytest.raises(ValueError, match="PSNR of 0 values"):
        psnr(0.0, 0)


def test_squared_error_does_not_wrap_around_and_spans_chunks():
    frames = np.zeros((300, 6, 4, 3), dtype=np.uint8)
    assert squared_error(frames, np.full_like(frames, 255)) == frames.size * 255.0**2


def test_squared_error_counts_masked_pixels_only():
    frames, mask = np.zeros((2, 6, 4, 3), dtype=np.uint8), np.zeros((2, 6, 4), dtype=bool)
    mask[1, 2, 3] = True
    assert squared_error(frames, frames + 2, mask) == 12.0


def test_moving_pixels_differ_in_any_channel_by_more_than_the_threshold():
    median = np.full((6, 4, 3), 50, dtype=np.uint8)
    frames = np.broadcast_to(median, (1, 6, 4, 3)).copy()
    frames[0, 0, 0, 2] = 75
    frames[0, 0, 1, 2] = 74
    frames[0, 5, 3, 0] = 25
    mask = moving_mask(frames, np.array([7]), {7: median})
    assert np.argwhere(mask).tolist() == [[0, 0, 0], [0, 5, 3]]


def test_a_room_without_median_has_no_moving_pixels():
    median = np.zeros((6, 4, 3), dtype=np.uint8)
    frames = np.full((2, 6, 4, 3), 255, dtype=np.uint8)
    mask = moving_mask(frames, np.array([1, 2]), {1: median})
    assert mask.sum(axis=(1, 2)).tolist() == [24, 0]


def test_moving_psnr_ignores_the_background():
    frames, mask = np.zeros((1, 6, 4, 3), dtype=np.uint8), np.zeros((1, 6, 4), dtype=bool)
    others = np.full_like(frames, 90)
    mask[0, 1, 1] = True
    others[0, 1, 1] = 5
    assert moving_psnr(frames, others, mask) == pytest.approx(20 * math.log10(255 / 5))


def test_moving_psnr_without_moving_pixels_is_not_a_number():
    frames = random_frames(1)
    assert math.isnan(moving_psnr(frames, frames, np.zeros((1, 6, 4), dtype=bool)))


def test_codebook_usage_is_the_share_of_codes_met():
    assert codebook_usage(np.array([[[0, 0], [5, 7]], [[7, 5], [2, 0]]]), 16) == 0.25
