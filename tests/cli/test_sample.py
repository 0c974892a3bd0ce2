"""`vqgan sample` and `vqgan complete`."""

import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from vqgan.cli import drawing
from vqgan.images import printable


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_sample_writes_images_of_the_trained_size_and_an_overview(trained, tmp_path, run):
    result = run("sample", trained.prior, "--out", tmp_path, "--count", 3)
    assert result.code == 0
    assert [path.name for path in result.paths] == ["000000.png", "000001.png", "000002.png", "grid.png"]
    assert sorted(result.paths) == sorted(tmp_path.iterdir())
    assert pixels(tmp_path / "000002.png").shape == (16, 16, 3)


def test_every_image_says_what_made_it(trained, tmp_path, run):
    words = ["--out", tmp_path, "--count", 1, "--class", "dark,1", "--seed", 5, "--top-k", 9]
    words += ["--jacobi", 3, "--memory", 0.5, "--batch-size", 2]
    assert run("sample", trained.classes, *words).code == 0
    text = Image.open(tmp_path / "000001.png").text
    digest = run("info", trained.classes).out.split("digest ")[1].split()[0]
    assert text == {
        "model": digest,
        "command": "sample",
        "temperature": "1.0",
        "top_k": "9",
        "top_p": "None",
        "jacobi": "3",
        "window_stride": "1",
        "guidance": "0",
        "batch_size": "2",
        "memory": "0.5",
        "precision": "fp32",
        "seed": "6",
        "class": "1",
        "size": "16x16",
    }
    assert Image.open(tmp_path / "grid.png").text == {**text, "seed": "5", "class": "dark,1"}


def test_the_batch_size_does_not_change_the_images(trained, tmp_path, run):
    for size in (1, 4):
        folder = tmp_path / str(size)
        assert run("sample", trained.prior, "--out", folder, "--count", 4, "--batch-size", size).code == 0
    for number in range(4):
        one, four = (pixels(tmp_path / str(size) / f"{number:06d}.png") for size in (1, 4))
        assert np.abs(one - four).max() <= 1


def test_shared_windows_change_large_images_which_say_so(trained, tmp_path, run):
    for stride in (1, 2):
        words = ["--count", 1, "--size", "48x40", "--window-stride", stride, "--out", tmp_path / str(stride)]
        assert run("sample", trained.prior, *words).code == 0
    files = [tmp_path / str(stride) / "000000.png" for stride in (1, 2)]
    assert [Image.open(file).text["window_stride"] for file in files] == ["1", "2"]
    assert not np.array_equal(*map(pixels, files))


@pytest.mark.parametrize("flags", [("--jacobi", 3), ("--memory", 0.08)])
def test_guessing_ahead_and_little_memory_do_not_change_the_images(trained, tmp_path, run, flags):
    assert run("sample", trained.prior, "--out", tmp_path / "a", "--count", 2).code == 0
    assert run("sample", trained.prior, "--out", tmp_path / "b", "--count", 2, *flags).code == 0
    for number in range(2):
        plain, other = (pixels(tmp_path / side / f"{number:06d}.png") for side in "ab")
        assert np.abs(plain - other).max() <= 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ("--memory", 0),
            "`--memory` is 0.0, expected a number above 0 and below 1048576\nhint: it counts GB",
        ),
        (
            ("--memory", 2000000),
            "`--memory` is 2000000.0, expected a number above 0 and below 1048576\nhint: ",
        ),
        (
            ("--memory", 0.001),
            "pixels do not fit in 0.001 GB, not even row by row\nhint: allow at least 0.0",
        ),
        (
            ("--memory", 0.01),
            "not even row by row\nhint: allow at least 0.07",
        ),
        (("--jacobi", 1), "`jacobi` is 1, expected at least 2 tokens\nhint: omit it"),
        (("--jacobi", 4, "--size", "24x20"), "`jacobi` works on grids that the prior sees whole"),
        (
            ("--window-stride", 2),
            "`window_stride` works on grids larger than those that the prior sees whole",
        ),
        (("--frames", 1), "hint"),
    ],
)
def test_impossible_ways_of_drawing_are_refused(trained, tmp_path, run, flags, says):
    result = run("sample", trained.prior, "--out", tmp_path / "out", "--count", 1, *flags)
    assert result.code == 2
    assert says in result.err
    assert not list((tmp_path / "out").glob("*.png"))


def test_large_images_are_completed_in_bands(trained, tmp_path, run):
    words = ["--keep", "top=1", "--size", "256x192", "--memory", 0.079, "--frames", 2, "--out", tmp_path]
    result = run("complete", trained.prior, trained.images / "dark" / "0.png", *words)
    assert result.code == 0, result.err
    assert result.err.count("decoding 256x192 pixels in bands of rows, within 0.079 GB") == 1
    for path in (tmp_path / "0.png", *(tmp_path / "frames").glob("frame-*.png")):
        assert Image.open(path).text["memory"] == "0.079"


