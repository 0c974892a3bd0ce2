"""`vqgan sample --judge --keep-best`: of many images the best of each class stay."""

import re

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

import networks
import tiny
import vqgan
from vqgan.classifier import Classifier
from vqgan.conditioning import ClassLabelConfig, SeveralConfig
from vqgan.errors import CheckpointError
from vqgan.images import read_images
from vqgan.imagine import open_judge
from vqgan.synthesizer import Synthesizer


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
    assert re.search(r"judging took \d+ % of the time", result.err)
    assert "continuations" not in result.err


def test_without_a_class_the_most_certain_stay_and_a_judge_alone_removes_nothing(
    trained, judge, tmp_path, run
):
    words = ("sample", trained.prior, "--count", 3, "--judge", judge)
    assert run(*words, "--out", tmp_path / "scored").code == 0
    scores = {name: float(image.text["score"]) for name, image in read(tmp_path / "scored").items()}
    assert len(scores) == 3
    assert run(*words, "--out", tmp_path / "best", "--keep-best", 0.1).code == 0
    assert list(read(tmp_path / "best")) == [max(scores, key=scores.get)]


def test_the_judge_chooses_among_continuations_of_each_class(trained, judge, tmp_path, run):
    words = ("sample", trained.classes, "--class", "dark,light", "--count", 2, "--batch-size", 3, "--seed", 4)
    result = run(*words, "--judge", judge, "--beam", 3, "--beam-rows", 2, "--out", tmp_path / "beam")
    assert result.code == 0
    model, classifier = vqgan.load(trained.classes, device="cpu"), vqgan.load(judge, device="cpu")
    judges = [
        lambda images, each=each: classifier.scores(images, [each] * len(images)) for each in (2, 2, 1, 1)
    ]
    beam = vqgan.Beam(judges, 3, 2)
    images = model.sample(4, condition={"class": ["dark", "dark", "light", "light"]}, seed=4, beam=beam)
    written = read(tmp_path / "beam")
    for picture, expected in zip(written.values(), vqgan.to_pictures(images), strict=True):
        assert np.array_equal(picture, expected)
        assert (picture.text["beam"], picture.text["beam_rows"]) == ("3", "2")
    found = re.search(
        r"8 of 24 continuations went on: their mean score is (\S+), that of all (\S+)", result.err
    )
    expected = sum(beam.kept) / len(beam.kept), sum(beam.all) / len(beam.all)
    assert [float(each) for each in found.groups()] == pytest.approx(expected, abs=1e-3)
    assert expected[0] > expected[1]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return networks.save_judge("CLIPModel", tmp_path_factory.mktemp("reader") / "clip")


def test_a_text_image_model_judges_by_the_prompt(trained, reader, tmp_path, run):
    words = ("sample", trained.classes, "--class", "dark,light", "--count", 3)
    judged = (*words, "--judge", reader, "--prompt", "red car")
    result = run(*judged, "--keep-best", 0.3, "--out", tmp_path / "best")
    assert result.code == 0
    assert run(*words, "--out", tmp_path / "all").code == 0
    images = torch.cat([read_images(path) for path in sorted((tmp_path / "all").glob("0*.png"))])
    scores = open_judge(reader, device="cpu").similarity(images, ["red car"])[:, 0]
    best = [int(scores[:3].argmax()), 3 + int(scores[3:].argmax())]
    kept = read(tmp_path / "best")
    assert list(kept) == [f"{number:06d}.png" for number in best]
    for number, picture in zip(best, kept.values(), strict=True):
        assert float(picture.text["score"]) == pytest.approx(float(scores[number]), abs=0.02)
        assert (picture.text["prompt"], picture.text["judge"]) == ("red car", str(reader))


