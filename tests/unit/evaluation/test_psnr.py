import math

import numpy as np
import pytest
import torch

from vqgan.evaluation.psnr import pixels_psnr, structural_similarity


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


def test_ssim_is_that_of_another_library_where_the_window_lies_inside():
    metrics = pytest.importorskip("skimage.metrics", reason="the second opinion is not installed")
    pictures = torch.rand(2, 3, 19, 26, generator=torch.Generator().manual_seed(0)).double() * 255
    others = (pictures + 30 * torch.linspace(-1, 1, 26)).clamp(0, 255)
    others[1] = pictures[1].flip(-1)
    given = {"channel_axis": 0, "data_range": 255, "gaussian_weights": True, "use_sample_covariance": False}
    given |= {"sigma": 1.5, "full": True}
    for pair, found in zip(
        zip(pictures.numpy(), others.numpy(), strict=True),
        structural_similarity(pictures, others),
        strict=True,
    ):
        whole = metrics.structural_similarity(*pair, **given)[1]
        assert float(found) == pytest.approx(whole[:, 5:-5, 5:-5].mean(), rel=1e-9)
    assert structural_similarity(pictures, pictures).tolist() == pytest.approx([1, 1])
    assert structural_similarity(*(each.float() for each in (pictures, others))).tolist() == pytest.approx(
        structural_similarity(pictures, others).tolist(), abs=1e-5
    )