def test_images_that_are_written_while_they_are_decoded_are_those_of_sample(trained, tmp_path, run):
    words = ["--count", 2, "--size", "32x48", "--seed", 3]
    assert run("sample", trained.prior, "--out", tmp_path / "a", *words).code == 0
    result = run("sample", trained.prior, "--out", tmp_path / "b", *words, "--zoom")
    assert result.code == 0
    assert [path.name for path in result.paths] == ["000000.png", "000000.html", "000001.png", "000001.html"]
    for name in ("000000", "000001"):
        one, other = (Image.open(tmp_path / folder / f"{name}.png") for folder in "ab")
        assert np.array_equal(one, other)
        assert one.text == other.text
        top = sorted((tmp_path / "b" / f"{name}_files").iterdir(), key=lambda path: int(path.name))[-1]
        assert np.array_equal(Image.open(top / "0_0.png"), one)
    assert (
        run("sample", trained.prior, "--out", tmp_path / "b", *words, "--zoom").code == 0
    )  # replaces its own
    result = run("sample", trained.prior, "--out", tmp_path / "b", *words, "--zoom", "--frames", 3)
    assert result.code == 0, result.err
    growth = [tmp_path / "b" / "frames" / f"growth.{kind}" for kind in ("png", "html")]
    assert result.paths[2:4] == growth
    frames = sorted(growth[0].parent.glob("frame-*.png"))
    assert [Image.open(path).text["step"] for path in frames] == ["11", "22", "32"]
    assert np.array_equal(Image.open(frames[-1]), Image.open(tmp_path / "b" / "000000.png"))


def test_large_images_are_small_in_the_overview(trained, tmp_path, monkeypatch, run):
    monkeypatch.setattr(drawing, "MAX_GRID_SIDE", 8)
    words = ["--out", tmp_path, "--count", 2, "--size", "20x16"]
    assert run("sample", trained.prior, *words).code == 0
    assert pixels(tmp_path / "000000.png").shape == (20, 16, 3)
    assert pixels(tmp_path / "grid.png").shape == (2 + 8 + 2, 2 + 6 + 2 + 6 + 2, 3)
    assert Image.open(tmp_path / "grid.png").text["size"] == "20x16"


def test_the_overview_holds_small_images_as_they_are(trained, tmp_path, run):
    assert run("sample", trained.prior, "--out", tmp_path, "--count", 2).code == 0
    shown = pixels(tmp_path / "grid.png")
    for number in range(2):
        left = 2 + 18 * number
        assert np.array_equal(shown[2:18, left : left + 16], pixels(tmp_path / f"{number:06d}.png"))


def test_image_i_has_the_seed_plus_i(trained, tmp_path, run):
    run("sample", trained.prior, "--out", tmp_path / "a", "--count", 3, "--seed", 7)
    run("sample", trained.prior, "--out", tmp_path / "b", "--count", 1, "--seed", 9)
    same, other = pixels(tmp_path / "a" / "000002.png"), pixels(tmp_path / "a" / "000001.png")
    assert np.abs(same - pixels(tmp_path / "b" / "000000.png")).max() <= 1
    assert np.abs(other - pixels(tmp_path / "b" / "000000.png")).max() > 1


def test_count_is_per_class_and_classes_come_one_after_the_other(trained, tmp_path, run):
    words = ["--out", tmp_path, "--count", 2, "--class", "light,dark", "--batch-size", 3]
    assert run("sample", trained.classes, *words).code == 0
    texts = [Image.open(tmp_path / f"{number:06d}.png").text for number in range(4)]
    assert [text["class"] for text in texts] == ["light", "light", "dark", "dark"]
    assert [text["seed"] for text in texts] == ["0", "1", "2", "3"]
    assert not (tmp_path / "000004.png").exists()


def test_a_class_by_number_is_the_class_by_name(trained, tmp_path, run):
    for value in ("light", "1"):
        run("sample", trained.classes, "--out", tmp_path / value, "--count", 1, "--class", value)
    first, second = (pixels(tmp_path / value / "000000.png") for value in ("light", "1"))
    assert np.array_equal(first, second)


def test_progress_counts_the_tokens_of_all_images(trained, tmp_path, run):
    result = run("sample", trained.prior, "--out", tmp_path, "--count", 5, "--batch-size", 2)
    assert "tokens: 100%" in result.err
    assert "80/80" in result.err


def test_completing_nothing_is_reconstruction(trained, tmp_path, run):
    run("reconstruct", trained.tokenizer, trained.images / "dark", "--out", tmp_path / "all")
    result = run(
        "complete",
        trained.prior,
        trained.images / "dark",
        "--out",
        tmp_path / "kept",
        "--keep",
        "top=1",
        "--no-paste",
    )
    assert result.code == 0
    assert [path.name for path in result.paths] == [f"{number}.png" for number in range(10)]
    for path in result.paths:
        assert np.abs(pixels(path) - pixels(tmp_path / "all" / path.name)).max() <= 1


