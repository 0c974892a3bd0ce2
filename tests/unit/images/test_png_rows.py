"""A PNG written band by band."""

import errno
import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vqgan.errors import ConfigError, OutputError
from vqgan.images import png_rows
from vqgan.images.png_rows import PngRows, filtered


def picture(height, width, channels, seed=0):
    """Noise on a slope, so that each of the filters is the best for some rows."""
    generator = np.random.default_rng(seed)
    slope = np.add.outer(np.arange(height), 3 * np.arange(width))[:, :, None] * generator.integers(
        0, 3, (height, 1, 1)
    )
    noise = generator.integers(0, generator.integers(1, 60, (height, 1, 1)), (height, width, channels))
    return (slope + noise).astype(np.uint8)


def write(path, pixels, cuts=(), info=None):
    with PngRows.open(path, pixels.shape[:2], pixels.shape[2], info) as png:
        for band in np.split(pixels, cuts):
            png.write(band)


def read(path):
    with Image.open(path) as image:
        image.load()
        return np.asarray(image).reshape(image.height, image.width, -1), image.mode, image.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3, 4]),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    block=st.sampled_from([1, 200, 1 << 18]),
)
def test_pillow_reads_the_same_pixels_however_they_are_cut_into_bands(
    height, width, channels, cuts, block, tmp_path, monkeypatch
):
    monkeypatch.setattr(png_rows, "_BLOCK", block)
    pixels = picture(height, width, channels, seed=height * 41 + width)
    write(tmp_path / "a.png", pixels, sorted(min(cut, height) for cut in cuts))
    shown, mode, _ = read(tmp_path / "a.png")
    assert np.array_equal(shown, pixels)
    assert mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]


def test_the_text_is_that_of_every_other_picture(tmp_path):
    info = {"command": "sample", "prompt": "Grüße, 世界"}
    write(tmp_path / "a.png", picture(4, 4, 3), info=info)
    assert read(tmp_path / "a.png")[2] == info
    assert b"tEXtcommand\0sample" in (tmp_path / "a.png").read_bytes()[:100]


def predicted(number, left, up, corner):
    """The filters as the standard writes them (section 9)."""
    if number == 4:
        estimate = left + up - corner
        return min((left, up, corner), key=lambda each: abs(estimate - each))
    return {1: left, 2: up}[number]


def test_each_row_has_the_filter_with_the_smallest_sum_of_differences():
    pixels = picture(60, 20, 3)
    rows = pixels.reshape(60, -1)
    packed = filtered(rows[1:], rows[0], 3)
    padded = np.zeros((60, 23, 3), int)
    padded[:, 3:] = pixels
    plain = padded.reshape(60, -1)
    for y in range(1, 60):
        sums = {}
        for number in (1, 2, 4):
            row = [
                (plain[y, x] - predicted(number, plain[y, x - 3], plain[y - 1, x], plain[y - 1, x - 3])) % 256
                for x in range(9, 69)
            ]
            sums[number] = sum(min(value, 256 - value) for value in row)
            if number == packed[y - 1, 0]:
                assert packed[y - 1, 1:].tolist() == row
        assert sums[packed[y - 1, 0]] == min(sums.values())
    assert set(packed[:, 0]) == {1, 2, 4}


@pytest.mark.parametrize("left", range(0, 256, 15))
def test_paeth_is_that_of_the_standard_for_all_bytes(left):
    up, corner = (each.astype(np.uint8).reshape(1, -1) for each in np.divmod(np.arange(65536), 256))
    result = png_rows._paeth(np.full_like(up, left), up, corner)
    estimate = left + up.astype(int) - corner
    distances = np.stack([abs(estimate - left), abs(estimate - up), abs(estimate - corner)])
    wanted = np.choose(distances.argmin(axis=0), [left, up, corner])
    assert np.array_equal(result, wanted)


class StopError(BaseException):
    """Like an interruption: no Exception."""


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt, OSError])
def test_after_an_error_the_old_file_is_untouched_and_nothing_else_is_left(tmp_path, error):
    path = tmp_path / "a.png"
    write(path, picture(4, 4, 1))
    before = path.read_bytes()
    with pytest.raises(error), PngRows.open(path, (8, 8), 3) as png:  # noqa: PT012
        png.write(picture(5, 8, 3))
        raise error
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_what_a_killed_process_left_does_not_get_into_the_file(tmp_path):
    (tmp_path / f".a.png.{os.getpid()}.tmp").write_bytes(b"cut")
    write(tmp_path / "a.png", picture(4, 4, 1))
    assert np.array_equal(read(tmp_path / "a.png")[0], picture(4, 4, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    def fail(path, mode):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OutputError, match="no space left on device") as caught:
        write(tmp_path / "new" / "a.png", picture(300, 300, 3))
    assert "free some space" in caught.value.hint
    assert not any((tmp_path / "new").iterdir())


def test_missing_and_wrong_rows_are_refused(tmp_path):
    path = tmp_path / "a.png"
    with (
        pytest.raises(ConfigError, match="its last 3 rows are missing"),
        PngRows.open(path, (8, 6), 3) as png,
    ):
        png.write(picture(5, 6, 3))
    with PngRows.open(path, (8, 6), 3) as png:
        for wrong in (picture(9, 6, 3), picture(2, 5, 3), picture(2, 6, 1), np.zeros((2, 6, 3), np.float32)):
            with pytest.raises(ConfigError, match=r"expected uint8 \(rows, 6, 3\), at most 8 rows"):
                png.write(wrong)
        png.write(picture(8, 6, 3))
    with pytest.raises(ConfigError, match="2 channels"), PngRows.open(path, (8, 6), 2):
        pass
    with pytest.raises(ConfigError, match="`size` is"), PngRows.open(path, (0, 6), 3):
        pass
    assert [*tmp_path.iterdir()] == [path]
    assert np.array_equal(read(path)[0], picture(8, 6, 3))


def test_the_memory_does_not_grow_with_the_height(tmp_path):
    band = picture(16, 1024, 3)

    def peak(count):
        tracemalloc.start()
        with PngRows.open(tmp_path / "a.png", (16 * count, 1024), 3) as png:
            for _ in range(count):
                png.write(band)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(1)
    few, many = peak(4), peak(64)
    assert many < few + 100_000  # 60 more bands hold three megabytes


def test_photographs_are_packed_as_well_as_by_pillow(tmp_path):
    generator = np.random.default_rng(0)
    waves = np.fft.rfft2(generator.normal(size=(256, 256)))
    distance = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)) + 1 / 256
    soft = np.fft.irfft2(waves / distance**1.5)
    values = 128 + 40 * soft[:, :, None] / soft.std() + generator.normal(size=(256, 256, 3))
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    write(tmp_path / "a.png", pixels)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    ours, theirs = ((tmp_path / name).stat().st_size for name in ("a.png", "b.png"))
    assert ours < 1.05 * theirs < len(zlib.compress(pixels.tobytes()))
