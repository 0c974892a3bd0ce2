"""A user's mistakes: each has its message, its exit code, and leaves nothing half-written."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import vqgan


@pytest.fixture(autouse=True)
def nothing_else(tmp_path):
    """No test leaves a temporary file."""
    yield
    assert not [path for path in tmp_path.rglob("*") if "tmp" in path.name]


def refused(result, code, message, hint):
    """Exit code, message and hint; no result, no traceback."""
    assert result.code == code, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert f"vqgan: {message}" in result.err
    assert f"\nhint: {hint}" in result.err
    assert result.err.count("hint: ") == 1


# Images


def test_a_missing_folder(trained, tmp_path, run):
    nowhere = tmp_path / "nowhere"
    result = run("train", "tokenizer", trained.tokenizer_file, "--data", nowhere, "--out", tmp_path / "run")
    refused(result, 3, f"folder `{nowhere}` does not exist", "check the path")
    result = run("reconstruct", trained.tokenizer, nowhere, "--out", tmp_path / "out")
    refused(result, 3, f"`{nowhere}` does not exist", "check the path")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder(trained, tmp_path, run):
    empty = tmp_path / "empty"
    empty.mkdir()
    result = run("train", "tokenizer", trained.tokenizer_file, "--data", empty, "--out", tmp_path / "run")
    refused(result, 3, f"folder `{empty}` holds no images: it is empty", "give a folder that holds images")
    result = run("encode", trained.tokenizer, empty, "--out", tmp_path / "out")
    refused(result, 3, f"folder `{empty}` holds no images", "give a folder that holds images")
    assert list(tmp_path.iterdir()) == [empty]


def test_a_folder_of_other_files(trained, tmp_path, run):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text("no image")
    result = run("train", "tokenizer", trained.tokenizer_file, "--data", folder, "--out", tmp_path / "run")
    refused(
        result, 3, f"folder `{folder}` holds no images: 3 other files were seen (3 `.txt`)", "images end in "
    )
    assert list(tmp_path.iterdir()) == [folder]


def test_files_that_only_look_like_images(trained, tmp_path, run):
    folder = tmp_path / "fakes"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_text("no image")
    result = run("reconstruct", trained.tokenizer, folder, "--out", tmp_path / "out")
    refused(result, 3, "none of the 3 images can be read", "the reasons are in the lines above")
    assert result.err.count("skipped `") == 3
    assert list(tmp_path.iterdir()) == [folder]


def test_no_images_at_all(trained, tmp_path, run):
    refused(
        run("encode", trained.tokenizer, "--out", tmp_path), 2, "no images were given", "name image files"
    )


# Sizes


def test_a_size_that_the_factor_does_not_divide(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in", count=1, size=(18, 16))
    out = tmp_path / "out"
    message = f"`{tmp_path / 'in' / '0.png'}` has 18x16 pixels; height and width must be multiples of 4"
    for command in ("reconstruct", "encode"):
        result = run(command, trained.tokenizer, tmp_path / "in", "--out", out, "--fit", "exact")
        refused(result, 2, message, "omit `--fit exact`: the image is then padded, and cut back")
    message = "images of 18x16 pixels do not fit the tokenizer; height and width must be multiples of 4"
    for command in (["sample", trained.prior], ["complete", trained.prior, tmp_path / "in"]):
        result = run(*command, "--size", "18x16", "--out", out)
        refused(result, 2, message, "the next sizes are 16x16 and 20x16")
    write_images(tmp_path / "thin", count=1, size=(3, 16))
    result = run("reconstruct", trained.tokenizer, tmp_path / "thin", "--out", out, "--fit", "crop")
    refused(
        result,
        2,
        f"`{tmp_path / 'thin' / '0.png'}` has 3x16 pixels",
        "omit `--fit crop`: the image is then padded",
    )
    words = ["--data", trained.images, "--image-size", 18, "--out", tmp_path / "run"]
    result = run("train", "tokenizer", trained.tokenizer_file, *words)
    refused(
        result, 2, "images of 18x18 pixels do not fit the tokenizer", "the next sizes are 16x16 and 20x20"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "thin"]


@pytest.mark.parametrize("size", ["big", "16x", "0x16", "16x16x16", "-4"])
def test_a_size_that_is_none(size, trained, tmp_path, run):
    result = run("sample", trained.prior, "--out", tmp_path, f"--size={size}")
    refused(result, 2, f"`{size}` is not a size", "write `HEIGHTxWIDTH`")


@pytest.mark.parametrize("size", ["32x8", "16x8"])
def test_a_size_on_which_the_window_cannot_move(size, trained, tmp_path, run):
    result = run("sample", trained.prior, "--out", tmp_path, "--size", size)
    message = f"a grid of {int(size[:2]) // 4} x 2 tokens is too small for a prior trained on 4 x 4"
    refused(result, 2, message, "use at least a width of 16 pixels")
    assert list(tmp_path.iterdir()) == []


def test_images_of_different_sizes_have_no_common_codes(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in" / "a", count=1)
    write_images(tmp_path / "in" / "b", count=1, size=(8, 8))
    result = run("encode", trained.tokenizer, tmp_path / "in", "--out", tmp_path / "out")
    refused(
        result,
        3,
        f"`{tmp_path / 'in' / 'b' / '0.png'}` has 8x8 pixels, the images before it 16x16",
        "bring them",
    )
    assert not (tmp_path / "out").exists()


# Names and values


def test_an_unknown_command_or_flag(run):
    refused(run("smaple"), 2, "unknown command `smaple`", "did you mean `sample`?")
    refused(run("train", "priro"), 2, "unknown command `train priro`", "did you mean `train prior`?")
    result = run("sample", "model", "--out", "x", "--cuont", 3)
    hint = "did you mean `--count`?; `vqgan sample --help` explains all flags"
    refused(result, 2, "unrecognized options: --cuont, 3\n", hint)
    hint = "`vqgan sample --help` explains all flags"
    refused(run("sample", "model", "more", "--out", "x"), 2, "unrecognized options: more\n", hint)


def test_missing_and_malformed_flags(run):
    hint = "`vqgan sample --help` explains all flags"
    result = run("sample")
    refused(result, 2, "missing from `vqgan sample`: `MODEL`, `--out`\n", hint)
    for words, message in (
        (["--count", "three"], "`--count` is `three`, expected a whole number of at least 1"),
        (["--seed=it's a\n 'word'"], "`--seed` is `it's a\n 'word'`, expected a whole number"),
        (["--top_k", "x" * 200], f"`--top-k` is `{'x' * 200}`, expected a whole number"),
        (["--temperature", "warm"], "`--temperature` is `warm`, expected a number"),
        (["--memory", "4GB"], "`--memory` is `4GB`, expected a number"),
    ):
        refused(run("sample", "model", "--out", "x", *words), 2, f"{message}\n", hint)
    refused(run("sample", "model", "--out"), 2, "`--out`: expected one argument\n", hint)
    hint = "`vqgan reconstruct --help` explains all flags"
    message = "`--fit` is `stretch`, expected `pad`, `crop`, `exact`\n"
    refused(run("reconstruct", "m", "i", "--out", "x", "--fit", "stretch"), 2, message, hint)


def test_an_unknown_preset(trained, tmp_path, run):
    result = run("train", "tokenizer", "smal-tokenizer", "--data", trained.images, "--out", tmp_path / "run")
    refused(result, 2, "unknown preset `smal-tokenizer`", "did you mean `small-tokenizer`?")
    refused(run("presets", "foo"), 2, "unknown preset `foo`", "known: `deepfield-prior`, ")
    (tmp_path / "run.yaml").write_text("preset: smal-tokenizer")
    result = run("train", "tokenizer", tmp_path / "run.yaml", "--out", tmp_path / "run")
    message = f"unknown preset `smal-tokenizer` in `{tmp_path / 'run.yaml'}`\n"
    refused(result, 2, message, "did you mean `small-tokenizer`?")
    (tmp_path / "run.yaml").unlink()
    result = run("train", "tokenizer", "--data", trained.images, "--out", tmp_path / "run")
    refused(result, 2, "no run was given", "give a preset or a YAML file")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key(trained, tmp_path, run):
    words = [trained.tokenizer_file, "--data", trained.images, "--out", tmp_path / "run"]
    result = run("train", "tokenizer", *words, "--set", "task.optimizer.learning_rat=1")
    refused(result, 2, "`task.optimizer` of ", "did you mean `learning_rate`?")
    assert "unknown key `learning_rat`" in result.err
    result = run("train", "tokenizer", *words, "--set", "tokenizer.quantizer.kind=vectro")
    refused(result, 2, "`tokenizer.quantizer.kind` of ", "did you mean `vector`?")
    assert list(tmp_path.iterdir()) == []


def test_a_value_of_the_wrong_type_or_range(trained, tmp_path, run):
    words = [trained.tokenizer_file, "--data", trained.images, "--out", tmp_path / "run"]
    result = run("train", "tokenizer", *words, "--set", "training.steps=many")
    assert result.code == 2
    assert "vqgan: `training.steps` of " in result.err
    assert "expected `int`, got `str`" in result.err
    result = run("train", "tokenizer", *words, "--steps", 0)
    assert (result.code, "`steps` is 0, expected at least 1" in result.err) == (2, True), result.err
    result = run("train", "tokenizer", *words, "--set", "training.steps")
    refused(result, 2, "override `training.steps` is not of the form `key=value`", "write for example ")
    assert list(tmp_path.iterdir()) == []


def test_a_run_file_that_is_none(trained, tmp_path, run):
    for text, message in (
        ("a: [1", "is not valid YAML"),
        ("- 1", "holds a list, expected a mapping"),
        ("a: 1", "kind"),
    ):
        (tmp_path / "run.yaml").write_text(text)
        result = run(
            "train", "tokenizer", tmp_path / "run.yaml", "--data", trained.images, "--out", tmp_path / "run"
        )
        assert (result.code, message in result.err) == (2, True), result.err
    result = run(
        "train", "tokenizer", tmp_path / "none.yaml", "--data", trained.images, "--out", tmp_path / "run"
    )
    refused(result, 2, f"cannot read `{tmp_path / 'none.yaml'}`: no such file", "check the path")


def test_impossible_numbers(trained, tmp_path, run):
    words = ["sample", trained.prior, "--out", tmp_path]
    for flag in ("--count", "--batch-size"):
        result = run(*words, flag, 0)
        assert (result.code, f"`{flag}` is `0`, expected a whole number of at least 1" in result.err) == (
            2,
            True,
        )
    for flag, value in (("--temperature", -1), ("--top-k", 0), ("--top-p", 2), ("--seed", -1)):
        result = run(*words, f"{flag}={value}")
        assert (result.code, flag[2:].replace("-", "_") in result.err) == (2, True), result.err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_class(trained, tmp_path, run):
    words = ["sample", trained.classes, "--out", tmp_path]
    refused(run(*words, "--class", "ligth"), 2, "unknown class `ligth`", "did you mean `light`?")
    refused(
        run(*words, "--class", "7"),
        2,
        "class 7 does not exist",
        "give a number from 0 to 1, or a name (`dark`, `light`)",
    )
    many = ["complete", trained.classes, trained.images, "--out", tmp_path, "--class", "dark,light"]
    refused(run(*many), 2, "`class=dark,light` names 2 classes, expected one for all images", "name one")
    hint = "name one or several: `--class 0,1`; each is a number from 0 to 1, or a name (`dark`, `light`)\n"
    refused(run(*words), 2, "this prior draws images of a class", hint)
    for text in ("", "1,,0", "1,"):
        message = f"`--class` is `{text}`, expected numbers or names with commas between"
        refused(run(*words, "--class", text), 2, message, "name one or several: `--class 0,1`")
    result = run("sample", trained.prior, "--out", tmp_path, "--class", "0")
    refused(
        result,
        2,
        "`--class` was given, but this prior takes no condition",
        "omit `--class`",
    )
    assert list(tmp_path.iterdir()) == []


def test_classes_without_names_are_told_by_their_numbers(published, tmp_path, run):
    result = run("sample", published("net2net_class"), "--out", tmp_path / "out")
    hint = "name one or several: `--class 0,1`; each is a number from 0 to 9"
    assert (result.code, result.err.splitlines()[-1]) == (2, f"hint: {hint}")


@pytest.mark.parametrize("kind", ["net2net_firststage", "net2net_scene"])
def test_a_condition_of_another_kind_than_a_class(kind, published, trained, tmp_path, run):
    model, name = published(kind), "layout" if kind.endswith("scene") else "lr"
    for command in (["sample", model], ["complete", model, trained.images]):
        message = f"this prior is steered by `{name}`, but there is no `{name}`"
        refused(run(*command, "--out", tmp_path / "out"), 2, message, f"give `--condition {name}=FILE`")
    result = run("sample", model, "--class", 1, "--out", tmp_path / "out")
    refused(result, 2, f"`--class` was given, but this prior is steered by `{name}`", "omit `--class`")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", ["top", "top=2", "middle=0.5", "top=x"])
def test_a_part_that_is_none(keep, trained, tmp_path, run):
    result = run("complete", trained.prior, trained.images, "--out", tmp_path, "--keep", keep)
    refused(result, 2, f"`{keep}` is neither a part of an image nor a picture", "write `--keep top=0.5`")


def test_a_mask_that_is_missing(trained, tmp_path, run):
    nowhere = tmp_path / "a=b" / "nowhere.png"
    result = run("complete", trained.prior, trained.images, "--out", tmp_path / "out", "--keep", nowhere)
    refused(result, 3, f"the mask `{nowhere}` does not exist", "check the path")


def test_an_unknown_source_of_data(trained, tmp_path, run):
    words = ["--out", tmp_path / "run", "--data"]
    result = run("train", "tokenizer", trained.tokenizer_file, *words, "digit:")
    refused(result, 2, "unknown data source `digit:`", "did you mean `digits`?")
    result = run("train", "tokenizer", trained.tokenizer_file, "--out", tmp_path / "run")
    refused(result, 2, "no images were given", "give `--data FOLDER`")


def test_an_absent_device_or_precision(trained, tmp_path, run):
    words = ["sample", trained.prior, "--out", tmp_path]
    refused(run(*words, "--device", "gpu"), 2, "unknown device `gpu`", "")
    refused(run(*words, "--precision", "fp8"), 2, "unknown precision `fp8`", "known: `auto`, ")


# Checkpoints


def test_no_checkpoint(trained, tmp_path, run):
    for name, reason in (("x", "no such file or directory"), ("x" * 300, "file name too long")):
        path = tmp_path / name
        refused(run("info", path), 5, f"`{path}` cannot be read: {reason}", "check the path")
    refused(run("info", trained.images), 5, f"`{trained.images}` holds no model", "give a run folder")


def test_a_truncated_checkpoint(trained, tmp_path, run):
    whole = (trained.tokenizer / "tokenizer.safetensors").read_bytes()
    file = tmp_path / "cut.safetensors"
    for size in (5, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        for command in (["info", file], ["reconstruct", file, trained.images, "--out", tmp_path / "out"]):
            result = run(*command)
            assert result.code == 5, (size, result.err)
            assert f"`{file}`" in result.err
            assert "hint: " in result.err
            assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_the_wrong_kind(trained, tmp_path, run):
    result = run("sample", trained.tokenizer, "--out", tmp_path / "out")
    refused(result, 5, f"`{trained.tokenizer}` holds a tokenizer; new images need a prior", "train one: ")
    words = ["--data", trained.images, "--out", tmp_path / "run", "--from", trained.tokenizer]
    result = run("train", "prior", trained.prior_file, *words)
    file = trained.tokenizer / "tokenizer.safetensors"
    refused(result, 5, f"`{file}` holds a tokenizer, expected a prior", "give a prior's file or run")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_a_newer_format(trained, tmp_path, run):
    with safe_open(trained.tokenizer / "tokenizer.safetensors", framework="pt") as file:
        metadata = {**file.metadata(), "vqgan.format": "2"}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, tmp_path / "new.safetensors", metadata=metadata)
    result = run("info", tmp_path / "new.safetensors")
    refused(
        result,
        5,
        f"`{tmp_path / 'new.safetensors'}` has format 2; this version reads up to 1",
        "upgrade with ",
    )


def test_a_file_that_is_no_checkpoint(trained, tmp_path, run):
    (tmp_path / "model.ckpt").write_text("hello, this is a text")
    result = run("info", tmp_path / "model.ckpt")
    assert (result.code, f"`{tmp_path / 'model.ckpt'}`" in result.err) == (5, True)
    refused(run("info", trained.tokenizer_file), 5, f"`{trained.tokenizer_file}` ", "")


def test_codes_of_another_tokenizer(trained, tmp_path, run):
    other = tmp_path / "other.safetensors"
    vqgan.save_model(vqgan.Tokenizer(vqgan.load(trained.tokenizer, device="cpu").config), other)
    run("encode", trained.tokenizer, trained.images / "dark", "--out", tmp_path / "codes")
    result = run("decode", other, tmp_path / "codes", "--out", tmp_path / "out")
    refused(
        result, 3, f"the codes in `{tmp_path / 'codes'}` were made by another tokenizer", "decode with the "
    )
    assert not (tmp_path / "out").exists()
    result = run("decode", trained.tokenizer, trained.images, "--out", tmp_path / "out")
    refused(
        result, 3, f"cannot read codes from `{trained.images}`", "give a folder that `vqgan encode` wrote"
    )


def test_an_array_without_codes(trained, tmp_path, run):
    run("encode", trained.tokenizer, trained.images / "dark", "--out", tmp_path / "codes")
    (tmp_path / "codes" / "codes.npy").unlink()
    np.save(tmp_path / "codes" / "codes.npy", np.zeros((10, 0, 4), np.uint16))
    result = run("decode", trained.tokenizer, tmp_path / "codes", "--out", tmp_path / "out")
    message = f"`{tmp_path / 'codes' / 'codes.npy'}` holds no codes: its shape is (10, 0, 4)"
    refused(result, 3, message, "give a folder that `vqgan encode` wrote")


# Results


def test_results_in_the_folder_of_the_images(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in", count=2)
    photo = tmp_path / "in" / "1.png"
    before = photo.read_bytes()
    for command, model in (("reconstruct", trained.tokenizer), ("complete", trained.prior)):
        result = run(command, model, photo, "--out", tmp_path / "in")
        refused(
            result, 2, f"the result `{photo}` would replace the input `{photo}`", "give another folder with "
        )
    assert photo.read_bytes() == before
    mask = tmp_path / "0.png"
    photo.rename(mask)
    result = run("complete", trained.prior, tmp_path / "in" / "0.png", "--keep", mask, "--out", tmp_path)
    refused(
        result, 2, f"the result `{mask}` would replace the input `{mask}`", "give another folder with `--out`"
    )
    assert mask.read_bytes() == before


def test_decoding_into_the_folder_that_was_encoded(trained, tmp_path, write_images, run):
    write_images(tmp_path / "in", count=2)
    before = (tmp_path / "in" / "1.png").read_bytes()
    run("encode", trained.tokenizer, tmp_path / "in", "--out", tmp_path / "codes")
    (tmp_path / "in" / "0.png").unlink()
    words = ["decode", trained.tokenizer, tmp_path / "codes", "--out"]
    message = f"the result `{tmp_path / 'in' / '1.png'}` would replace a file that vqgan did not write"
    refused(
        run(*words, tmp_path / "in"), 2, message, "give another folder with `--out`, or add `--overwrite`"
    )
    assert (tmp_path / "in" / "1.png").read_bytes() == before
    assert not (tmp_path / "in" / "0.png").exists()
    for _ in range(2):  # a second time over its own results
        assert run(*words, tmp_path / "out").code == 0


@pytest.mark.parametrize(
    ("command", "model", "name"),
    [
        ("sample", "prior", "000001.png"),
        ("sample", "prior", "grid.png"),
        ("complete", "prior", "1.png"),
        ("reconstruct", "tokenizer", "1.png"),
        ("encode", "tokenizer", "codes.npy"),
        ("encode", "tokenizer", "codes.json"),
    ],
)
def test_a_file_of_the_users_is_replaced_only_when_asked(command, model, name, trained, tmp_path, run):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b"mine")
    images = [] if command == "sample" else [trained.images / "dark"]
    words = [command, getattr(trained, model), *images, "--out", out, *["--count", 2] * (command == "sample")]
    message = f"the result `{out / name}` would replace a file that vqgan did not write"
    refused(run(*words), 2, message, "give another folder with `--out`, or add `--overwrite`")
    assert [(path.name, path.read_bytes()) for path in out.iterdir()] == [(name, b"mine")]
    assert run(*words, "--overwrite").code == 0
    assert (out / name).read_bytes() != b"mine"
    assert run(*words).code == 0  # now it is our own


@pytest.mark.parametrize("error", [KeyboardInterrupt(), vqgan.DataError("no")])
def test_what_is_broken_off_leaves_no_empty_folder(error, trained, tmp_path, monkeypatch, run):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(vqgan.Synthesizer, "sample", fail)
    (tmp_path / "old").mkdir()
    for out in (tmp_path / "new" / "deep", tmp_path / "old"):
        assert run("sample", trained.prior, "--out", out).code in (3, 130)
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]


# Runs


def test_a_folder_that_is_not_empty(trained, tmp_path, run):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("mine")
    words = ["--data", trained.images, "--out", tmp_path / "run"]
    result = run("train", "tokenizer", trained.tokenizer_file, *words)
    refused(result, 2, f"`{tmp_path / 'run'}` is not empty", "choose another folder\n")
    result = run("train", "tokenizer", trained.tokenizer_file, *words[:-1], trained.tokenizer)
    hint = f"choose another folder, or continue the run with `--resume {trained.tokenizer}`"
    refused(result, 2, f"`{trained.tokenizer}` is not empty", hint)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["precious.txt"]


def test_out_and_resume_together_or_neither(trained, tmp_path, run):
    result = run("train", "tokenizer", "--out", tmp_path / "run", "--resume", trained.tokenizer)
    message = "expected exactly one of `--out` and `--resume`"
    hint = "begin a run with `--out RUN`, or continue one with `--resume RUN`"
    refused(result, 2, message, hint)
    result = run("train", "tokenizer", trained.tokenizer_file, "--data", trained.images)
    refused(result, 2, message, hint)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--seed", 1], "`--seed` is 1, but the run began with 0"),
        (["--precision", "bf16"], "`--precision` is bf16, but the run began with fp32"),
        (["--from", "x"], "`--from` is `x`, but a resumed run takes everything from its folder"),
        (["--tokenizer", "x"], "`--tokenizer` is `x`, but a resumed run takes everything from its folder"),
        (["digits-prior"], "`PRESET` is `digits-prior`, but a resumed run takes everything from its folder"),
    ],
)
def test_a_resumed_run_refuses_what_it_would_not_heed(words, reason, trained, run):
    result = run("train", "prior", "--resume", trained.prior, *words)
    refused(result, 2, reason, "omit it, or begin a new run with `--out NEW` and `--from RUN`")


def test_a_resumed_run_refuses_another_configuration(trained, run):
    result = run("train", "prior", "--resume", trained.prior, "--set", "prior.depth=2")
    refused(
        result, 2, "`prior.depth` is 2, but the run began with 1", "a resumed run keeps its configuration"
    )
    result = run("train", "prior", "--resume", trained.prior, "--steps", 1)
    refused(result, 2, "`training.steps` is 1, but the run began with 3", "a resumed run keeps")


def test_a_resumed_run_refuses_other_images(trained, tmp_path, write_images, run):
    write_images(tmp_path / "other", count=3)
    result = run("train", "prior", "--resume", trained.prior, "--data", tmp_path / "other")
    refused(result, 2, "the data has fingerprint ", "resume with the same images")


def test_resume_of_something_else(trained, run):
    result = run("train", "tokenizer", "--resume", trained.images)
    refused(result, 5, f"`{trained.images}` is not a run folder", "give the folder that `--out` named")
    result = run("train", "tokenizer", "--resume", trained.prior)
    refused(result, 2, f"`{trained.prior}` trains a prior", "use `vqgan train prior`")


def test_a_run_file_of_the_other_stage(trained, tmp_path, run):
    words = ["--data", trained.images, "--out", tmp_path / "run"]
    result = run("train", "prior", trained.tokenizer_file, *words, "--tokenizer", trained.tokenizer)
    refused(result, 2, f"`{trained.tokenizer_file}` trains a tokenizer", "use `vqgan train tokenizer`")
    result = run("train", "prior", trained.prior_file, *words)
    refused(result, 2, "a prior is trained on a tokenizer's codes", "give `--tokenizer FILE|RUN`")
    assert list(tmp_path.iterdir()) == []


def test_classes_on_images_that_have_none(trained, tmp_path, run):
    words = ["--tokenizer", trained.tokenizer, "--data", trained.images / "dark", "--out", tmp_path / "run"]
    result = run("train", "prior", trained.classes_file, *words)
    refused(
        result, 3, "the condition is a class, but the images have none", "put the images of each class into "
    )


# Disk and packages


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "write_text")])
def test_no_space_for_a_run(owner, name, trained, tmp_path, monkeypatch, run):
    monkeypatch.setattr(owner, name, full)
    words = ["--data", trained.images, "--out", tmp_path / "run"]
    result = run("train", "tokenizer", trained.tokenizer_file, *words)
    refused(result, 6, f"cannot write `{tmp_path / 'run'}", "free some space or choose another place")
    assert "no space left on device" in result.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_space_for_images_and_codes(trained, tmp_path, monkeypatch, run):
    monkeypatch.setattr(os, "replace", full)
    result = run("sample", trained.prior, "--count", 1, "--out", tmp_path / "new")
    refused(result, 6, f"cannot write `{tmp_path / 'new' / '000000.png'}`: no space left", "free some space")
    result = run("encode", trained.tokenizer, trained.images, "--out", tmp_path / "codes")
    refused(result, 6, f"cannot write `{tmp_path / 'codes' / 'codes.npy'}`", "free some space")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_place_that_cannot_be_written(trained, tmp_path, monkeypatch, run):
    def mkdir(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "mkdir", mkdir)
    out = tmp_path / "out"
    result = run("train", "tokenizer", trained.tokenizer_file, "--data", trained.images, "--out", out)
    refused(
        result, 6, f"cannot write `{out}`: read-only file system", "choose a folder that you can write to"
    )
    result = run("sample", trained.prior, "--count", 1, "--out", out)
    refused(
        result,
        6,
        f"cannot write `{out}`: read-only file system",
        "choose a folder that you can",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_a_file_is_seen_before_anything_is_drawn(trained, tmp_path, run):
    out = tmp_path / "out"
    out.write_text("mine")
    for command in (["sample", trained.prior], ["complete", trained.prior, trained.images]):
        result = run(*command, "--out", out)
        refused(result, 6, f"`{out}` is a file, not a folder", "give another `--out`")
        assert "tokens: " not in result.err
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("module", "data", "message"),
    [
        ("sklearn.datasets", "digits", "the data source `digits` needs scikit-learn, which is not installed"),
        ("ale_py", "atari:Pong", "ale-py"),
        (
            "skimage",
            "sample:grass",
            "the data source `sample:grass` needs scikit-image, which is not installed",
        ),
    ],
)
def test_a_missing_extra(module, data, message, trained, tmp_path, monkeypatch, run):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))
    result = run("train", "tokenizer", trained.tokenizer_file, "--data", data, "--out", tmp_path / "run")
    assert result.code == 2, result.err
    assert message in result.err
    assert 'hint: install the extra `demo`: pip install "vqgan[demo]"' in result.err
    assert not (tmp_path / "run").exists()