def test_what_is_named_as_on_the_hub_and_no_folder_is_opened_from_there(trained, tmp_path, run, monkeypatch):
    def refuse(name, device):
        raise CheckpointError(f"opened {name}")

    monkeypatch.setattr("vqgan.cli.judging.open_judge", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name, says in (
        ("openai/clip-vit", "opened openai/clip-vit"),
        ("runs/judge", "`runs/judge` cannot be read"),
    ):
        result = run("sample", trained.prior, "--judge", name, "--prompt", "a", "--out", "out")
        assert result.code == 5
        assert says in result.err


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (
            ("--keep-best", 0.5),
            2,
            "`--keep-best` needs a judge\nhint: give a classifier, or a text-image model",
        ),
        (("--prompt", "a"), 2, "`--prompt` needs a judge\nhint: give a classifier, or a text-image model"),
        (("--beam", 2), 2, "`--beam` needs a judge\nhint: give a classifier, or a text-image model"),
        (
            ("--judge", "JUDGE", "--prompt", "a"),
            2,
            "judge.safetensors` is a classifier\nhint: omit `--prompt`",
        ),
        (("--judge", "JUDGE", "--beam-rows", 2), 2, "`--beam-rows` needs `--beam`\nhint: add `--beam 4`"),
        (("--judge", "CLIP", "--prompt", " "), 2, "`--prompt` is empty\nhint: say what images shall show"),
        (("--judge", "CLIP"), 2, "clip` compares images with a text\nhint: give it: `--prompt TEXT`"),
        (("--judge", "EMPTY", "--prompt", "a"), 5, "empty` cannot be used for judging by texts: "),
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
    trained, judge, reader, tmp_path, run, flags, code, says
):
    encoder = tiny.tokenizer_config(channels=3).autoencoder
    other = tiny.classifier(encoder=encoder, class_names=("cat", "fox"))
    vqgan.save_model(other, tmp_path / "other.safetensors")
    vqgan.save_model(tiny.classifier(), tmp_path / "grey.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}", encoding="utf-8")
    files = {
        "JUDGE": judge,
        "CLIP": reader,
        "EMPTY": tmp_path / "empty",
        "TOKENIZER": trained.tokenizer,
        "OTHER": tmp_path / "other.safetensors",
        "GREY": tmp_path / "grey.safetensors",
    }
    words = [files.get(word, word) for word in flags]
    result = run("sample", trained.classes, "--class", "dark", "--out", tmp_path / "out", *words)
    assert result.code == code
    assert says in result.err
    assert not (tmp_path / "out").exists()


def prior_of(labels, path):
    """A prior with random weights, steered by classes of these kinds."""
    parts = tuple(ClassLabelConfig(num_classes=3, label=label) for label in labels)
    config = tiny.synthesizer_config()
    prior = msgspec.structs.replace(config.prior, condition_size=3 * len(parts), context_length=5)
    conditioner = SeveralConfig(conditioners=parts) if len(parts) > 1 else parts[0]
    vqgan.save_model(Synthesizer(msgspec.structs.replace(config, conditioner=conditioner, prior=prior)), path)
    return path


@pytest.mark.parametrize(("labels", "asked"), [(("action", "class"), [2, 2]), (("action",), None)])
def test_an_action_is_no_class_to_be_judged(labels, asked, tmp_path, run):
    prior, judge = prior_of(labels, tmp_path / "prior.safetensors"), tiny.classifier().eval()
    vqgan.save_model(judge, tmp_path / "judge.safetensors")
    words = ["--condition", "action=0,1", "--count", 1, "--judge", tmp_path / "judge.safetensors"]
    result = run("sample", prior, "--out", tmp_path / "out", *words, *(["--class", 2] if asked else []))
    assert result.code == 0, result.err
    texts = [image.text for image in read(tmp_path / "out").values()]
    assert [(text["action"], text.get("class")) for text in texts] == [(n, asked and "2") for n in "01"]
    images = torch.cat([read_images(tmp_path / f"out/00000{n}.png", channels=1) for n in (0, 1)])
    found = [float(text["score"]) for text in texts]
    assert found == pytest.approx(judge.scores(images, asked).tolist(), abs=0.01)


def test_each_kind_of_class_is_asked_for_by_its_own_flag(tmp_path, run):
    prior = prior_of(("class", "action"), tmp_path / "prior.safetensors")
    result = run("sample", prior, "--out", tmp_path / "out", "--class", 0)
    assert result.code == 2
    assert (
        "there is no `action`\nhint: name one or several: `--condition action=0,1`; each is a" in result.err
    )


def test_a_judge_draws_nothing_and_is_no_tokenizer_to_train_on(judge, tmp_path, run):
    result = run("sample", judge, "--out", tmp_path / "out")
    assert result.code == 5
    assert (
        "holds a classifier; new images need a prior\nhint: train one: `vqgan train prior PRESET "
        in result.err
    )
    assert "--tokenizer RUN ...`" in result.err
