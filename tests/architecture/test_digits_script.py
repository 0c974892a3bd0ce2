"""`benchmarks/digits.py` holds out what it says, and its measures tell a prior that draws one digit of each class."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("digits", BENCHMARKS / "digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_fifth_digit_of_each_class_is_held_out(script):
    source = script.digits()
    parts = [source.part(split) for split in ("train", "heldout")]
    counts = [np.bincount([part.read(n).class_index for n in range(len(part))]) for part in parts]
    assert (len(parts[0]), len(parts[1])) == (1433, 364)
    assert np.array_equal(counts[1], -(-sum(counts) // 5))


def test_distances_are_root_mean_squares_of_pixels(script):
    pictures = np.zeros((3, 2, 2, 1), np.uint8)
    pictures[1], pictures[2, 0, 0] = 200, 100
    assert np.array_equal(script.distances(pictures[:1], pictures), [[0, 200, 50]])
    assert script.spread(pictures, np.array([4, 4, 7])) == pytest.approx(100)  # one pair, and a single one


def test_the_confusion_counts_what_was_asked_by_rows(script):
    counts = script.confusion(np.array([3, 3, 3, 5]), np.array([3, 8, 8, 5]))
    assert (counts[3][3], counts[3][8], counts[5][5], sum(map(sum, counts))) == (1, 2, 1, 4)
