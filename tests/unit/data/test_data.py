"""The names by which sources are given."""

from pathlib import Path

import pytest

from vqgan.data import (
    AtariConfig,
    DigitsConfig,
    FolderConfig,
    IdxConfig,
    ListConfig,
    SampleConfig,
    SourceConfig,
    parse_source,
)
from vqgan.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("digits", DigitsConfig()),
        ("atari:Pong, MsPacman", AtariConfig(games=("Pong", "MsPacman"))),
        ("sample:grass, hubble", SampleConfig(names=("grass", "hubble"))),
        ("folder:a:b", FolderConfig(path="a:b")),
        ("list:names", ListConfig(path="names")),
        ("idx:mnist", IdxConfig(path="mnist")),
        ("some/folder", FolderConfig(path="some/folder")),
        ("names.txt", ListConfig(path="names.txt")),
        ("t/train-images-idx3-ubyte.gz", IdxConfig(path="t/train-images-idx3-ubyte.gz")),
        ("./digits", FolderConfig(path="./digits")),
        ("C:\\photos", FolderConfig(path="C:\\photos")),
    ],
)
def test_a_source_is_named_by_its_kind_or_its_path(text: str, config: SourceConfig) -> None:
    assert parse_source(text) == config


def test_a_file_is_a_list_and_a_folder_with_a_colon_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("a.png\n")
    (tmp_path / "a:b").mkdir()
    assert parse_source(str(tmp_path / "names")) == ListConfig(path=str(tmp_path / "names"))
    assert parse_source(str(tmp_path / "a:b")) == FolderConfig(path=str(tmp_path / "a:b"))


@pytest.mark.parametrize(
    ("text", "hint"),
    [("digit:x", "did you mean `digits`?"), ("ftp:host", "known: "), ("", "a folder"), ("idx:", "idx")],
)
def test_an_unknown_kind_says_what_is_known(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="unknown data source") as caught:
        parse_source(text)
    assert hint in caught.value.hint
