"""What the commands are given: names of results, and parts of images."""

import pytest
import torch
from PIL import Image

from vqgan.cli.conditions import class_values
from vqgan.cli.inputs import find_images, kept_pixels
from vqgan.cli.outputs import check_targets
from vqgan.errors import ConfigError


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("top=0.5", [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]),
        ("bottom=0.25", [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1]]),
        ("left=0.34", [[1, 0, 0]] * 4),
        ("right=0.7", [[0, 1, 1]] * 4),
        ("bottom=0", [[0, 0, 0]] * 4),
    ],
)
def test_a_part_of_an_image_is_a_part_of_its_pixels(part, expected):
    assert torch.equal(kept_pixels(part, (4, 3)), torch.tensor(expected, dtype=torch.bool))


def test_the_name_of_a_class_comes_before_its_number():
    assert class_values("1, 2,0,fox", ["1", "2"]) == ["1", "2", 0, "fox"]
    assert class_values("1") == [1]


def test_what_is_white_in_a_picture_is_kept(tmp_path):
    picture = Image.new("L", (4, 4), 0)
    picture.paste(255, (2, 0, 4, 4))
    picture.save(tmp_path / "mask.png")
    assert kept_pixels(str(tmp_path / "mask.png"), (4, 4)).tolist() == [[False, False, True, True]] * 4


def test_a_mask_of_another_shape_is_fitted_as_the_images_are_and_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    picture = Image.new("L", (12, 4), 0)
    picture.paste(255, (4, 0, 6, 4))
    picture.save(tmp_path / "mask.png")
    assert kept_pixels(str(tmp_path / "mask.png"), (8, 8)).tolist() == [[True] * 4 + [False] * 4] * 8
    assert caplog.messages == [
        f"the mask `{tmp_path / 'mask.png'}` has 4x12 pixels: resized to 8x8, the centre of another shape"
    ]
    caplog.clear()
    kept_pixels(str(tmp_path / "mask.png"), (4, 12))
    assert caplog.messages == []


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_in_a_picture_is_drawn(mode, tmp_path):
    picture = Image.new("RGBA", (4, 2), (255, 255, 255, 255))
    picture.paste((255, 255, 255, 0), (2, 0, 4, 2))
    picture.convert(mode).save(tmp_path / "mask.png")
    assert kept_pixels(str(tmp_path / "mask.png"), (2, 4)).tolist() == [[True, True, False, False]] * 2


@pytest.mark.parametrize("keep", ["top=1", "mask.png"])
def test_a_mask_that_keeps_everything_says_so(keep, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (4, 4), 255).save("mask.png")
    assert kept_pixels(keep, (4, 4)).all()
    assert caplog.messages[0].startswith(f"`--keep {keep}` keeps everything: nothing is left to draw; ")


def test_a_mask_that_keeps_nothing_says_so(caplog):
    assert not kept_pixels("top=0", (4, 4)).any()
    assert caplog.messages == ["`--keep top=0` keeps nothing: all is drawn, as by `vqgan sample`"]


def test_results_are_named_by_their_path_in_the_given_folder(tmp_path):
    for name in ("b10.png", "b2.jpg", "sub/a.png", "B2.PNG", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = dict(find_images([str(tmp_path), str(tmp_path / "b2.jpg")]))
    assert set(found) == {"B2", "b2-2", "b10", "sub/a", "b2-3"}
    assert found["b2-3"] == tmp_path / "b2.jpg"


def test_a_result_never_replaces_what_it_is_made_from_however_that_is_named(tmp_path):
    photo, mask, link = tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "in" / "link.png"
    link.parent.mkdir()
    photo.touch()
    mask.touch()
    link.symlink_to(photo)
    check_targets(tmp_path, ["new.png", "other.png"], [photo, tmp_path / "absent.png", tmp_path / "top=0.5"])
    for folder, name, *inputs in (
        (tmp_path, "photo", photo),
        (tmp_path / "in" / "..", "photo", photo),
        (tmp_path, "photo", link),
        (tmp_path, "in/link", photo),
        (tmp_path, "mask", photo, mask),
    ):
        with pytest.raises(ConfigError, match="would replace the input") as caught:
            check_targets(folder, [f"{name}.png"], inputs, overwrite=True)
        assert caught.value.hint == "give another folder with `--out`"
