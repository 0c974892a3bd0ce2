"""Priors whose condition is computed from the images that they learn."""

import json

import msgspec
import numpy as np
import pytest
import torch

import tiny
from vqgan.checkpoints.format import save_model
from vqgan.checkpoints.load import load
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.conditioning import (
    EdgesConfig,
    LowResolutionConfig,
    PaletteConfig,
    SeveralConfig,
    UnconditionalConfig,
)
from vqgan.errors import ConfigError
from vqgan.images import to_float
from vqgan.prior import LocalSpan, PriorShape
from vqgan.runs import read_run, train
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer, TokenizerConfig, VectorQuantizerConfig
from vqgan.training.build import synthesizer_config
from vqgan.training.engine import Engine
from vqgan.training.prior_task import PriorTask, PriorTaskConfig
from vqgan.types import Batch

COLOURS = ((0, 0, 0), (250, 20, 0), (0, 40, 240), (255, 255, 255))


def pictures(count, side=6, seed=0):
    """Each pixel is of one of the colours."""
    draws = np.random.Generator(np.random.Philox(seed)).integers(0, len(COLOURS), (count, side, side))
    return np.array(COLOURS, np.uint8)[draws]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """The file of a tokenizer whose codes are the colours."""
    config = TokenizerConfig(
        autoencoder=None, quantizer=VectorQuantizerConfig(codebook_size=len(COLOURS), codebook_dim=3)
    )
    tokenizer = Tokenizer(config)
    with torch.no_grad():
        tokenizer.quantizer.codebook.weight.copy_(torch.tensor(COLOURS) / 127.5 - 1)
    path = tmp_path_factory.mktemp("pixels") / "tokenizer.safetensors"
    save_model(tokenizer, path)
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tokenizer.safetensors"
    save_model(tiny.tokenizer(channels=3), path)
    return path


def run(conditioner, side=6, **training):
    return msgspec.structs.replace(
        tiny.prior_run(**training),
        conditioner=conditioner,
        prior=PriorShape(
            depth=1, width=32, num_heads=2, positions="rotary", span=LocalSpan(rows=1, columns=1)
        ),
        task=PriorTaskConfig(optimizer=msgspec.structs.replace(tiny.OPTIMIZER, learning_rate=3e-2)),
        data=msgspec.structs.replace(tiny.prior_run().data, image_size=(side, side)),
    )


def trained(settings, folder, tokenizer, **more):
    return train(
        settings,
        data=pictures(64),
        eval_data=pictures(16, seed=1),
        out=folder,
        tokenizer=tokenizer,
        device="cpu",
        **more,
    )


