"""Captions from the command line: trained on a table, asked for in words."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import networks
import vqgan
from vqgan.imagine import open_judge

KEYS = [f"{folder}/{number}" for folder in ("dark", "light") for number in range(10)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("captions") / "captions.csv"
    rows = [f"{key}.png,{said} {key[:-2]} {key[-1]}" for key in KEYS for said in ("stripes in the", "the")]
    path.write_text("\n".join(["file,text", *rows]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def words(trained, table, tmp_path_factory):
    """A prior of captions, trained from Python."""
    return vqgan.train(
        trained.prior_file,
        data=trained.images,
        out=tmp_path_factory.mktemp("words") / "run",
        tokenizer=trained.tokenizer,
        conditions={"text": table},
        overrides=["task.condition_dropout=0.3", "training.pictures=1"],
        device="cpu",
    )


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_the_command_line_trains_the_same_and_info_and_report_tell(trained, table, words, tmp_path, run):
    flags = ["--set", "task.condition_dropout=0.3", "--set", "training.pictures=1", "--device", "cpu"]
    flags += ["--data", trained.images, "--tokenizer", trained.tokenizer, "--condition", f"text={table}"]
    result = run("train", "prior", trained.prior_file, *flags, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    one, other = (vqgan.load(folder, device="cpu") for folder in (words, tmp_path / "run"))
    assert one.config == other.config
    assert all(torch.equal(one.state_dict()[name], other.state_dict()[name]) for name in one.state_dict())
    config = one.config.conditioner
    said = run("info", words).out
    assert f"vocabulary of {config.vocabulary_size} tokens, {config.max_tokens} for each text" in said
    assert config.max_tokens == 5  # stripes in the light 3
    assert "Captions, in the order of the images: stripes in the " in (words / "report.html").read_text(
        "utf-8"
    )


def test_a_run_goes_on_with_its_captions(words, table):
    assert vqgan.train(None, resume=words, overrides=["training.steps=4"], device="cpu") == words
    text = table.read_text(encoding="utf-8")
    table.write_text(text + "\nelse.png,more", encoding="utf-8")
    try:
        with pytest.raises(vqgan.VqganError, match="the data has fingerprint"):
            vqgan.train(None, resume=words, overrides=["training.steps=5"], device="cpu")
    finally:
        table.write_text(text, encoding="utf-8")


def test_words_steer_sampling_and_completion_and_are_written_into_the_images(words, trained, tmp_path, run):
    asked = ["--condition", 'text=the "light", 3', "--count", 2]
    result = run("sample", words, *asked, "--guidance", 3, "--size", "16x24", "--out", tmp_path / "a")
    assert result.code == 0, result.err
    assert Image.open(tmp_path / "a" / "000000.png").text["text"] == 'the "light", 3'
    model = vqgan.load(words, device="cpu")
    drawn = model.sample(2, (16, 24), {"text": 'the "light", 3'}, guidance=3.0)
    for number, expected in enumerate((drawn.movedim(1, -1) + 1) * 127.5):
        found = pixels(tmp_path / "a" / f"{number:06d}.png")
        assert np.abs(found - expected.clamp(0, 255).numpy()).max() <= 1.01
    assert run("sample", words, "--count", 1, "--out", tmp_path / "b").code == 0
    image = trained.images / "dark" / "0.png"
    asked = ["--condition", "text=the dark 1", "--guidance", 2]
    result = run("complete", words, image, "--keep", "top=0.5", *asked, "--out", tmp_path / "c")
    assert result.code == 0, result.err
    long = "the light 3 " * 3
    result = run("sample", words, "--condition", f"text={long}", "--count", 1, "--out", tmp_path / "d")
    assert "reads 5 of 9 tokens, this is cut: `3 the light 3`" in result.err


def test_a_text_image_model_judges_by_the_words_that_steer(words, tmp_path, run):
    reader = networks.save_judge("CLIPModel", tmp_path / "clip")
    flags = ["--condition", "text=red car", "--guidance", 2, "--count", 2, "--judge", reader, "--beam", 3]
    result = run("sample", words, *flags, "--beam-rows", 2, "--keep-best", 0.5, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    judge = open_judge(reader, device="cpu")
    beam = vqgan.Beam(judge.by(["red car"]), 3, 2)
    drawn = vqgan.load(words, device="cpu").sample(2, None, {"text": "red car"}, guidance=2.0, beam=beam)
    scores = judge.by(["red car"])(drawn)
    (kept,) = (tmp_path / "out").glob("0*.png")
    assert kept.name == f"{int(scores.argmax()):06d}.png"
    assert float(Image.open(kept).text["score"]) == pytest.approx(float(scores.max()), abs=1e-3)
    assert "4 of 12 continuations went on" in result.err


@pytest.fixture(scope="module")
def noise(trained, tmp_path_factory):
    """A prior of captions given in Python, whose texts are always needed."""
    draw = np.random.default_rng(0)
    data = [(draw.integers(0, 256, (16, 16, 3), np.uint8), f"noise \udce9 {number}") for number in range(20)]
    return vqgan.train(
        trained.prior_file,
        data=data,
        out=tmp_path_factory.mktemp("noise") / "run",
        tokenizer=trained.tokenizer,
        conditions={"text": ""},
        overrides=[
            "conditioner.kind=text",
            "conditioner.num_merges=3",
            "training.steps=1",
            "training.pictures=1",
        ],
        device="cpu",
    )


def test_images_given_with_captions_in_python_need_no_file(noise, trained, tmp_path):
    assert vqgan.load(noise, device="cpu").config.conditioner.vocabulary_size == 260
    assert (noise / "images" / "captions.txt").read_text("utf-8").startswith("noise \\xe9 ")
    with pytest.raises(
        vqgan.VqganError, match=r"the condition is a `text`, but .*\nhint: give `--condition text=PATH`"
    ):
        vqgan.train(trained.prior_file, data=trained.images, out=tmp_path / "x", tokenizer=trained.tokenizer, overrides=["conditioner.kind=text"], device="cpu")  # fmt: skip


def test_a_text_that_is_missing_is_asked_for(noise, tmp_path, run):
    out = ("--out", tmp_path / "out")
    result = run("sample", noise, *out)
    assert (result.code, "hint: give `--condition text=WORDS`" in result.err) == (2, True)
    result = run("sample", noise, "--condition", "text=the dark 1", "--guidance", 1, *out)
    assert (result.code, "this prior cannot take `guidance`" in result.err) == (2, True)


def test_without_the_library_info_tells_and_only_words_ask_for_it(noise, trained, tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert "vocabulary of 260 tokens" in run("info", noise).out
    result = run("sample", noise, "--condition", "text=noise", "--count", 1, "--out", tmp_path / "out")
    assert (result.code, result.err.splitlines()[-1]) == (
        2,
        'hint: install the extra `text`: pip install "vqgan[text]"',
    )
