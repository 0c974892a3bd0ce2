"""``vqgan figure``: its panels are what the commands beside it make."""

import numpy as np
import pytest
from PIL import Image

import vqgan
from vqgan.evaluation.figure import figure
from vqgan.images import to_uint8


def test_pictures_stand_in_rows_below_their_labels():
    one, two = (np.full((48, 96, 3), value, np.uint8) for value in (10, 200))
    found = figure([{"first": one, "second": two}, {"third": two}])
    assert found.shape == (4 + 2 * (48 + 12 + 8), 4 + 2 * 100, 3)
    top, left = 4 + 16, 4
    assert (found[top : top + 48, left : left + 96] == 10).all()
    assert (found[top : top + 48, left + 100 : left + 196] == 200).all()
    assert (found[4:16, 4:100].min(axis=2) < 128).any()  # letters
    assert (found[top + 68 :, left + 96 :] == 255).all()


def test_small_pictures_are_enlarged_by_a_whole_factor():
    found = figure([{"a": np.arange(2, dtype=np.uint8).reshape(1, 2, 1) * 250}])
    assert (found[20:68, 4:52] == 0).all()
    assert (found[20:68, 52:100] == 250).all()


def test_the_command_draws_each_image_by_temperature_and_top_k(run, trained, tmp_path):
    photo = trained.images / "dark" / "0.png"
    words = ("--temperatures", "1,2", "--top-ks", "3", "--class", "dark", "--out", tmp_path)
    result = run("figure", trained.classes, photo, *words)
    assert result.code == 0, result.err
    assert result.paths == [tmp_path / "0.png"]
    pixels = np.asarray(Image.open(tmp_path / "0.png"))
    model, images = vqgan.load(trained.classes, device="cpu"), vqgan.read_images([photo])
    factor, down, across = 6, 96 + 20, 96 + 4

    def panel(row, column):
        top, left = 4 + row * down + 16, 4 + column * across
        return pixels[top : top + 96 : factor, left : left + 96 : factor]

    np.testing.assert_array_equal(panel(0, 0), to_uint8(images)[0])
    np.testing.assert_array_equal(panel(0, 1), to_uint8(model.reconstruct(images))[0])
    assert (panel(0, 2)[8:] == 128).all()
    np.testing.assert_array_equal(panel(1, 1)[:8], to_uint8(images)[0, :8])
    np.testing.assert_array_equal(panel(2, 0)[:8], to_uint8(images)[0, :8])
    assert (panel(1, 1)[8:] != panel(2, 0)[8:]).any()


@pytest.mark.parametrize("words", [("--temperatures", "warm"), ("--top-ks", "1.5"), ("--temperatures", "0")])
def test_what_is_no_list_of_numbers_is_refused(run, trained, tmp_path, words):
    result = run(
        "figure", trained.prior, trained.images / "dark" / "0.png", *words, "--out", tmp_path / "out"
    )
    assert result.code == 2
    assert f"`{words[0]}` is `{words[1]}`, expected numbers above 0" in result.err