def test_completing_everything_is_sampling(trained, tmp_path, run):
    images = [trained.images / "dark" / "3.png", trained.images / "light" / "4.png"]
    run("sample", trained.prior, "--out", tmp_path / "new", "--count", 2)
    result = run(
        "complete", trained.prior, *images, "--out", tmp_path / "done", "--keep", "left=0", "--batch-size", 1
    )
    for number, path in enumerate(result.paths):
        assert np.abs(pixels(path) - pixels(tmp_path / "new" / f"{number:06d}.png")).max() <= 1


def test_a_picture_says_what_is_kept(trained, tmp_path, run):
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    image = trained.images / "dark" / "0.png"
    for keep in ("left=0.5", tmp_path / "mask.png"):
        words = ["--out", tmp_path / str(keep).partition("=")[0].strip("/").replace("/", "-"), "--keep", keep]
        assert run("complete", trained.prior, image, *words).code == 0
    first, second = sorted(tmp_path.glob("*/0.png"))
    assert np.array_equal(pixels(first), pixels(second))


@pytest.mark.parametrize("keep", ["bottom=0.25", "right=1"])
def test_complete_with_a_class_and_a_larger_size(keep, trained, tmp_path, run):
    words = ["--out", tmp_path, "--keep", keep, "--class", "dark", "--size", "20x16"]
    result = run("complete", trained.classes, trained.images / "dark", *words)
    assert result.code == 0
    assert pixels(result.paths[0]).shape == (20, 16, 3)
    text = Image.open(result.paths[3]).text
    assert {key: text[key] for key in ("seed", "keep", "class", "size")} == {
        "seed": "3",
        "keep": keep,
        "class": "dark",
        "size": "20x16",
    }


def test_the_precision_that_was_used_is_recorded(trained, tmp_path, run):
    for given, used in (("auto", "fp32"), ("bf16", "bf16")):
        words = ["--out", tmp_path, "--precision", given, "--device", "cpu"]
        assert run("sample", trained.prior, "--count", 1, *words).code == 0
        assert run("complete", trained.prior, trained.images / "dark" / "0.png", *words).code == 0
        for name in ("000000", "grid", "0"):
            assert Image.open(tmp_path / f"{name}.png").text["precision"] == used


def test_a_class_that_is_called_by_a_number_is_meant_by_it(trained, tmp_path, run):
    file = trained.classes / "prior.safetensors"
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    metadata["vqgan.config"] = metadata["vqgan.config"].replace('"dark"', '"7"').replace('"light"', '"8"')
    save_file(tensors, tmp_path / "numbers.safetensors", metadata=metadata)
    words = ["--count", 1, "--out"]
    for model, name in ((trained.classes, "dark"), (tmp_path / "numbers.safetensors", "7")):
        assert run("sample", model, "--class", name, *words, tmp_path / name).code == 0
        image = trained.images / "dark" / "0.png"
        assert run("complete", model, image, "--class", name, "--out", tmp_path / name).code == 0
    for image in ("000000.png", "0.png"):
        assert np.array_equal(pixels(tmp_path / "dark" / image), pixels(tmp_path / "7" / image))
    refused = run("sample", tmp_path / "numbers.safetensors", "--class", "3", *words, tmp_path / "none")
    assert "class 3 does not exist" in refused.err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf_8_is_kept_and_printed(trained, tmp_path, run):
    folder, name = tmp_path / os.fsdecode(b"in-\xe9"), os.fsdecode(b"caf\xe9.png")
    folder.mkdir()
    shutil.copy(trained.images / "dark" / "0.png", folder / name)
    codes, out = folder / "codes", folder / "out"
    for words, result in (
        (["reconstruct", trained.tokenizer, folder], out / name),
        (["complete", trained.prior, folder / name, "--keep", folder / name], out / name),
        (["sample", trained.prior, "--count", 1], out / "000000.png"),
    ):
        done = run(*words, "--out", out)
        assert done.code == 0, done.err
        assert done.out.splitlines()[0] == printable(result)
        assert result.exists()
        shutil.rmtree(out)
    written = [printable(codes / "codes.npy"), printable(codes / "codes.json")]
    assert run("encode", trained.tokenizer, folder, "--out", codes).out.splitlines() == written
    assert run("decode", trained.tokenizer, codes, "--out", out).out == printable(out / name) + "\n"


def test_images_that_are_all_the_same_are_named(trained, tmp_path, run):
    words = ["--out", tmp_path, "--temperature", 0]
    assert "the same" not in run("sample", trained.prior, *words, "--count", 1).err
    assert (
        "at `--temperature 0` all 2 images are the same\n"
        in run("sample", trained.prior, *words, "--count", 2).err
    )
    classes = run("sample", trained.classes, *words, "--count", 2, "--class", "0,1")
    assert "at `--temperature 0` all 2 images of a class are the same\n" in classes.err
    first, second, third, fourth = (pixels(path) for path in classes.paths[:4])
    assert np.array_equal(first, second)
    assert np.array_equal(third, fourth)
