"""Priors that are steered by the frames before an image and an action."""

import msgspec
import numpy as np
import pytest
import torch

import tiny
from vqgan.checkpoints.format import save_model
from vqgan.checkpoints.load import load
from vqgan.conditioning import ClassLabelConfig, SeveralConfig, TokenizedImage, TokenizedImageConfig
from vqgan.data.source import ArraySource, Steps
from vqgan.errors import ConfigError, DataError
from vqgan.runs import train

NAMES = ("NOOP", "LEFT", "RIGHT")
FRAMES = SeveralConfig(
    conditioners=(
        TokenizedImageConfig(image="previous_1"),
        TokenizedImageConfig(image="previous_2"),
        ClassLabelConfig(label="action"),
    )
)


def films(seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (60, 10, 10, 1), np.uint8)
    return ArraySource(name="films", images=images, steps=Steps(np.arange(60) // 6, np.arange(60) % 3, NAMES))


def run(conditioner=FRAMES, *, flip=False, **training):
    base = tiny.prior_run(**training)
    data = msgspec.structs.replace(base.data, flip=flip)
    return msgspec.structs.replace(base, conditioner=conditioner, data=data)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.safetensors"
    save_model(tiny.tokenizer(), path)
    return path


def trained(tokenizer, out, settings, **more):
    return train(settings, data=films(), out=out, tokenizer=tokenizer, device="cpu", **more)


def test_training_reads_earlier_frames_and_actions_and_the_file_knows_their_names(
    tokenizer, tmp_path, monkeypatch
):
    seen, tokens = [], TokenizedImage.tokens
    monkeypatch.setattr(
        TokenizedImage,
        "tokens",
        lambda part, condition, *rest, **more: (
            seen.append((part.name, condition[part.name])) or tokens(part, condition, *rest, **more)
        ),
    )
    model = load(trained(tokenizer, tmp_path / "run", run(pictures=2)), device="cpu")
    assert [part.name for part in model.conditioner.parts] == ["previous_1", "previous_2", "action"]
    assert model.conditioner.parts[2].config.class_names == NAMES
    assert model.conditioner.parts[0].config.codebook_size == tiny.CODES
    assert {name for name, _ in seen} == {"previous_1", "previous_2"}
    assert all(value.shape[1:] == (1, 8, 8) for _, value in seen)
    condition = {"previous_1": tiny.images(1), "previous_2": tiny.images(1), "action": "LEFT"}
    assert model.sample(2, condition=condition).shape == (2, 1, 8, 8)


def test_a_stopped_run_continues_as_if_it_had_not(tokenizer, tmp_path):
    whole = trained(tokenizer, tmp_path / "whole", run())
    half = trained(tokenizer, tmp_path / "half", run(steps=2))
    train(None, resume=half, data=films(), overrides=["training.steps=4"], device="cpu")
    # The learning rate of a run of two steps is that of four: it is constant.
    one, other = (load(folder, device="cpu").state_dict() for folder in (whole, half))
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ConfigError, match="the data has fingerprint"):
        train(None, resume=half, data=films(1), overrides=["training.steps=5"], device="cpu")


def test_mirrored_actions_are_refused(tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="in mirrored frames actions would mean something else"):
        trained(tokenizer, tmp_path / "run", run(flip=True))
    frames = run(TokenizedImageConfig(image="previous_1"), flip=True)
    assert trained(tokenizer, tmp_path / "run", frames).is_dir()


def test_images_that_do_not_follow_each_other_are_refused(tokenizer, tmp_path):
    with pytest.raises(DataError, match="the images of `the array` do not follow each other"):
        train(run(), data=films().images, out=tmp_path / "run", tokenizer=tokenizer, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_class_of_another_name_without_a_table_is_refused(tokenizer, tmp_path):
    with pytest.raises(DataError, match="the condition is a `class_label`, but the images come without one"):
        trained(tokenizer, tmp_path / "run", run(ClassLabelConfig(label="weather")))


def test_a_class_of_another_name_comes_from_a_table(tokenizer, tmp_path):
    rows = [f"{number},{'rain' if number % 2 else 'sun'}" for number in range(60)]
    (tmp_path / "weather.csv").write_text("\n".join(rows), encoding="utf-8")
    settings = run(ClassLabelConfig(label="weather"))
    folder = trained(tokenizer, tmp_path / "run", settings, conditions={"weather": tmp_path / "weather.csv"})
    assert load(folder, device="cpu").conditioner.config.class_names == ("rain", "sun")


def test_codes_are_taken_in_place_of_their_picture():
    part = TokenizedImage(
        TokenizedImageConfig(codebook_size=tiny.CODES, image="previous_1"), tiny.tokenizer()
    )
    pictures = tiny.images(3)
    codes = part.encoder.encode(pictures)
    for value, count in ((codes, 3), (codes[:1], 3), (codes.int(), 3)):
        expected = part.tokens({"previous_1": pictures[: len(value)]}, count, (2, 2))
        assert torch.equal(part.tokens({"previous_1": value}, count, (2, 2)), expected)
    with pytest.raises(ConfigError, match="indices range from 0 to 16; the codebook has 0 to 15"):
        part.tokens({"previous_1": torch.tensor([[[0, 16], [1, 2]]])}, 1, (2, 2))
