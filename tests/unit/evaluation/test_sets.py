"""Distances of sets of features, against closed forms, scipy and torchmetrics."""

import math

import numpy as np
import pytest
import torch

from vqgan.errors import ConfigError
from vqgan.evaluation.sets import frechet_distance, inception_score, kernel_distance, neighbour_numbers


def features(count, seed=0, size=5, shift=0.0):
    return (
        torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift
    )


def test_equal_sets_have_no_frechet_distance():
    assert frechet_distance(features(40), features(40)) == pytest.approx(0, abs=1e-12)


def test_the_frechet_distance_is_the_formula_of_two_gaussians():
    linalg = pytest.importorskip("scipy.linalg")
    one, two = features(60), features(50, 1, shift=0.5) * 2
    root = linalg.sqrtm(np.cov(one.T.numpy()) @ np.cov(two.T.numpy())).real
    expected = float((one.mean(0) - two.mean(0)).square().sum())
    expected += np.trace(np.cov(one.T.numpy()) + np.cov(two.T.numpy()) - 2 * root)
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-8)


def test_the_kernel_distance_is_the_unbiased_sum_over_pairs():
    one, two = features(7), features(7, 1, shift=0.3)
    kernel = lambda x, y: (float(x @ y) / 5 + 1) ** 3  # noqa: E731
    own = np.mean([kernel(s[i], s[j]) for s in (one, two) for i in range(7) for j in range(7) if i != j])
    cross = np.mean([kernel(x, y) for x in one for y in two])
    assert kernel_distance(one, two) == (pytest.approx(2 * own - 2 * cross), 0.0)


def test_the_kernel_distance_of_many_images_has_an_error_and_is_always_the_same():
    value, error = kernel_distance(features(1100), features(1050, 1))
    assert abs(value) < 4 * max(error, 1e-3)
    assert error > 0
    assert kernel_distance(features(1100), features(1050, 1)) == (value, error)


def test_the_neighbour_numbers_are_those_of_a_search():
    real, drawn, k = features(12), features(9, 1), 2
    spheres = [sorted((real[i] - other).norm() for other in real)[k] for i in range(12)]
    inside = np.array([[(x - real[i]).norm() <= spheres[i] for i in range(12)] for x in drawn])
    own = [sorted((drawn[i] - other).norm() for other in drawn)[k] for i in range(9)]
    recalled = np.array([[(x - drawn[i]).norm() <= own[i] for i in range(9)] for x in real])
    assert neighbour_numbers(real, drawn, k) == pytest.approx(
        {
            "precision": inside.any(1).mean(),
            "recall": recalled.any(1).mean(),
            "density": inside.sum(1).mean() / k,
            "coverage": inside.any(0).mean(),
        }
    )


def test_equal_sets_are_covered_and_far_ones_are_not():
    assert neighbour_numbers(features(30), features(30))["coverage"] == 1
    far = neighbour_numbers(features(30), features(30, 1, shift=100.0))
    assert set(far.values()) == {0}


def test_too_few_images_are_refused():
    with pytest.raises(ConfigError, match="5 images are too few for 5 nearest neighbours"):
        neighbour_numbers(features(5), features(30))
    with pytest.raises(ConfigError, match="at least 2 images, got 1"):
        frechet_distance(features(1), features(30))


def test_the_inception_score_of_a_known_table():
    table = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    expected = math.exp(0.9 * math.log(1.8) + 0.1 * math.log(0.2))
    assert inception_score(table) == pytest.approx(expected, rel=1e-6)
