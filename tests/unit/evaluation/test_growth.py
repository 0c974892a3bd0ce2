"""Pictures that grow row by row: frames made smaller, of the rows so far. Those of tokens: ``tests/cli/test_frames.py``."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from vqgan.errors import ConfigError, OutputError
from vqgan.evaluation import growth
from vqgan.evaluation.growth import GREYS, RowFrames
from vqgan.images import to_uint8

GREY_LEVELS = {int(value) for value in to_uint8(torch.tensor(GREYS).view(1, 1, 2)).flatten()}


def noise(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)


def area_mean(pixels, rows, columns):
    """Every pixel as many times as there are new ones, then means of as many as there were."""
    height, width, channels = pixels.shape
    fine = pixels.astype(float).repeat(rows, axis=0).repeat(columns, axis=1)
    return np.rint(fine.reshape(rows, height, columns, width, channels).mean(axis=(1, 3)))


def grow(folder, pixels, cuts=(), count=4, info=None):
    """The frames as arrays (rows, columns, channels), and the rows that each says it has."""
    height, width, channels = pixels.shape
    frames = RowFrames(folder, (height, width), channels=channels, count=count, info=info)
    for band in np.split(pixels, cuts):
        frames.write(band)
    assert frames.finish() == [folder / "growth.png", folder / "growth.html"]
    files = [Image.open(path) for path in sorted(folder.glob("frame-*.png"))]
    return [np.asarray(file).reshape(file.height, file.width, -1) for file in files], [
        int(file.text["step"]) for file in files
    ]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "smaller"),
    [
        ((7, 5), (7, 5)),
        ((40, 24), (16, 10)),
        ((33, 50), (11, 16)),
        ((50, 33), (16, 11)),
        ((3, 60), (1, 16)),
        ((17, 16), (16, 15)),
    ],
)
def test_frames_show_the_mean_of_each_area_that_is_there_and_grey_elsewhere(
    size, smaller, channels, tmp_path, monkeypatch
):
    monkeypatch.setattr(growth, "MAX_PAGE_SIDE", 16)
    pixels, (height, _) = noise(*size, channels), size
    pictures, steps = grow(tmp_path, pixels, cuts=sorted([1, 2, height // 2]))
    assert steps == sorted({math.ceil(part * height / 4) for part in (1, 2, 3, 4)})
    whole = area_mean(pixels, *smaller)
    for picture, step in zip(pictures, steps, strict=True):
        done = step * smaller[0] // height
        assert picture.shape == (*smaller, channels)
        assert np.array_equal(picture[:done], whole[:done])
        assert set(picture[done:].flatten().tolist()) <= GREY_LEVELS
    assert np.array_equal(pictures[-1], whole)


def test_the_way_a_picture_is_cut_into_bands_changes_no_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "MAX_PAGE_SIDE", 20)
    pixels = noise(61, 47)
    whole, steps = grow(tmp_path / "whole", pixels)
    for name, cuts in (("rows", range(1, 61)), ("bands", [5, 5, 16, 48])):
        others, same = grow(tmp_path / name, pixels, cuts)
        assert same == steps
        assert all(itertools.starmap(np.array_equal, zip(whole, others, strict=True)))


def test_what_is_not_there_is_chequered(tmp_path):
    (first, *_), _ = grow(tmp_path, noise(64, 24), count=64)
    assert len({int(first[row, column, 0]) for row, column in ((8, 0), (16, 8), (15, 7), (63, 16))}) == 1
    assert first[8, 0, 0] != first[8, 8, 0] != first[16, 8, 0]


def test_memory_does_not_grow_with_the_height(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "MAX_PAGE_SIDE", 256)
    band, peaks = noise(8, 512), []
    for height in (512, 2048):
        frames = RowFrames(tmp_path / str(height), (height, 512), channels=3, count=2)
        tracemalloc.start()
        for _ in range(height // 8):
            frames.write(band)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_rows_that_are_no_part_of_the_picture_or_missing_are_refused(tmp_path):
    frames = RowFrames(tmp_path / "a", (8, 6), channels=3, count=2)
    frames.write(noise(5, 6))
    assert len(list((tmp_path / "a").iterdir())) == 1
    with pytest.raises(ConfigError, match="at most 3 rows"):
        frames.write(noise(4, 6))
    with pytest.raises(ConfigError, match="its last 3 rows are missing"):
        frames.finish()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        RowFrames(tmp_path / "file", (8, 6), channels=3, count=2).write(noise(8, 6))


def test_the_page_counts_rows_and_has_no_outlines_to_show(tmp_path):
    grow(tmp_path, noise(8, 6), count=2, info={"seed": "5"})
    page = (tmp_path / "growth.html").read_text(encoding="utf-8")
    assert 'alt="4 of 8 rows decoded, seed 5"' in page
    assert '<label hidden><input id="outline"' in page
