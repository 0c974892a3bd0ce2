"""Folders as people have them: two parts, a folder around the classes, and what is said of them."""

import logging
from pathlib import Path

import numpy as np
import pytest

from vqgan.data import FolderConfig, open_source
from vqgan.data.source import Source, Split
from vqgan.errors import DataError
from vqgan.images import save_png, to_float


def folder(root: Path, *names: str) -> FolderConfig:
    for name in names:
        save_png(to_float(np.zeros((4, 5, 3), np.uint8)), root / name)
    return FolderConfig(path=str(root))


def opened(config: FolderConfig, split: Split = "all") -> Source:
    return open_source(config).part(split)


def names(config: FolderConfig, split: Split = "all") -> list[str]:
    source = opened(config, split)
    return [Path(source.label(i)).relative_to(config.path).as_posix() for i in range(len(source))]


@pytest.mark.parametrize("part", ["val", "valid", "validation", "test"])
def test_train_and_a_held_out_folder_are_the_two_parts(part: str, tmp_path: Path) -> None:
    config = folder(
        tmp_path, "train/cat/1.png", "train/dog/2.png", "train/dog/deep/3.png", f"{part}/dog/4.png"
    )
    assert opened(config).held_out is not None
    assert names(config, "train") == ["train/cat/1.png", "train/dog/2.png", "train/dog/deep/3.png"]
    assert names(config, "heldout") == [f"{part}/dog/4.png"]
    for split in ("train", "heldout", "all"):
        assert opened(config, split).class_names == ("cat", "dog")
    assert opened(config, "heldout").read(0).class_index == 1


def test_validation_comes_before_test_and_what_lies_elsewhere_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = folder(
        tmp_path, "train/1.png", "train/2.png", "test/3.png", "val/4.png", "cover.png", "more/5.png"
    )
    with caplog.at_level(logging.INFO, logger="vqgan.data"):
        assert names(config) == ["train/1.png", "train/2.png", "val/4.png"]
    assert names(config, "heldout") == ["val/4.png"]
    assert caplog.messages == [
        f"`{tmp_path}`: 3 images without classes; 1 held out come from `val`; 3 elsewhere are ignored"
    ]


def test_parts_of_which_one_has_no_classes_have_none(tmp_path: Path) -> None:
    config = folder(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/3.png")
    assert opened(config).class_names == ()
    assert names(config, "heldout") == ["test/3.png"]


def test_a_class_that_is_only_held_out_is_refused(tmp_path: Path) -> None:
    config = folder(tmp_path, "train/cat/1.png", "val/cat/2.png", "val/fox/3.png")
    with pytest.raises(DataError, match=r"val` has the class `fox`, which `train` lacks") as caught:
        opened(config)
    assert "eval_data=" in caught.value.hint
    assert opened(FolderConfig(path=str(tmp_path / "val"))).class_names == ("cat", "fox")


@pytest.mark.parametrize("names", [["train/1.png", "car/2.png"], ["val/1.png", "test/2.png"]])
def test_folders_that_are_no_two_parts_are_classes(names: list[str], tmp_path: Path) -> None:
    config = folder(tmp_path, *names)
    assert opened(config).held_out is None
    assert len(opened(config).class_names) == 2


def test_a_folder_around_the_classes_is_looked_through(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = folder(tmp_path, "data/images/a/1.png", "data/images/b/2.png", "data/images/b/3.png")
    with caplog.at_level(logging.INFO, logger="vqgan.data"):
        source = opened(config)
    assert source.class_names == ("a", "b")
    assert source.label(2) == str(tmp_path / "data/images/b/3.png")
    assert caplog.messages == [f"`{tmp_path / 'data/images'}`: 3 images in 2 classes"]
    inner = opened(FolderConfig(path=str(tmp_path / "data/images")))
    assert source.fingerprint == inner.fingerprint


def test_the_two_parts_are_found_in_a_folder_around_them(tmp_path: Path) -> None:
    config = folder(tmp_path, "photos/train/a/1.png", "photos/train/b/2.png", "photos/val/a/3.png")
    assert names(config, "heldout") == ["photos/val/a/3.png"]
    assert opened(config).class_names == ("a", "b")


@pytest.mark.parametrize(
    ("files", "classes"), [(["a/1.png", "a/2.png"], ("a",)), (["a/1.png", "a/b/2.png"], ("a",))]
)
def test_a_single_folder_with_images_in_it_is_a_class(
    files: list[str], classes: tuple[str, ...], tmp_path: Path
) -> None:
    assert opened(folder(tmp_path, *files)).class_names == classes


def test_the_fingerprint_of_a_plain_folder_stays(tmp_path: Path) -> None:
    """Recorded when runs already kept it: a run goes on with its folder."""
    for number, name in enumerate(("a/1.png", "a/2.png", "b/3.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * number)
    prints = [opened(FolderConfig(path=str(tmp_path)), split).fingerprint[:16] for split in ("all", "train")]
    assert prints == ["e59e92fc3d5ebe96", "0fbaf15b3b90d8c6"]
