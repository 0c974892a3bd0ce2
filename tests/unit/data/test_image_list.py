import os
from pathlib import Path

import numpy as np
import pytest

from vqgan.data import ListConfig, Source, open_source
from vqgan.errors import DataError
from vqgan.images import save_png, to_float


def opened(tmp_path: Path, text: str | bytes) -> Source:
    for number in range(3):
        save_png(to_float(np.full((2, 3, 3), number, np.uint8)), tmp_path / "p" / f"{number}.png")
    data = text.encode() if isinstance(text, str) else text
    (tmp_path / "list.txt").write_bytes(data)
    return open_source(ListConfig(path=str(tmp_path / "list.txt")))


def values(source: Source) -> list[int]:
    return [int(source.read(i).pixels[0, 0, 0]) for i in range(len(source))]


def test_paths_are_relative_to_the_file_and_keep_its_order(tmp_path: Path) -> None:
    text = f"\ufeff# comment\r\n\r\np/2.png\r\n  p/0.png \n{tmp_path}/p/1.png\n\np/2.png"
    source = opened(tmp_path, text)
    assert values(source) == [2, 0, 1, 2]
    assert source.class_names == ()
    assert source.label(0) == str(tmp_path / "p" / "2.png")


def test_a_class_may_follow_after_a_tab(tmp_path: Path) -> None:
    source = opened(tmp_path, "p/0.png\tred fox\np/1.png\tcat\np/2.png\tred fox\n")
    assert source.class_names == ("cat", "red fox")
    assert [source.read(i).class_index for i in range(3)] == [1, 0, 1]
    other = opened(tmp_path, "p/0.png\tcat\np/1.png\tcat\np/2.png\tred fox\n")
    assert other.fingerprint != source.fingerprint


def test_a_name_that_is_not_utf8_is_found(tmp_path: Path) -> None:
    opened(tmp_path, "p/0.png")
    os.rename(tmp_path / "p" / "1.png", os.fsencode(tmp_path) + b"/p/caf\xe9.png")
    (tmp_path / "list.txt").write_bytes(b"p/caf\xe9.png\n")
    source = open_source(ListConfig(path=str(tmp_path / "list.txt")))
    assert values(source) == [1]


def test_a_missing_image_is_refused_when_it_is_read(tmp_path: Path) -> None:
    source = opened(tmp_path, "p/0.png\np/9.png\n")
    with pytest.raises(DataError, match=r"9\.png`: no such file"):
        source.read(1)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "names no images", "one path a line"),
        ("# only a comment\n", "names no images", "one path a line"),
        ("p/0.png\tcat\n\np/1.png\n", "line 3 of list", "the path, a tab and the class"),
        ("p/0.png\np/1.png\tcat\n", "line 2 of list", "the path, a tab and the class"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is not a text file", "give their folder"),
    ],
)
def test_a_list_that_is_none_says_why(text: str | bytes, message: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        opened(tmp_path, text)
    assert message in caught.value.message
    assert f"`{tmp_path / 'list.txt'}`" in caught.value.message
    assert hint in caught.value.hint


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read list `.*a\.txt`: no such file"):
        open_source(ListConfig(path=str(tmp_path / "a.txt")))
