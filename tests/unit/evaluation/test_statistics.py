"""Published statistics: distances from them are those from the features they were taken of, and bad files are named."""

import numpy as np
import pytest
import torch

from vqgan.errors import DataError
from vqgan.evaluation.sets import frechet_distance
from vqgan.evaluation.statistics import read_statistics


def features(count, seed=0, size=5):
    return np.random.default_rng(seed).normal(size=(count, size))


def save(path, rows, **others):
    np.savez(path, mu=rows.mean(axis=0), sigma=np.cov(rows, rowvar=False), **others)
    return path


@pytest.mark.parametrize("count", [60, 4])  # of fewer images than features, the covariance is singular
def test_the_distance_from_statistics_is_that_from_their_features(tmp_path, count):
    rows, others = features(count), torch.from_numpy(features(50, 1) * 2 + 0.3)
    known = read_statistics(save(tmp_path / "a.npz", rows, arr_0=np.zeros((1, 2, 2, 3), np.uint8)))
    expected = frechet_distance(others, torch.from_numpy(rows))
    assert frechet_distance(others, known.gaussian) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(known.gaussian, known.gaussian) == pytest.approx(0, abs=1e-9)


def test_their_digest_is_of_what_they_say(tmp_path):
    one = read_statistics(save(tmp_path / "a.npz", features(9)))
    same = read_statistics(save(tmp_path / "b.npz", features(9), arr_0=np.zeros(3)))
    other = read_statistics(save(tmp_path / "c.npz", features(9, 1)))
    assert one.digest == same.digest != other.digest


def bad_files(folder):
    good = {"mu": np.zeros(3), "sigma": np.eye(3)}
    np.savez(folder / "images.npz", arr_0=np.zeros((2, 4, 4, 3), np.uint8))
    np.savez(folder / "shapes.npz", **(good | {"mu": np.zeros(4)}))
    np.savez(folder / "nan.npz", **(good | {"sigma": np.full((3, 3), np.nan)}))
    np.savez(folder / "negative.npz", **(good | {"sigma": -np.eye(3)}))
    np.savez(folder / "skew.npz", **(good | {"sigma": np.eye(3) + np.eye(3, k=1)}))
    np.savez(folder / "words.npz", **(good | {"mu": np.array(["a", "b", "c"])}))
    np.savez(folder / "objects.npz", **(good | {"mu": np.array([{}, {}, {}])}))
    np.save(folder / "plain.npy", np.zeros(3))
    np.savez(folder / "cut.npz", **good)
    (folder / "cut.npz").write_bytes((folder / "cut.npz").read_bytes()[:200])
    (folder / "text.npz").write_text("mu", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.npz", "cannot read `.*absent.npz`: no such file"),
        ("images.npz", "lacks `mu` or `sigma`"),
        ("shapes.npz", r"has the shape \(4,\) and `sigma` \(3, 3\), expected"),
        ("nan.npz", "`sigma` of `.*` is no covariance"),
        ("negative.npz", "`sigma` of `.*` is no covariance"),
        ("skew.npz", "`sigma` of `.*` is no covariance"),
        ("words.npz", "no `.npz` of numbers, or damaged"),
        ("objects.npz", "no `.npz` of numbers, or damaged"),
        ("plain.npy", "no `.npz` of numbers, or damaged"),
        ("cut.npz", "no `.npz` of numbers, or damaged"),
        ("text.npz", "no `.npz` of numbers, or damaged"),
    ],
)
def test_what_holds_no_statistics_is_refused(tmp_path, name, message):
    bad_files(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        read_statistics(tmp_path / name)
    assert "`mu` and `sigma`" in caught.value.hint