def heldout_loss(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["heldout_loss"] for row in rows if "heldout_loss" in row][-1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, pixels):
    """The same pictures learned with and without their palette."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {"steps": 25, "batch_size": 16}
    with_palette = trained(run(PaletteConfig(num_colours=4), **settings), folder / "palette", pixels)
    without = trained(run(UnconditionalConfig(), **settings), folder / "without", pixels)
    return with_palette, without


def test_the_colours_of_the_images_are_found_before_the_first_step_and_kept(runs):
    settings, _ = read_run(RunFolder(runs[0]))
    assert settings.conditioner == PaletteConfig(num_colours=4, colours=COLOURS)
    assert load(runs[0], device="cpu").conditioner.config == settings.conditioner


def test_a_palette_that_tells_the_colours_lowers_the_loss_and_samples_follow_it(runs):
    losses = [heldout_loss(each) for each in runs]
    assert losses[0] < 0.3 < 1.3 < losses[1]  # ln 4 = 1.39 nats each
    model, asked = load(runs[0], device="cpu"), to_float(pictures(8, seed=2))
    palette = model.conditioner
    labels = palette.tokens({"palette": asked}, 8, (6, 6))
    drawn = model.sample(8, condition={"palette": asked})
    assert (palette.tokens({"palette": drawn}, 8, (6, 6)) == labels).float().mean() > 0.9
    free = load(runs[1], device="cpu").sample(8)
    assert (palette.tokens({"palette": free}, 8, (6, 6)) == labels).float().mean() < 0.4
    assert torch.equal(model.sample(8, condition={"palette": labels.view(8, 6, 6)}), drawn)


@pytest.mark.parametrize("kind", ["edges", "palette", "low_resolution"])
def test_a_kind_is_all_that_a_run_must_name(kind, tokenizer, tmp_path):
    overrides = [f"conditioner.kind={kind}", "training.steps=2", "training.pictures=2"]
    settings = tiny.prior_run()
    folder = train(
        settings,
        data=pictures(8, 10),
        out=tmp_path / "run",
        tokenizer=tokenizer,
        overrides=overrides,
        device="cpu",
    )
    train(None, resume=folder, data=pictures(8, 10), overrides=["training.steps=3"], device="cpu")
    model = load(folder, device="cpu")
    assert model.conditioner.name == kind
    photograph = to_float(pictures(1, 8))
    first = model.sample(2, condition={kind: photograph})
    assert torch.equal(first, model.sample(2, condition={kind: photograph}))
    larger = to_float(pictures(1, 16))
    assert model.sample(1, (16, 16), condition={kind: larger}).shape == (1, 3, 16, 16)
    scores = model.log_probability(photograph, {kind: photograph})
    assert scores.shape == (1, 4)
    more = train(
        read_run(RunFolder(folder))[0],
        data=pictures(8, 10),
        out=tmp_path / "more",
        start_from=folder,
        device="cpu",
    )
    assert load(more, device="cpu").config == model.config


@pytest.mark.parametrize("kind", ["edges", "palette", "low_resolution"])
def test_cached_codes_are_refused(kind, tokenizer, tmp_path):
    message = f"`data.cached_codes` is 2, but `{kind}` is computed from each sample's image, .*\nhint: set `data.cach"
    with pytest.raises(ConfigError, match=message):
        train(
            tiny.prior_run(),
            data=pictures(8, 20),
            out=tmp_path / "run",
            tokenizer=tokenizer,
            overrides=[f"conditioner.kind={kind}", "data.cached_codes=2", "data.resize=null"],
            device="cpu",
        )
    assert not (tmp_path / "run").exists()


def test_colours_of_other_channels_than_the_images_are_refused(tokenizer, tmp_path):
    message = r"`conditioner.colours` are \(\(3,\),\), expected 3 channels, .*\nhint: omit them"
    with pytest.raises(ConfigError, match=message):
        train(
            msgspec.structs.replace(tiny.prior_run(), conditioner=PaletteConfig(colours=((3,),))),
            data=pictures(8, 10),
            out=tmp_path / "run",
            tokenizer=tokenizer,
            device="cpu",
        )


CONDITIONERS = [EdgesConfig(), PaletteConfig(colours=COLOURS), LowResolutionConfig(codebook_size=tiny.CODES)]


def task(conditioner):
    settings = msgspec.structs.replace(tiny.prior_run(), conditioner=conditioner)
    synthesizer = Synthesizer(synthesizer_config(settings, tiny.tokenizer(channels=3)))
    config = PriorTaskConfig(optimizer=tiny.OPTIMIZER)
    return PriorTask(synthesizer, config, loop=tiny.loop(), engine=Engine("cpu"), seed=0)


def noted(task, monkeypatch):
    seen, tokens = [], task.synthesizer.conditioner.tokens
    monkeypatch.setattr(
        task.synthesizer.conditioner,
        "tokens",
        lambda *given, **more: seen.append(tokens(*given, **more)) or seen[-1],
    )
    return seen


@pytest.mark.parametrize("conditioner", CONDITIONERS[:2], ids=["edges", "palette"])
def test_of_images_with_context_the_tokens_are_those_of_the_whole(conditioner, monkeypatch):
    images = to_float(pictures(3, 20))
    corner = torch.tensor([[0, 4], [4, 4], [8, 12]])
    learner = task(conditioner)
    reader = learner.synthesizer.conditioner
    whole = reader.tokens({reader.name: images}, 3, (5, 5)).view(3, 5, 5)
    seen = noted(learner, monkeypatch)
    learner.train_step([Batch(images, {}, torch.arange(3), corner=corner)], 0)
    expected = torch.stack([whole[0, :2, 1:3], whole[1, 1:3, 1:3], whole[2, 2:4, 3:5]]).flatten(1)
    assert torch.equal(seen[0], expected)


@pytest.mark.parametrize("conditioner", CONDITIONERS, ids=["edges", "palette", "low_resolution"])
def test_a_value_that_the_data_has_comes_first(conditioner, monkeypatch):
    learner = task(conditioner)
    name, images = learner.synthesizer.conditioner.name, to_float(pictures(2, 8))
    given = learner.synthesizer.conditioner.from_images(to_float(pictures(2, 8, seed=5)))
    expected = learner.synthesizer.conditioner.tokens(given, 2, (2, 2))
    seen = noted(learner, monkeypatch)
    learner.train_step([Batch(images, {name: given[name]}, torch.arange(2))], 0)
    assert torch.equal(seen[0], expected)


def test_edges_and_palette_steer_together_and_each_can_be_left_out(tokenizer, tmp_path):
    conditioner = SeveralConfig(conditioners=(EdgesConfig(), PaletteConfig(num_colours=4)))
    folder = train(
        msgspec.structs.replace(tiny.prior_run(), conditioner=conditioner),
        data=pictures(8, 10),
        out=tmp_path / "run",
        tokenizer=tokenizer,
        overrides=["training.steps=2", "task.condition_dropout=0.5"],
        device="cpu",
    )
    model, photograph = load(folder, device="cpu"), to_float(pictures(1, 8))
    assert len(model.config.conditioner.conditioners[1].colours) == 4
    both = {"edges": photograph, "palette": photograph}
    drawn = [model.log_probability(photograph, each) for each in (both, {"palette": photograph}, {})]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])
    assert model.sample(2, condition=both, guidance=2.0).shape == (2, 3, 8, 8)
