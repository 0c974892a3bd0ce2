"""Conditions that are pictures or layouts in the files of models, and where training asks for them."""

import msgspec
import pytest
import torch

import tiny
from vqgan.checkpoints.format import load_model, save_model
from vqgan.conditioning import SceneLayoutConfig, TokenizedImageConfig
from vqgan.errors import DataError
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
        DataError, match=f"the condition is a `{kind}`, but the images come without one\nhint: set"
    ):
        build_prior_task(
            run, Engine("cpu"), seed=0, tokenizer=path, start_from=None, class_names=("cat", "dog", "fox")
        )
