import math

import numpy as np
import pytest

from vqgan.evaluation.psnr import pixels_psnr


def test_psnr_of_a_uniform_error_is_the_textbook_value():
    frames = np.full((2, 6, 4, 3), 100, dtype=np.uint8)
    assert pixels_psnr(frames, frames + 10) == pytest.approx(20 * math.log10(255 / 10))


def test_psnr_is_of_the_summed_error_not_the_mean_of_pictures():
    frames = np.full((2, 6, 4, 3), 100, dtype=np.uint8)
    others = frames.copy()
    others[0] += 20
    assert pixels_psnr(frames, others) == pytest.approx(10 * math.log10(255**2 / 200))


def test_psnr_of_equal_pictures_is_infinite():
    frames = np.random.default_rng(0).integers(0, 256, (2, 6, 4, 3), dtype=np.uint8)
    assert pixels_psnr(frames, frames) == math.inf


def test_psnr_of_nothing_is_not_a_number():
    assert math.isnan(pixels_psnr(np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.uint8)))


def test_squared_errors_do_not_wrap_around_and_span_chunks():
    frames = np.zeros((300, 6, 4, 3), dtype=np.uint8)
    assert pixels_psnr(frames, np.full_like(frames, 255)) == 0
