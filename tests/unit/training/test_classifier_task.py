"""A classifier's training: it learns classes, wherever they come from."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import tiny
import vqgan
from vqgan.data import open_source, parse_source
from vqgan.errors import CheckpointError, ConfigError, DataError
from vqgan.images import save_png, to_float
from vqgan.runs import resolve, train
from vqgan.training.classifier_task import ClassifierTask
from vqgan.training.engine import Engine
from vqgan.types import Batch


def task(seed=0):
    run = tiny.classifier_run()
    return ClassifierTask(tiny.classifier(seed), run.task, loop=run.training, engine=Engine("cpu"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    changes = ["training.steps=100", "training.pictures=4"]
    out = tmp_path_factory.mktemp("digits") / "run"
    return train("digits-classifier", out=out, overrides=changes, device="cpu")


def test_it_recognises_held_out_digits_after_seconds(digits):
    rows = [json.loads(line) for line in (digits / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["heldout_accuracy"] > 0.9
    assert rows[-1]["heldout_loss"] < 0.5 < rows[0]["loss"]
    assert vqgan.load(digits, device="cpu").config.class_names == tuple("0123456789")
    report = (digits / "report.html").read_text()
    assert "held-out images whose class is found" in report
    assert "from the class that is recognised most certainly to the least" in report


def test_as_a_judge_it_finds_the_asked_digit_among_others(digits):
    judge = vqgan.load(digits, device="cpu")
    heldout = open_source(parse_source("digits")).part("heldout")
    items = [heldout.read(number) for number in range(len(heldout))]
    images = to_float(np.stack([item.pixels for item in items]))
    is_three = torch.tensor([item.class_index == 3 for item in items])
    kept, scores = vqgan.keep_best(images, lambda part: judge(part)[:, 3], 0.05)
    chosen = [next(n for n, image in enumerate(images) if torch.equal(image, each)) for each in kept]
    assert len(kept) == 5
    assert is_three[chosen].all()
    assert is_three.float().mean() < 0.2
    assert torch.equal(scores, judge.scores(images, [3] * len(images)).sort(descending=True).values[:5])


def test_micro_batches_together_are_the_whole_batch():
    whole, parts = task(), task()
    batch = tiny.batch(6)
    one, two = whole.train_step([batch], 0), parts.train_step(tiny.split(batch, 2), 0)
    for name in ("loss", "accuracy", "gradient_norm"):
        assert_close(one[name], two[name])


def parts(batch, start, end):
    classes = {"class": batch.condition["class"][start:end]}
    return Batch(batch.images[start:end], classes, batch.sample[start:end])


@torch.no_grad()
def test_held_out_numbers_weigh_every_image_alike():
    trained, batch = task(), tiny.batch(6)
    numbers = trained.evaluate([parts(batch, 0, 4), parts(batch, 4, 6)])
    probabilities = trained.classifier.eval()(batch.images)
    chosen = probabilities[torch.arange(6), batch.condition["class"]]
    assert numbers["loss"] == pytest.approx(float(-chosen.log().mean()), rel=1e-5)
    hits = probabilities.argmax(dim=1) == batch.condition["class"]
    assert numbers["accuracy"] == pytest.approx(float(hits.float().mean()))
    assert trained.evaluate([]) == {}


def test_pictures_begin_with_the_class_that_is_most_certain():
    trained, batch = task(), tiny.batch(6)
    shown = trained.pictures(batch, lambda _: None)["classified"]
    scores = trained.classifier.eval().scores(batch.images, batch.condition["class"].tolist())
    assert torch.equal(shown, batch.images[scores.argsort(descending=True)])


def photos(folder, names):
    for name in names:
        for number in range(4):
            save_png(tiny.images(1, seed=number)[0], folder / name / f"{number}.png")
    return folder


def test_classes_come_from_a_table_too(tmp_path):
    data = photos(tmp_path / "data", ["a"])
    rows = "\n".join(f"a/{number}.png,{'odd' if number % 2 else 'even'}" for number in range(4))
    (tmp_path / "labels.csv").write_text(rows)
    table = {"class": tmp_path / "labels.csv"}
    out = train(tiny.classifier_run(steps=1), data=data, conditions=table, out=tmp_path / "run", device="cpu")
    assert vqgan.load(out, device="cpu").config.class_names == ("even", "odd")
    train(None, resume=out, overrides=["training.steps=2"], device="cpu")
    with pytest.raises(ConfigError, match="the condition `depth` takes no files"):
        train(tiny.classifier_run(), data=data, conditions={"depth": data}, out=tmp_path / "x", device="cpu")


@pytest.mark.parametrize(
    ("names", "arguments", "error", "message"),
    [
        ([""], {}, DataError, "a classifier learns classes, but the images have none\nhint: put the images"),
        (["a"], {}, DataError, "a classifier learns classes, but the images have "),
        (["a", "b"], {"tokenizer": "x"}, ConfigError, "a classifier is not trained on a tokenizer"),
        (
            ["a", "b"],
            {"overrides": ["data.context=4"]},
            ConfigError,
            "the run: `data.context` is 4, expected 0: a classifier learns from what it sees",
        ),
        (
            ["a", "b"],
            {"overrides": ["data.image_size=[8, 9]"]},
            ConfigError,
            "images of 8x9 pixels do not fit the classifier; height and width must be multiples of 4",
        ),
        (["a", "b"], {"stage": "prior"}, ConfigError, "hint: use `vqgan train classifier`"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing(tmp_path, names, arguments, error, message):
    data = photos(tmp_path / "data", names)
    with pytest.raises(error) as caught:
        train(tiny.classifier_run(), data=data, out=tmp_path / "run", device="cpu", **arguments)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_it_begins_with_the_weights_of_another_run_of_these_classes(tmp_path):
    data = photos(tmp_path / "data", ["a", "b"])
    begun = {"data": data, "device": "cpu", "seed": 1}
    first = train(tiny.classifier_run(), out=tmp_path / "first", **begun)
    changes = ["task.optimizer.learning_rate=1e-12", "encoder.dropout=0.5"]
    slow = resolve(tiny.classifier_run(steps=1), changes)
    second = train(slow, out=tmp_path / "second", start_from=first, **begun)
    ours, theirs = (vqgan.load(each, device="cpu") for each in (second, first))
    assert_close(ours(tiny.images(3)), theirs(tiny.images(3)))
    other = photos(tmp_path / "other", ["a", "c"])
    with pytest.raises(
        CheckpointError, match=r"holds a classifier with other sizes or classes .*: class_names"
    ):
        train(slow, data=other, out=tmp_path / "third", start_from=first, device="cpu")
