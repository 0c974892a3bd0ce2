"""Conditions in the files of models, and where training asks for them or brings them along."""

import msgspec
import numpy as np
import pytest
import torch

import tiny
from vqgan.checkpoints.format import load_model, save_model
from vqgan.conditioning import Coordinates, CoordinatesConfig, SceneLayoutConfig, TokenizedImageConfig
from vqgan.errors import DataError
from vqgan.runs import train
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.training.build import build_prior_task, synthesizer_config
from vqgan.training.engine import Engine

SHARED = TokenizedImageConfig(codebook_size=tiny.CODES)
OWN = TokenizedImageConfig(codebook_size=tiny.CODES, image="depth", tokenizer=tiny.tokenizer_config())
SCENE = SceneLayoutConfig(
    num_classes=3,
    max_objects=2,
    vocabulary_size=16,
    encode_crop=True,
    use_group=False,
    use_additional=False,
)


def make(conditioner):
    run = msgspec.structs.replace(tiny.prior_run(), conditioner=conditioner)
    config = synthesizer_config(run, tiny.tokenizer())
    assert isinstance(config, SynthesizerConfig)
    torch.manual_seed(1)
    return Synthesizer(config).eval()


@pytest.mark.parametrize("conditioner", [SHARED, OWN], ids=["shared", "own"])
def test_a_model_comes_back_from_its_file(tmp_path, conditioner):
    model, path = make(conditioner), tmp_path / "prior.safetensors"
    save_model(model, path)
    found, header = load_model(path)
    assert found.config == model.config
    assert any(name.startswith("conditioner.") for name in header.shapes) is (conditioner is OWN)
    condition = {model.conditioner.name: tiny.images(2)}
    assert torch.equal(found.sample(2, condition=condition), model.sample(2, condition=condition))


@pytest.mark.parametrize("conditioner", [SHARED, OWN, SCENE], ids=["shared", "own", "scene"])
def test_training_says_that_the_images_come_without_such_a_condition(tmp_path, conditioner):
    path = tmp_path / "tokenizer.safetensors"
    save_model(tiny.tokenizer(), path)
    run = msgspec.structs.replace(tiny.prior_run(), conditioner=conditioner)
    kind = conditioner.__struct_config__.tag
    with pytest.raises(
        DataError,
        match=f"the condition is a `{kind}`, but the images come without one\nhint: give `--condition ",
    ):
        build_prior_task(
            run, Engine("cpu"), seed=0, tokenizer=path, start_from=None, class_names=("cat", "dog", "fox")
        )


@pytest.mark.parametrize(
    ("resize", "context", "cached"), [("cover", 0, 0), (None, 0, 0), (None, 8, 0), (None, 0, 16)]
)
def test_a_prior_of_coordinates_is_told_where_in_its_picture_each_crop_lies(
    resize, context, cached, tmp_path, monkeypatch
):
    """Of pictures of 40 x 40 pixels each has a value of its own, so a crop's first token tells where it lies."""
    seen, tokens = [], Coordinates.tokens
    monkeypatch.setattr(
        Coordinates, "tokens", lambda *given, **more: seen.append(tokens(*given, **more)) or seen[-1]
    )
    path = tmp_path / "tokenizer.safetensors"
    save_model(tiny.tokenizer(), path)
    conditioner = CoordinatesConfig(num_values=1600, downsample_factor=4)
    run = msgspec.structs.replace(tiny.prior_run(batch_size=64, pictures=2), conditioner=conditioner)
    data = msgspec.structs.replace(run.data, resize=resize, context=context, cached_codes=cached)
    pictures = np.random.Generator(np.random.Philox(0)).integers(0, 256, (30, 40, 40, 1), np.uint8)
    train(
        msgspec.structs.replace(run, data=data),
        data=pictures,
        out=tmp_path / "run",
        tokenizer=path,
        device="cpu",
    )
    first = torch.cat([each[:, 0] for each in seen])
    own = tokens(Coordinates(conditioner), None, 1, (2, 2))[0, 0]
    if resize == "cover":
        assert set(first.tolist()) == {own.item()}
    else:
        places = {
            row * 40 + column + 62 for row in range(33) for column in range(33)
        }  # 61.5: a cell's middle
        assert set(first.tolist()) <= places | {place - 1 for place in places}
        assert len(set(first.tolist())) > 100
        assert set(range(62, 95)) & set(first.tolist())  # the uppermost row
