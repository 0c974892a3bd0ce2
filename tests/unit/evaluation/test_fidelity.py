"""Fidelity of pictures, against a definition in plain numpy."""

import numpy as np
import pytest

from vqgan.evaluation.fidelity import fidelity


def pictures(count, side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side + 2, 3), np.uint8)


def test_psnr_is_that_of_the_error_of_all_pictures():
    real = pictures(3, 12)
    other = real.copy()
    other[0] = 255 - other[0]
    error = np.square(real.astype(float) - other).mean()
    number = fidelity(real, other)["psnr"]
    assert number.value == pytest.approx(10 * np.log10(255**2 / error))
    assert number.interval[0] < number.value < number.interval[1]


def test_ssim_is_wangs():
    metrics = pytest.importorskip("skimage.metrics")
    real, noise = pictures(2, 24), np.random.default_rng(1).integers(-20, 21, (2, 24, 26, 3))
    other = np.clip(real.astype(int) + noise, 0, 255).astype(np.uint8)
    given = {"channel_axis": 2, "data_range": 255, "gaussian_weights": True, "use_sample_covariance": False}
    maps = (
        metrics.structural_similarity(a, b, win_size=11, full=True, **given)[1]
        for a, b in zip(real, other, strict=True)
    )
    # Only where the whole window lies inside.
    expected = [each[5:-5, 5:-5].mean() for each in maps]
    assert fidelity(real, other)["ssim"].value == pytest.approx(np.mean(expected), abs=1e-5)
    assert "ms_ssim" not in fidelity(real, other)


def test_equal_pictures_are_wholly_similar():
    pytest.importorskip("torchmetrics")
    numbers = fidelity(pictures(1, 176), pictures(1, 176))
    assert numbers["ssim"].value == pytest.approx(1)
    assert numbers["ms_ssim"].value == pytest.approx(1)
    assert numbers["psnr"].value == float("inf")
