"""What a look at the files says before a training."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqgan.data import FolderConfig, open_source
from vqgan.data.image_files import FileSource
from vqgan.data.loader import check_source
from vqgan.data.source import ArraySource
from vqgan.errors import DataError
from vqgan.images import check_image


def write(folder: Path, good: int, bad: int) -> FolderConfig:
    for number in range(good):
        Image.new("L", (4, 5)).save(folder / f"{number}.png")
    for number in range(bad):
        (folder / f"fake {number}.jpg").write_bytes(b"<html>")
    return FolderConfig(path=str(folder))


def test_too_many_bad_headers_are_refused_by_the_rule_of_reading(tmp_path: Path, caplog) -> None:
    check_source(open_source(write(tmp_path, good=20, bad=4)), 3)
    with pytest.raises(DataError, match="too many images cannot be read: 5 of 25 tried") as caught:
        check_source(open_source(write(tmp_path, good=20, bad=5)), 3)
    assert "5  not an image in a known format" in caught.value.message
    assert caplog.messages == []  # each is named when it is skipped


def test_nothing_is_decoded_and_the_look_is_spread_over_all_files(tmp_path: Path, monkeypatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(
        "vqgan.data.image_files.check_image", lambda path, channels: len(looked.append(path.name) or "1")
    )
    monkeypatch.setattr(FileSource, "max_checked", 4)
    check_source(open_source(write(tmp_path, good=12, bad=0)), 3)
    assert looked == ["0.png", "3.png", "6.png", "9.png"]


def test_a_header_is_enough_to_refuse_what_reading_refuses(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    assert check_image(tmp_path / "cut.png", 3) == 1  # its header is whole
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 3), np.int16))
    np.save(tmp_path / "b.npy", np.zeros((4, 5, 2), np.uint8))
    np.save(tmp_path / "c.npy", np.zeros((4, 5, 5), np.uint8))
    for name, channels, reason in (
        ("cut.png", 5, "the picture has 3 channels, expected 5"),
        ("a.npy", 3, "type int16"),
        ("b.npy", 3, "has 2 channels, expected 3"),
        ("missing.png", 3, "no such file"),
    ):
        with pytest.raises(DataError, match=reason):
            check_image(tmp_path / name, channels)
    assert check_image(tmp_path / "c.npy", 5) == 1


def test_animations_are_named_once_unless_all_frames_are_taken(tmp_path: Path, caplog) -> None:
    config = write(tmp_path, good=3, bad=0)
    for name in "ab":
        frames = [Image.new("L", (4, 5), shade) for shade in (0, 99)]
        frames[0].save(tmp_path / f"{name}.gif", save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.WARNING):
        check_source(open_source(config, frames="all"), 3)
        assert caplog.messages == []
        check_source(open_source(config), 3)
    assert caplog.messages == [
        f"2 files have several frames (for example `{tmp_path / 'a.gif'}`): the first is used; "
        "`data.frames: all` uses all"
    ]


def test_images_in_memory_need_no_look(monkeypatch) -> None:
    monkeypatch.setattr(ArraySource, "check", lambda *_: pytest.fail("an image was looked at"))
    images = np.zeros((3, 4, 5, 1), np.uint8)
    check_source(ArraySource(name="a", images=images), 1)
