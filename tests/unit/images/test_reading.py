"""Odd files: each that is accepted must look right, each that is rejected must say why."""

import io
import logging
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from odd_files import ACCEPTED, COLOUR, REJECTED, over_white
from vqgan.data import FolderConfig, open_source
from vqgan.errors import DataError
from vqgan.images import read_pixels


def read_bytes(data: bytes, channels: int, smallest_side: int | None = None) -> np.ndarray:
    """The pixels of a file that holds these bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return read_pixels(file.name, channels, smallest_side)


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_accepted_file_is_decoded_as_it_looks(name: str, tmp_path: Path) -> None:
    data, expected = ACCEPTED[name]
    (tmp_path / name).write_bytes(data)
    pixels = read_pixels(tmp_path / name, 3)
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(float) - expected).max() <= 1


@pytest.mark.parametrize("name", ACCEPTED)
def test_grey_is_the_luma_of_what_is_seen(name: str) -> None:
    data, expected = ACCEPTED[name]
    luma = np.rint(expected @ [0.299, 0.587, 0.114])
    pixels = read_bytes(data, 1)
    assert pixels.shape == (*expected.shape[:2], 1)
    assert np.abs(pixels[:, :, 0] - luma).max() <= 2  # a rounding of ±1 before and one after


@pytest.mark.parametrize("name", [name for name in ACCEPTED if "key" in name or "transparent" in name])
def test_transparency_is_kept_where_it_is_wanted(name: str) -> None:
    data, over_white_seen = ACCEPTED[name]
    pixels = read_bytes(data, 4)
    assert pixels[:, :, 3].min() < 255
    assert np.abs(over_white(pixels[:, :, :3], pixels[:, :, 3]) - over_white_seen).max() <= 1


@pytest.mark.parametrize("name", REJECTED)
def test_a_rejected_file_says_why(name: str, tmp_path: Path) -> None:
    data, words = REJECTED[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_pixels(path, 3)
    assert caught.value.message.startswith(f"cannot read `{path}`: ")
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) > len(f"cannot read `{path}`: ")


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(DataError, match="not a regular file"):
            read_pixels(tmp_path / name, 3)
    with pytest.raises(DataError, match="no such file or directory"):
        read_pixels(tmp_path / "nothing.png", 3)
    with pytest.raises(DataError, match="null"):
        read_pixels("a\0b.png", 3)


def test_a_path_that_is_not_utf8_is_shown_in_plain_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(ACCEPTED["plain.png"][0])
    assert np.array_equal(read_pixels(path, 3), COLOUR)
    path.write_bytes(b"broken")
    with pytest.raises(DataError, match="known format") as caught:
        read_pixels(path, 3)
    assert r"caf\xe9.png" in str(caught.value).encode("utf-8").decode()


def test_broken_exif_is_noted_for_debugging_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="vqgan.images.reading"):
        read_bytes(ACCEPTED["broken-exif.png"][0], 3)
    assert "EXIF" in caplog.text


def test_the_whole_corpus_in_one_folder_is_listed_and_read_or_refused(tmp_path: Path) -> None:
    for name, (data, _) in {**ACCEPTED, **REJECTED}.items():
        (tmp_path / name).write_bytes(data)
    source = open_source(FolderConfig(path=str(tmp_path)))
    assert len(source) == len(ACCEPTED) + len(REJECTED)
    refused = set()
    for index in range(len(source)):
        try:
            source.read(index)
        except DataError:
            refused.add(Path(source.label(index)).name)
    assert refused == set(REJECTED)


@pytest.mark.parametrize(
    ("smallest_side", "rows"), [(None, 240), (240, 240), (121, 240), (120, 120), (31, 60), (30, 30), (1, 30)]
)
def test_a_jpeg_is_decoded_as_small_as_is_asked_for(smallest_side: int | None, rows: int) -> None:
    pixels = np.tile(np.linspace(0, 255, 480).astype(np.uint8)[:, None], (240, 1, 3))
    for file_format, expected in (("JPEG", (rows, 2 * rows, 3)), ("PNG", (240, 480, 3))):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, file_format)
        result = read_bytes(file.getvalue(), 3, smallest_side=smallest_side)
        assert result.shape == expected
        assert np.abs(result[0, :, 0] - np.linspace(0, 255, expected[1])).max() < 10


def test_a_lack_of_memory_is_no_fault_of_the_file(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(MemoryError):
        read_bytes(ACCEPTED["plain.png"][0], 3)


def test_a_huge_declared_size_costs_no_memory() -> None:
    tracemalloc.start()
    for name in ("large.png", "bomb.png"):
        with pytest.raises(DataError):
            read_bytes(REJECTED[name][0], 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    name=st.sampled_from(
        ["exif-6.jpg", "plain.png", "palette-transparent.png", "plain.webp", "animated.gif", "deep.png"]
    ),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.floats(0.2, 1),
)
def test_a_damaged_file_is_an_image_or_a_data_error(
    name: str, edits: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(ACCEPTED[name][0])
    for place, value in edits:
        data[int(place * len(data))] = value
    try:
        pixels = read_bytes(bytes(data[: int(keep * len(data))]), 3)
    except DataError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
