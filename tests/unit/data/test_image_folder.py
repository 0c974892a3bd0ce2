import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from vqgan.data import FolderConfig, Source, open_source
from vqgan.errors import DataError
from vqgan.images import list_images, save_png, to_float


def picture(path: Path, value: int = 0) -> Path:
    return save_png(to_float(np.full((4, 5, 3), value, np.uint8)), path)


def opened(folder: Path) -> Source:
    return open_source(FolderConfig(path=str(folder)))


def names(folder: Path) -> list[str]:
    return list_images(folder)


def test_files_are_found_in_natural_order_by_their_ending(tmp_path: Path) -> None:
    for name in ("b10.png", "b9.PNG", "a/x2.jpeg", "a/x10.webp", "notes.txt", "a/data.csv", "noending"):
        picture(tmp_path / name)
    assert names(tmp_path) == ["a/x2.jpeg", "a/x10.webp", "b9.PNG", "b10.png"]


def test_hidden_files_and_the_clutter_of_systems_are_left_out(tmp_path: Path) -> None:
    for name in (".hidden.png", ".git/a.png", "__MACOSX/._a.png", "Thumbs.db", "desktop.ini", "good.png"):
        picture(tmp_path / name)
    assert names(tmp_path) == ["good.png"]


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    picture(tmp_path / "folder.jpg" / "a.png")
    assert names(tmp_path) == ["folder.jpg/a.png"]


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "a" / "1.png")
    picture(tmp_path / "elsewhere" / "2.png")
    (tmp_path / "data" / "0-loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "a" / "up").symlink_to("..")
    (tmp_path / "data" / "outside").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "0-alias").symlink_to("a")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")
    assert names(tmp_path / "data") == ["a/1.png", "outside/2.png"]


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "loop").symlink_to("loop")
    assert names(tmp_path) == ["a.png", "loop.png"]
    source = opened(tmp_path)
    assert len(source.fingerprint) == 64
    with pytest.raises(DataError, match="too many levels of symbolic links"):
        source.read(1)


def test_what_cannot_be_read_is_listed_and_refused_when_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "missing")
    (tmp_path / "text.jpg").write_text("no image")
    picture(tmp_path / "z.png")
    source = opened(tmp_path)
    assert [Path(source.label(i)).name for i in range(4)] == ["nowhere.png", "pipe.png", "text.jpg", "z.png"]
    for index, reason in enumerate(("no such file", "not a regular file", "not an image")):
        with pytest.raises(DataError, match=reason):
            source.read(index)
    assert source.read(3).pixels.shape == (4, 5, 3)
    assert len(source.fingerprint) == 64


def test_the_first_folder_is_the_class_when_every_image_has_one(tmp_path: Path) -> None:
    for number, name in enumerate(("dog/b/1.png", "cat/2.png", "class10/3.png", "class9/4.png")):
        picture(tmp_path / name, number)
    source = opened(tmp_path)
    assert source.class_names == ("cat", "class9", "class10", "dog")
    items = [source.read(i) for i in range(4)]
    assert [(int(item.pixels[0, 0, 0]), item.class_index) for item in items] == [
        (1, 0),
        (3, 1),
        (2, 2),
        (0, 3),
    ]
    picture(tmp_path / "without.png")
    mixed = opened(tmp_path)
    assert mixed.class_names == ()
    assert mixed.read(0).class_index is None


def test_a_name_that_is_not_utf8_is_read_and_can_be_printed(tmp_path: Path) -> None:
    good = picture(tmp_path / "a.png")
    os.rename(good, os.fsencode(tmp_path) + b"/caf\xe9.png")
    source = opened(tmp_path)
    assert source.read(0).pixels.shape == (4, 5, 3)
    assert source.label(0).encode() == os.fsencode(tmp_path) + rb"/caf\xe9.png"
    assert len(source.fingerprint) == 64


def test_the_fingerprint_follows_the_list_of_files_and_not_the_place(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        picture(tmp_path / "one" / name)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first = opened(tmp_path / "one").fingerprint
    assert opened(tmp_path / "two").fingerprint == first
    os.rename(tmp_path / "two" / "a" / "1.png", tmp_path / "two" / "a" / "0.png")
    renamed = opened(tmp_path / "two").fingerprint
    picture(tmp_path / "one" / "b" / "4.png")
    assert len({first, renamed, opened(tmp_path / "one").fingerprint}) == 3


def test_held_out_files_stay_held_out_when_files_are_added(tmp_path: Path) -> None:
    def held_out() -> set[str]:
        source = open_source(FolderConfig(path=str(tmp_path))).part("heldout")
        return {source.label(i) for i in range(len(source))}

    for number in range(60):
        picture(tmp_path / f"{number}.png")
    before = held_out()
    for number in range(60, 120):
        picture(tmp_path / f"{number}.png")
    assert before <= held_out()
    assert before


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        ([], "holds no images: it is empty", "give a folder that holds images"),
        ([".hidden.png"], "holds no images: it is empty", "give a folder"),
        (
            ["a.txt", "b.txt", "deep/c.csv", "README"],
            "holds no images: 4 other files were seen (2 `.txt`, 1 `.csv`, 1 without an ending)",
            "images end in .jpg, .jpeg",
        ),
    ],
)
def test_a_folder_without_images_says_what_it_holds(
    files: list[str], message: str, hint: str, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    assert caught.value.message.startswith(f"folder `{tmp_path}` ")
    for part in message.removesuffix(")").split("("):
        assert all(piece in caught.value.message for piece in part.split(", "))
    assert hint in caught.value.hint


def test_a_missing_folder_and_a_file_in_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "missing")
    assert caught.value.message == f"folder `{tmp_path / 'missing'}` does not exist"
    assert "check the path" in caught.value.hint
    with pytest.raises(DataError, match=r"a\.png` is not a folder"):
        opened(picture(tmp_path / "a.png"))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"cannot list folder .*loop`: Too many levels"):
        opened(tmp_path / "loop")
