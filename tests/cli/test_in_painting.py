"""`vqgan complete` with masks, and `vqgan score`."""

import json

import numpy as np
import pytest
from PIL import Image

from vqgan.cli.scoring import heat_map


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


@pytest.fixture
def mask(tmp_path):
    """A hole of 6x5 pixels in 16x16."""
    picture = Image.new("L", (16, 16), 255)
    picture.paste(0, (7, 4, 12, 10))
    picture.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_kept_pixels_come_back_exactly_unless_told(trained, tmp_path, mask, run):
    photo, out = trained.images / "dark" / "0.png", tmp_path / "out"
    words = ["complete", trained.prior, photo, "--keep", mask, "--out", out]
    assert run(*words).code == 0
    kept, found = pixels(mask) == 255, pixels(out / "0.png")
    assert np.array_equal(found[kept], pixels(photo)[kept])
    assert not np.array_equal(found[~kept], pixels(photo)[~kept])
    assert Image.open(out / "0.png").text.items() >= {
        ("keep", str(mask)),
        ("refine", "0"),
        ("margin", "None"),
        ("no_paste", "False"),
    }
    assert run(*words, "--no-paste").code == 0
    assert not np.array_equal(pixels(out / "0.png")[kept], found[kept])


def test_refine_and_margin_draw_other_images(trained, tmp_path, mask, run):
    found = []
    for name, flags in (("a", [0]), ("b", [0, "--refine", 2]), ("c", [1]), ("d", [0, "--refine", 2])):
        words = [
            "--keep",
            mask,
            "--out",
            tmp_path / name,
            "--batch-size",
            2 if name == "d" else 16,
            "--margin",
        ]
        result = run("complete", trained.prior, trained.images / "dark", *words, *flags)
        assert result.code == 0, result.err
        assert ("refine: 100%" in result.err) == ("--refine" in flags)
        found.append(np.stack([pixels(path) for path in result.paths]))
    plain, refined, margin, again = found
    assert not np.array_equal(plain, refined)
    assert not np.array_equal(plain, margin)
    assert np.abs(refined - again).max() <= 1


