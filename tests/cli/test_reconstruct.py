"""`vqgan reconstruct`, `encode` and `decode`."""

import json
import re

import numpy as np
import pytest
from PIL import Image


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_reconstruct_keeps_names_and_sizes(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in" / "deep" / "er", count=1, size=(24, 32))
    write_images(tmp_path / "in", count=1)
    result = run("reconstruct", trained.tokenizer, tmp_path / "in", "--out", tmp_path / "out")
    assert result.code == 0
    assert result.paths == [tmp_path / "out" / "0.png", tmp_path / "out" / "deep" / "er" / "0.png"]
    assert [pixels(path).shape for path in result.paths] == [(16, 16, 3), (24, 32, 3)]
    assert Image.open(result.paths[0]).text["command"] == "reconstruct"


def test_label_maps_come_back_as_label_maps(trained, tmp_path, run):
    for number in range(8):
        picture = Image.fromarray(np.tile(np.arange(18, dtype=np.uint8) // 6, (17, 1)).T.copy() + number % 2)
        picture.putpalette([7, 7, 7] * 256)
        (tmp_path / "maps").mkdir(exist_ok=True)
        picture.save(tmp_path / "maps" / f"{number}.png")
    (tmp_path / "names.txt").write_text("sky\ntree\nsea\nland\n", encoding="utf-8")
    model, out = tmp_path / "run", tmp_path / "out"
    sets = (
        "tokenizer.autoencoder.image_channels=4",
        "task.pixels=cross_entropy",
        f"task.label_names={tmp_path}/names.txt",
    )
    flags = [word for each in sets for word in ("--set", each)]
    begun = run(
        "train", "tokenizer", trained.tokenizer_file, "--data", tmp_path / "maps", "--out", model, *flags
    )
    assert begun.code == 0, begun.err
    assert "4: sky, tree, sea, land" in run("info", model).out
    result = run("reconstruct", model, tmp_path / "maps", "--out", out, "--compare")
    assert result.code == 0, result.err
    assert "labels kept: " in result.err
    back = [Image.open(path) for path in result.paths[:-1]]
    assert {(each.mode, each.size) for each in back} == {("P", (17, 18))}
    same = [
        np.mean(pixels(tmp_path / "maps" / f"{i}.png") == np.asarray(each)) for i, each in enumerate(back)
    ]
    assert [float(each.text["accuracy"]) for each in back] == pytest.approx(same, abs=1e-4)
    assert pixels(result.paths[-1]).shape[2] == 3
    assert run("encode", model, tmp_path / "maps", "--out", tmp_path / "codes").code == 0
    decoded = run("decode", model, tmp_path / "codes", "--out", tmp_path / "again").paths
    for path, each in zip(decoded, back, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(each))
    resized = run(
        "reconstruct", model, tmp_path / "maps" / "0.png", "--size", "32", "--out", tmp_path / "large"
    )
    assert pixels(resized.paths[0]).shape == (32, 32)


def test_a_prior_lends_its_tokenizer(trained, tmp_path, run):
    image = trained.images / "dark" / "0.png"
    for model in ("tokenizer", "prior"):
        assert run("reconstruct", getattr(trained, model), image, "--out", tmp_path / model).code == 0
    assert np.array_equal(pixels(tmp_path / "tokenizer" / "0.png"), pixels(tmp_path / "prior" / "0.png"))


def test_any_size_comes_back_unless_it_is_cropped(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in" / "a", count=1, size=(18, 23))
    write_images(tmp_path / "in" / "b", count=1, size=(19, 22))
    shapes = {"crop": [(16, 20, 3)] * 2, "pad": [(18, 23, 3), (19, 22, 3)]}
    for fit, flags in (("crop", ["--fit", "crop"]), ("pad", [])):
        out = {name: tmp_path / fit / name for name in ("back", "codes", "decoded")}
        back = run("reconstruct", trained.tokenizer, tmp_path / "in", "--out", out["back"], *flags)
        assert run("encode", trained.tokenizer, tmp_path / "in", "--out", out["codes"], *flags).code == 0
        decoded = run("decode", trained.tokenizer, out["codes"], "--out", out["decoded"])
        for result in (back, decoded):
            assert [pixels(path).shape for path in result.paths] == shapes[fit]
        for one, other in zip(back.paths, decoded.paths, strict=True):
            assert np.abs(pixels(one) - pixels(other)).max() <= 1


def test_reconstruct_says_how_near_each_image_comes_and_shows_it_on_request(
    trained, tmp_path, write_images, run
):
    write_images(tmp_path / "in", count=1, size=(18, 23))
    write_images(tmp_path / "in" / "comparison", count=1, size=(300, 16))
    (tmp_path / "in" / "comparison" / "0.png").rename(tmp_path / "in" / "comparison.png")
    result = run("reconstruct", trained.tokenizer, tmp_path / "in", "--out", tmp_path / "out", "--compare")
    assert [path.name for path in result.paths] == ["0.png", "comparison.png", "comparison-2.png"]
    *images, sheet = result.paths
    said = [float(decibels) for decibels in re.findall(r"PSNR ([\d.]+) dB", result.err)]
    for path, decibels in zip(images, said, strict=False):
        error = np.mean((pixels(tmp_path / "in" / path.name) - pixels(path)) ** 2)
        assert decibels == pytest.approx(10 * np.log10(255**2 / error), abs=0.01)
        assert Image.open(path).text["psnr"] == f"{decibels:.2f}"
    assert said[2] == pytest.approx(sum(said[:2]) / 2, abs=0.01)
    assert "dB in the mean of 2" in result.err
    # Four cells in a row, as large as the largest of each side; the tall image is made smaller.
    assert pixels(sheet).shape == (256 + 4, 4 * 23 + 5 * 2, 3)
    assert np.array_equal(pixels(sheet)[2:20, 2:25], pixels(tmp_path / "in" / "0.png"))
    assert np.array_equal(pixels(sheet)[2:20, 27:50], pixels(images[0]))


def test_size_brings_all_images_to_one(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in", count=2, size=(19, 50))
    result = run(
        "reconstruct", trained.tokenizer, tmp_path / "in", "--out", tmp_path / "out", "--size", "8x12"
    )
    assert [pixels(path).shape for path in result.paths] == [(8, 12, 3)] * 2


def test_no_image_is_made_larger_than_any_that_is_read(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in", count=1, size=(8, 8))
    words = ["reconstruct", trained.tokenizer, tmp_path / "in", "--out", tmp_path / "out"]
    result = run(*words, "--size", "30000x30000")
    assert result.code == 3
    assert "an image of 30000x30000 pixels is asked for, expected at most 64 megapixels" in result.err


def test_a_bad_file_among_good_ones_is_named_and_left_out(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in", count=3)
    (tmp_path / "in" / "1.png").write_bytes(b"no picture")
    result = run("reconstruct", trained.tokenizer, tmp_path / "in", "--out", tmp_path / "out")
    assert result.code == 0
    assert [path.name for path in result.paths] == ["0.png", "2.png"]
    assert f"skipped `{tmp_path / 'in' / '1.png'}`: " in result.err


def test_large_images_pass_in_bands_where_memory_is_short(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in", count=1, size=(256, 192))
    words = ["reconstruct", trained.tokenizer, tmp_path / "in", "--out"]
    whole, banded = run(*words, tmp_path / "whole"), run(*words, tmp_path / "banded", "--memory", 0.079)
    assert "in bands of rows" not in whole.err
    for doing in ("encoding", "decoding"):
        assert f"{doing} 256x192 pixels in bands of rows, within 0.079 GB" in banded.err
    assert pixels(banded.paths[0]).shape == (256, 192, 3)
    difference = np.abs(pixels(whole.paths[0]).astype(int) - pixels(banded.paths[0]).astype(int))
    assert difference.mean() < 0.05
    assert Image.open(banded.paths[0]).text["memory"] == "0.079"


def test_decode_makes_of_many_images_what_reconstruct_makes_of_each(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in", count=2, size=(256, 192))
    few = ["--memory", 0.079]
    back = run("reconstruct", trained.tokenizer, tmp_path / "in", "--out", tmp_path / "back", *few)
    run("encode", trained.tokenizer, tmp_path / "in", "--out", tmp_path / "codes", *few)
    decoded = run("decode", trained.tokenizer, tmp_path / "codes", "--out", tmp_path / "decoded", *few)
    assert back.err.count("decoding 256x192 pixels in bands of rows") == 1
    for one, other in zip(back.paths, decoded.paths, strict=True):
        assert np.array_equal(pixels(one), pixels(other))
    assert Image.open(decoded.paths[0]).text["batch_size"] == "16"


@pytest.mark.parametrize("command", ["reconstruct", "encode", "decode"])
@pytest.mark.parametrize("memory", [-1, 0, 2000000, "nan"])
def test_a_number_of_gigabytes_out_of_range_is_refused_before_the_model_is_read(
    trained, tmp_path, run, command, memory
):
    result = run(
        command, tmp_path / "no-model", trained.images, "--out", tmp_path / "out", f"--memory={memory}"
    )
    assert result.code == 2
    assert f"`--memory` is {float(memory)}, expected a number above 0 and below 1048576" in result.err
    assert "hint: it counts GB of 2^30 bytes: `--memory 4`" in result.err


@pytest.mark.parametrize("command", ["reconstruct", "encode"])
def test_too_little_memory_is_refused_with_what_would_do(trained, tmp_path, run, command):
    result = run(command, trained.tokenizer, trained.images, "--out", tmp_path / "out", "--memory", 0.001)
    assert result.code == 2
    assert "do not fit in 0.001 GB, not even row by row\nhint: allow at least" in result.err
    assert not (tmp_path / "out").exists()


def test_images_of_one_name_do_not_overwrite_each_other(trained, tmp_path, write_images, run):
    for folder in ("a", "b"):
        write_images(tmp_path / folder, count=1)
    Image.open(tmp_path / "a" / "0.png").save(tmp_path / "a" / "0.bmp")
    words = [tmp_path / "a" / "0.png", tmp_path / "a" / "0.bmp", tmp_path / "b", "--out", tmp_path / "out"]
    assert [path.name for path in run("reconstruct", trained.tokenizer, *words).paths] == [
        "0.png",
        "0-2.png",
        "0-3.png",
    ]


def test_decode_inverts_encode_up_to_the_tokenizer(trained, tmp_path, run):
    encoded = run("encode", trained.tokenizer, trained.images, "--out", tmp_path / "codes")
    assert encoded.code == 0
    assert encoded.paths == [tmp_path / "codes" / "codes.npy", tmp_path / "codes" / "codes.json"]
    codes = np.load(tmp_path / "codes" / "codes.npy")
    assert (codes.shape, codes.dtype) == ((20, 4, 4), np.uint16)
    names = json.loads((tmp_path / "codes" / "codes.json").read_text())["names"]
    assert names == [f"{place}/{number}" for place in ("dark", "light") for number in range(10)]
    decoded = run(
        "decode", trained.tokenizer, tmp_path / "codes", "--out", tmp_path / "out", "--batch-size", 3
    )
    assert decoded.code == 0
    assert decoded.paths == [tmp_path / "out" / f"{name}.png" for name in names]
    run("reconstruct", trained.tokenizer, trained.images, "--out", tmp_path / "same")
    for name in names:
        result, expected = (pixels(tmp_path / folder / f"{name}.png") for folder in ("out", "same"))
        assert np.abs(result - expected).max() <= 1
    assert Image.open(decoded.paths[0]).text["command"] == "decode"


@pytest.mark.parametrize(("first", "second"), [("bf16", "fp32"), ("fp32", "bf16"), ("fp16", "auto")])
def test_codes_belong_to_a_tokenizer_in_every_precision(first, second, trained, tmp_path, run):
    where = ["--device", "cpu", "--precision"]
    words = [trained.tokenizer, trained.images / "dark", "--out", tmp_path / "codes", *where, first]
    assert run("encode", *words).code == 0
    for model in (trained.tokenizer, trained.prior):
        result = run("decode", model, tmp_path / "codes", "--out", tmp_path / "out", *where, second)
        assert result.code == 0, result.err
        used = "fp32" if second == "auto" else second
        assert Image.open(result.paths[0]).text["precision"] == used


def test_the_precision_that_was_used_is_recorded(trained, tmp_path, run):
    for given, used in (("auto", "fp32"), ("bf16", "bf16")):
        words = [
            trained.images / "dark" / "0.png",
            "--out",
            tmp_path,
            "--device",
            "cpu",
            "--precision",
            given,
        ]
        result = run("reconstruct", trained.tokenizer, *words)
        assert Image.open(result.paths[0]).text["precision"] == used
