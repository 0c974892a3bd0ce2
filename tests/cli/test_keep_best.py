"""`vqgan sample --judge --keep-best`: of many images the best of each class stay."""

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
import vqgan
from vqgan.classifier import Classifier
from vqgan.images import read_images


@pytest.fixture(scope="module")
def judge(trained, tmp_path_factory):
    """Random weights, which know `light` before `dark`, the other way round than the prior."""
    path = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    config = tiny.classifier_config(
        encoder=tiny.tokenizer_config(channels=3).autoencoder,
        image_size=(16, 16),
        class_names=("fox", "light", "dark"),
    )
    torch.manual_seed(0)
    model = Classifier(config)
    torch.nn.init.normal_(model.output.weight, std=10.0)  # scores that differ by more than pixels are rounded
    vqgan.save_model(model, path)
    return path


def read(folder):
    found = {path.name: Image.open(path) for path in sorted(folder.glob("0*.png"))}
    for image in found.values():
        image.load()
    return found


def test_the_best_of_each_class_stay_as_they_would_have_been_drawn(trained, judge, tmp_path, run):
    words = ("--class", "dark,light", "--count", 5, "--batch-size", 3)
    assert run("sample", trained.classes, "--out", tmp_path / "all", *words).code == 0
    everything = read(tmp_path / "all")
    images = torch.cat([read_images(tmp_path / "all" / name) for name in everything])
    expected = vqgan.load(judge, device="cpu").scores(images, [2] * 5 + [1] * 5)
    result = run(
        "sample", trained.classes, "--out", tmp_path / "best", *words, "--judge", judge, "--keep-best", 0.4
    )
    assert result.code == 0
    order = [*expected[:5].argsort(descending=True)[:2], *(5 + expected[5:].argsort(descending=True)[:2])]
    names = [f"{int(number):06d}.png" for number in order]
    assert [path.name for path in result.paths] == [*names, "grid.png"]
    kept = read(tmp_path / "best")
    assert sorted(kept) == sorted(names)
    for name, number in zip(names, order, strict=True):
        assert float(kept[name].text["score"]) == pytest.approx(float(expected[number]), abs=0.01)
        assert kept[name].text["keep_best"] == "0.4"
        assert kept[name].text["seed"] == str(int(number))
        assert np.array_equal(kept[name], everything[name])
    with Image.open(tmp_path / "best" / "grid.png") as picture:
        grid = np.asarray(picture)
    assert np.array_equal(grid[2:18, 2:18] if grid.shape[0] > 16 else grid[:, :16], kept[names[0]])
    assert "4 of 10 images are kept: their mean score is " in result.err


def test_without_a_class_the_most_certain_stay_and_a_judge_alone_removes_nothing(
    trained, judge, tmp_path, run
):
    words = ("sample", trained.prior, "--count", 3, "--judge", judge)
    assert run(*words, "--out", tmp_path / "scored").code == 0
    scores = {name: float(image.text["score"]) for name, image in read(tmp_path / "scored").items()}
    assert len(scores) == 3
    assert run(*words, "--out", tmp_path / "best", "--keep-best", 0.1).code == 0
    assert list(read(tmp_path / "best")) == [max(scores, key=scores.get)]


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (("--keep-best", 0.5), 2, "`--keep-best` needs a judge\nhint: give a classifier: `--judge RUN`"),
        (("--judge", "JUDGE", "--keep-best", 0), 2, "`--keep-best` is 0.0, expected 0 < share <= 1"),
        (("--judge", "JUDGE", "--keep-best", 1.5), 2, "`--keep-best` is 1.5, expected 0 < share <= 1"),
        (("--judge", "JUDGE", "--zoom"), 2, "`--judge` is not possible with `--zoom`"),
        (("--judge", "JUDGE", "--frames", 3), 2, "`--judge` is not possible with `--frames`"),
        (
            ("--judge", "TOKENIZER"),
            5,
            "holds a tokenizer, expected a classifier\nhint: train one: `vqgan train cl",
        ),
        (("--judge", "OTHER"), 2, "the judge does not know the class `dark`\nhint: known: `cat`, `fox`"),
        (("--judge", "GREY"), 2, "the judge takes images of 1 channels, the prior draws 3"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is_drawn(
    trained, judge, tmp_path, run, flags, code, says
):
    encoder = tiny.tokenizer_config(channels=3).autoencoder
    other = tiny.classifier(encoder=encoder, class_names=("cat", "fox"))
    vqgan.save_model(other, tmp_path / "other.safetensors")
    vqgan.save_model(tiny.classifier(), tmp_path / "grey.safetensors")
    files = {
        "JUDGE": judge,
        "TOKENIZER": trained.tokenizer,
        "OTHER": tmp_path / "other.safetensors",
        "GREY": tmp_path / "grey.safetensors",
    }
    words = [files.get(word, word) for word in flags]
    result = run("sample", trained.classes, "--class", "dark", "--out", tmp_path / "out", *words)
    assert result.code == code
    assert says in result.err
    assert not (tmp_path / "out").exists()