def test_the_least_probable_tokens_are_drawn_again(trained, tmp_path, run):
    photo = trained.images / "light" / "1.png"
    words = ["complete", trained.prior, photo, "--redraw", 0.1, "--margin", 0, "--out", tmp_path]
    assert run(*words).code == 0
    assert run("score", trained.prior, photo, "--out", tmp_path / "scores").code == 0
    worst = np.load(tmp_path / "scores" / "1.npy").ravel().argsort()[-2:]
    same = (pixels(tmp_path / "1.png") == pixels(photo)).all(axis=2).reshape(4, 4, 4, 4).all(axis=(1, 3))
    assert set(np.flatnonzero(~same)) <= set(worst)
    assert Image.open(tmp_path / "1.png").text["redraw"] == "0.1"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--redraw", 0.1, "--keep", "top=0.5"], "`--redraw` is not possible with `--keep`\nhint: omit one"),
        (["--redraw", 0], "`--redraw` is 0.0, expected 0 < share <= 1\nhint: 0.05 draws the least"),
        (["--redraw", 2], "`--redraw` is 2.0, expected 0 < share <= 1"),
        (["--refine", -1], "`--refine` is `-1`, expected a whole number of at least 0"),
        (["--margin", "x"], "`--margin` is `x`, expected a whole number of at least 0"),
        (
            ["--refine", 1, "--size", "24x20"],
            "`refine` works on grids that the prior sees whole, 4 x 4 tokens: on larger ones a token is part of half a "
            "window of others, which would all be read again for every code\nhint: complete a part of that size",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(trained, tmp_path, run, flags, says):
    result = run("complete", trained.prior, trained.images / "dark", "--out", tmp_path / "out", *flags)
    assert result.code == 2
    assert says in result.err
    assert not (tmp_path / "out").exists()


def test_a_mask_of_another_size_is_resized_and_one_that_keeps_all_or_nothing_says_so(
    trained, tmp_path, mask, run
):
    photo, out = trained.images / "dark" / "0.png", tmp_path / "out"
    Image.open(mask).resize((40, 32)).save(tmp_path / "other.png")
    result = run("complete", trained.prior, photo, "--keep", tmp_path / "other.png", "--out", out)
    assert result.code == 0
    assert "has 32x40 pixels: resized to 16x16, the centre of another shape" in result.err
    for value, says in (
        (255, "keeps everything: nothing is left to draw"),
        (0, "keeps nothing: all is drawn"),
    ):
        Image.new("L", (16, 16), value).save(tmp_path / "all.png")
        result = run("complete", trained.prior, photo, "--keep", tmp_path / "all.png", "--out", out)
        assert result.code == 0
        assert says in result.err
        assert np.array_equal(pixels(out / "0.png"), pixels(photo)) == (value == 255)


@pytest.mark.parametrize("size", [(16, 16), (24, 30)])
def test_every_token_of_an_image_gets_a_number_and_a_colour(size, trained, tmp_path, write_images, run):
    write_images(tmp_path / "in", count=2, size=size)
    result = run("score", trained.classes, tmp_path / "in", "--class", "dark", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    names = [f"{number}{ending}" for number in range(2) for ending in (".png", ".npy", ".json")]
    assert [path.name for path in result.paths] == names
    nats, shown = np.load(tmp_path / "out" / "1.npy"), Image.open(tmp_path / "out" / "1.png")
    assert nats.shape == (size[0] // 4, size[1] // 4)
    assert (nats > 0).all()
    assert (shown.height, shown.width) == (size[0], size[1] // 4 * 4)
    table = json.loads((tmp_path / "out" / "1.json").read_text())
    assert table["mean_nats"] == pytest.approx(nats.mean())
    assert table["size"] == [shown.height, shown.width]
    assert shown.text["mean_nats"] == f"{nats.mean():.4f}"
    assert f"{nats.mean():.3f} nats a token, a guess has 2.773" in result.err
    again = run("score", trained.classes, tmp_path / "in", "--class", "light", "--out", tmp_path / "out")
    assert again.code == 0  # it replaces its own
    assert not np.array_equal(np.load(tmp_path / "out" / "1.npy"), nats)
    named = tmp_path / "in" / "1.npy"
    named.write_bytes(b"mine")
    refused = run(
        "score",
        trained.classes,
        tmp_path / "in" / "1.png",
        "--class",
        0,
        "--out",
        tmp_path / "in",
        "--size",
        16,
    )
    assert refused.code == 2
    assert "would replace" in refused.err
    assert named.read_bytes() == b"mine"


def test_what_cannot_be_scored_is_refused(trained, tmp_path, write_images, run):
    write_images(tmp_path / "small", count=1, size=(16, 12))
    out = ["--out", tmp_path / "out"]
    for words, code, says in (
        (
            [trained.prior, tmp_path / "small"],
            2,
            "a grid of 4 x 3 tokens is too small for a prior trained on 4 x 4",
        ),
        ([trained.prior], 2, "no images were given"),
        ([trained.prior, tmp_path / "none.png"], 3, "none.png` does not exist"),
        ([trained.tokenizer, trained.images], 5, "holds a tokenizer; new images need a prior"),
        ([trained.classes, trained.images], 2, "this prior draws images of a class"),
        (
            [trained.classes, trained.images, "--class", "0,1"],
            2,
            "names 2 classes, expected one for all images",
        ),
    ):
        result = run("score", *words, *out)
        assert result.code == code
        assert says in result.err
        assert not (tmp_path / "out").exists()


def test_a_heat_map_goes_from_black_over_red_and_yellow_to_white():
    black = np.zeros((2, 8, 3), np.uint8)
    found = heat_map(black, np.array([[0.0, 1 / 3, 2 / 3, 5.0]]))
    colours = [[0, 0, 0], [153, 0, 0], [153, 153, 0], [153, 153, 153]]
    assert found.tolist() == [[each for each in colours for _ in range(2)]] * 2
    assert heat_map(black + 255, np.zeros((1, 4)))[0, 0].tolist() == [102] * 3
