"""Intervals, and the refusal to compare numbers of different conventions."""

import numpy as np
import pytest

from vqgan.errors import ConfigError
from vqgan.evaluation import numbers
from vqgan.evaluation.numbers import Number, compared, mean_interval


def test_the_interval_holds_the_mean_and_narrows_with_more_pictures():
    few = np.random.default_rng(1).normal(size=16)
    mean, low, high = mean_interval(few)
    assert mean == few.mean()
    assert low < mean < high
    _, lower, upper = mean_interval(np.tile(few, 64))
    assert upper - lower < (high - low) / 4
    assert mean_interval(few) == (mean, low, high)


def test_many_pictures_are_drawn_in_parts(monkeypatch):
    values = np.random.default_rng(1).normal(size=50)
    whole = mean_interval(values)
    monkeypatch.setattr(numbers, "_AT_ONCE", 1000)
    assert mean_interval(values) == pytest.approx(whole, abs=0.05)


def test_a_falling_function_of_the_mean_keeps_the_interval_in_order():
    number = Number.mean(np.array([1.0, 2.0, 3.0, 6.0]), lambda value: -value)
    assert number.value == -3
    assert number.interval[0] < -3 < number.interval[1]
    assert number.text().startswith("-3 (-")


def wilson(share, count, normal=1.959964):
    """The two shares from whose standard error the found one is just as far as is allowed, by bisection."""
    ends = []
    for low, high in ((0.0, share), (1.0, share)):
        for _ in range(60):
            middle = (low + high) / 2
            is_far = abs(share - middle) > normal * np.sqrt(middle * (1 - middle) / count)
            low, high = (middle, high) if is_far else (low, middle)
        ends.append(low)
    return tuple(ends)


@pytest.mark.parametrize(("hits", "count"), [(3, 10), (0, 20), (20, 20), (1, 1), (500, 800)])
def test_the_interval_of_a_share_is_wilsons(hits, count):
    number = Number.share((np.arange(count) < hits).astype(float), note="so")
    assert number.value == hits / count
    assert (number.count, number.note) == (count, "so")
    assert number.interval == pytest.approx(wilson(hits / count, count), abs=1e-9)


def test_equal_conventions_are_compared_and_others_named():
    one = {"psnr": Number(20.0, 4)}
    two = {"psnr": Number(21.0, 4), "ssim": Number(0.5, 4)}
    same = {"crop": "center", "images": 4}
    found = list(compared((same, {"reconstruction": one}), (same, {"reconstruction": two})))
    assert found == [("reconstruction", "psnr", one["psnr"], two["psnr"])]
    other = {"crop": "center", "images": 8}
    with pytest.raises(ConfigError, match="cannot be compared: `images` is 4 and 8"):
        list(compared((same, {}), (other, {})))


def test_weights_of_lpips_matter_only_where_both_measured_it():
    number = {"reconstruction": {"psnr": Number(20.0, 4)}}
    one, two = ({"images": 4, "lpips": weights} for weights in ("VGG16 a", "VGG16 b"))
    assert len(list(compared((one, number), ({"images": 4}, number)))) == 1
    assert len(list(compared(({"images": 4}, number), (one, number)))) == 1
    with pytest.raises(ConfigError, match="`lpips` is VGG16 a and VGG16 b"):
        list(compared((one, number), (two, number)))
    with pytest.raises(ConfigError, match="`reference` is statistics a and None"):
        list(compared(({"images": 4, "reference": "statistics a"}, number), ({"images": 4}, number)))
