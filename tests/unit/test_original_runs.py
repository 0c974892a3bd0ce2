"""Training from run files of the original, and from its checkpoints: the recorded ones, for two steps each."""

import re

import pytest
import torch
from torch.testing import assert_close

import vqgan
from reference import store
from vqgan.checkpoints.published import convert
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.cli.main import main
from vqgan.conditioning import ClassLabelConfig, UnconditionalConfig
from vqgan.config import dump_yaml, merge, parse_yaml, read_yaml
from vqgan.errors import CheckpointError, ConfigError
from vqgan.images import save_png
from vqgan.nn import perceptual as perceptual_module
from vqgan.runs import resolve, train
from vqgan.training.build import build_tokenizer_task
from vqgan.training.engine import Engine

STILL = ["task.optimizer.learning_rate=1e-9", "training.steps=2", "training.pictures=0", "data.workers=0"]
"""Two steps that show where they began: Adam moves no weight by more than about its rate."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Noise of 36x36 pixels in ten classes."""
    root = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for number in range(10):
        for index in range(3):
            noise = torch.rand(3, 36, 36, generator=generator) * 2 - 1
            save_png(noise, root / f"class{number}" / f"{index}.png")
    return root


@pytest.fixture
def original(tmp_path):
    """``original("train3")``: its checkpoint, converted, and its configuration as a run file."""

    def make(name, *, side=32, keep=False, change=None):
        checkpoint, config = tmp_path / f"{name}.ckpt", tmp_path / f"{name}.yaml"
        if not checkpoint.exists():
            store.write_checkpoint(name, checkpoint)
        data = {"data": {"params": {"batch_size": 2, "train": {"target": "", "params": {"size": side}}}}}
        text = (store.ROOT / name / "model.yaml").read_text()
        config.write_text(dump_yaml(merge(parse_yaml(text), data, change or {})))
        out = tmp_path / f"{name}{'-kept' if keep else ''}.safetensors"
        convert(checkpoint, out, config, keep_training=keep)
        return out, config

    return make


def assert_near(state, wanted, *, names=None):
    names = set(wanted) if names is None else names
    assert names
    for name in names:
        assert_close(state[name], wanted[name], rtol=0, atol=1e-7)


def discriminator_of(folder):
    model = RunFolder(folder).newest().tensors["model"]
    return {
        name.removeprefix("discriminator."): t
        for name, t in model.items()
        if name.startswith("discriminator.")
    }


def recorded_discriminator(reference):
    prefix = "loss.discriminator.main."
    state = {k.removeprefix(prefix): t for k, t in reference("train3").state.items() if k.startswith(prefix)}
    return {f"layers.{key}": t for key, t in state.items() if key.endswith(("weight", "bias"))}


def test_a_tokenizer_goes_on_from_a_converted_one_with_its_discriminator(
    original, images, tmp_path, reference
):
    file, config = original("train3", keep=True)
    out = train(config, data=images, out=tmp_path / "run", start_from=file, overrides=STILL, device="cpu")
    begun = vqgan.load(file, device="cpu")
    ended = vqgan.load(out, device="cpu")
    assert ended.config == begun.config
    assert_near(ended.state_dict(), begun.state_dict())
    assert any(not torch.equal(t, begun.state_dict()[name]) for name, t in ended.state_dict().items())
    assert_near(discriminator_of(out), recorded_discriminator(reference))
    assert resolve(out / "config.yaml").task.discriminator.reconstruction == "updated"


def test_without_its_training_state_the_discriminator_is_a_new_one(original, images, tmp_path, reference):
    file, config = original("train3")
    out = train(config, data=images, out=tmp_path / "run", start_from=file, overrides=STILL, device="cpu")
    recorded = recorded_discriminator(reference)["layers.0.weight"]
    assert not torch.allclose(discriminator_of(out)["layers.0.weight"], recorded, atol=1e-3)


def test_a_published_file_itself_is_a_beginning_too(original, images, tmp_path, reference):
    _, config = original("train3")
    checkpoint = tmp_path / "train3.ckpt"
    store.write_checkpoint("train3", checkpoint)
    (tmp_path / "model.yaml").write_text((store.ROOT / "train3" / "model.yaml").read_text())
    out = train(
        config, data=images, out=tmp_path / "run", start_from=checkpoint, overrides=STILL, device="cpu"
    )
    assert_near(discriminator_of(out), recorded_discriminator(reference))
    begun = vqgan.load(checkpoint, tmp_path / "model.yaml", device="cpu")
    assert_near(vqgan.load(out, device="cpu").state_dict(), begun.state_dict())


def test_another_discriminator_than_that_of_the_file_is_refused(original, images, tmp_path):
    file, config = original("train3", keep=True)
    overrides = [*STILL, "task.discriminator.base_channels=8"]
    with pytest.raises(CheckpointError) as caught:
        train(config, data=images, out=tmp_path / "run", start_from=file, overrides=overrides, device="cpu")
    assert (
        f"the one of `{file}` does not fit the discriminator of `task.discriminator`: "
        in caught.value.message
    )
    assert caught.value.hint == "set the discriminator of `task.discriminator` to what the file holds"


def perceptual_state():
    """LPIPS two channels wide, by the original's names."""
    layers = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
    state = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), "scaling_layer.scale": torch.ones(1, 3, 1, 1)}
    for number, places in enumerate(layers):
        for place in places:
            key = f"net.slice{number + 1}.{place}"
            state[f"{key}.weight"] = torch.rand(2, 3 if place == 0 else 2, 3, 3)
            state[f"{key}.bias"] = torch.rand(2)
        state[f"lin{number}.model.1.weight"] = torch.rand(1, 2, 1, 1)
    return {f"loss.perceptual_loss.{key}": tensor for key, tensor in state.items()}


@pytest.mark.parametrize("is_converted", [True, False])
def test_the_perceptual_network_travels_along(original, images, tmp_path, monkeypatch, is_converted):
    monkeypatch.setattr(perceptual_module, "STAGES", ((2, 2), (2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)))
    state = {**store.case("train3").state, **perceptual_state()}
    checkpoint = tmp_path / "train3.ckpt"
    torch.save({"state_dict": state, "global_step": 0}, checkpoint)
    weighted = {"model": {"params": {"lossconfig": {"params": {"perceptual_weight": 0.5}}}}}
    file, config = original("train3", keep=True, change=weighted)
    run = resolve(config, [*STILL])
    start = file if is_converted else checkpoint
    (tmp_path / "model.yaml").write_text(config.read_text())
    config.unlink()
    begun, task = build_tokenizer_task(run, Engine("cpu"), seed=0, start_from=start)
    assert begun.task.perceptual.weights == str(start)
    wanted = state["loss.perceptual_loss.net.slice1.2.weight"]
    assert torch.equal(task.perceptual.state_dict()["stages.0.1.weight"], wanted)
    out = train(run, data=images, out=tmp_path / "run", start_from=start, device="cpu")
    assert resolve(out / "config.yaml").task.perceptual.weights == str(start)


def test_a_prior_is_trained_on_a_converted_tokenizer(original, images, tmp_path, caplog):
    tokenizer, _ = original("vqmodel_tiny")
    _, config = original("net2net_uncond")
    out = train(config, data=images, out=tmp_path / "run", tokenizer=tokenizer, overrides=STILL, device="cpu")
    model = vqgan.load(out, device="cpu")
    state = vqgan.load(tokenizer, device="cpu").state_dict()
    assert all(torch.equal(model.tokenizer.state_dict()[name], tensor) for name, tensor in state.items())
    assert model.config.conditioner == UnconditionalConfig(start_token=5)
    assert model.config.prior.vocabulary == "shared"
    assert (model.config.prior.depth, model.config.prior.width) == (2, 64)
    assert model.config.window == (8, 8)
    assert model.sample(1).shape == (1, 3, 32, 32)


OWN = """\
kind: prior
conditioner: {kind: unconditional}
prior: {depth: 1, width: 16, num_heads: 2, dropout: 0.25}
task: {optimizer: {learning_rate: 1e-9, betas: [0.9, 0.95]}, token_keep_probability: 0.9}
data: {image_size: [32, 32]}
training: {steps: 2, batch_size: 2, pictures: 0}
"""


def test_a_prior_goes_on_from_a_converted_one_with_the_dropout_of_the_run(original, images, tmp_path):
    file, _ = original("net2net_uncond")
    own = tmp_path / "own.yaml"
    own.write_text(OWN)
    out = train(own, data=images, out=tmp_path / "run", start_from=file, device="cpu")
    begun, ended = vqgan.load(file, device="cpu"), vqgan.load(out, device="cpu")
    assert_near(ended.state_dict(), begun.state_dict())
    assert any(not torch.equal(t, begun.state_dict()[name]) for name, t in ended.state_dict().items())
    recorded = resolve(out / "config.yaml")
    assert (recorded.prior.vocabulary, recorded.prior.dropout, recorded.prior.depth) == ("shared", 0.25, 2)
    assert ended.config.prior.dropout == 0.25
    assert recorded.conditioner == UnconditionalConfig(start_token=5)


@pytest.mark.parametrize(("kind", "side"), [("coord", 64), ("class", 32)])
def test_a_steered_prior_goes_on_with_the_file_of_its_own_training(original, images, tmp_path, kind, side):
    file, config = original(f"net2net_{kind}", side=side)
    out = train(config, data=images, out=tmp_path / "run", start_from=file, overrides=STILL, device="cpu")
    begun, ended = vqgan.load(file, device="cpu"), vqgan.load(out, device="cpu")
    assert ended.config == begun.config
    assert_near(ended.state_dict(), begun.state_dict())


@pytest.mark.parametrize("is_fresh", [True, False])
def test_a_prior_keeps_the_order_in_which_it_reads(original, images, tmp_path, is_fresh):
    file, config = original("net2net_permuter", side=16)
    beginning = {"tokenizer": file} if is_fresh else {"start_from": file}
    run = resolve(config, [*STILL] if is_fresh else [*STILL, "token_order=raster"])
    out = train(run, data=images, out=tmp_path / "run", device="cpu", **beginning)
    begun, ended = vqgan.load(file, device="cpu"), vqgan.load(out, device="cpu")
    assert ended.config.token_order == resolve(out / "config.yaml").token_order == "spiral_out"
    names = set() if is_fresh else {name for name in begun.state_dict() if name.startswith("prior.")}
    tokenizer = {name for name in begun.state_dict() if name.startswith("tokenizer.")}
    assert_near(ended.state_dict(), begun.state_dict(), names=names | tokenizer)
    classes = resolve(out / "config.yaml").conditioner
    assert isinstance(classes, ClassLabelConfig)
    assert classes.vocabulary_size == 10
    train(None, resume=out, overrides=["training.steps=3"], device="cpu")


@pytest.mark.parametrize(
    ("name", "item", "wanted", "found"),
    [
        ("vqmodel_tiny", "tokenizer.quantizer.codebook_size=128", 128, 64),
        ("vqmodel_tiny", "tokenizer.quantizer={codebook_size: 128}", 128, 64),
        ("net2net_uncond", "prior.depth=3", 3, 2),
        ("net2net_permuter", "token_order=raster", "raster", "spiral_out"),
    ],
)
def test_what_is_set_and_the_file_begun_with_must_agree(
    original, images, tmp_path, name, item, wanted, found
):
    file, config = original(name, side=16 if "permuter" in name else 32)
    key = "tokenizer.quantizer.codebook_size" if "quantizer" in item else item.partition("=")[0]
    with pytest.raises(ConfigError) as caught:
        train(
            config, data=images, out=tmp_path / "run", start_from=file, overrides=[*STILL, item], device="cpu"
        )
    assert caught.value.message.startswith(f"`{key}` is set to {wanted}")
    assert f"but in `{file}` it is {found}" in caught.value.message
    assert not (tmp_path / "run").exists()


def test_the_command_takes_a_file_of_the_original_and_says_what_it_does_with_it(
    original, images, tmp_path, capsys
):
    _, config = original("train3", change={"model": {"project": "mine"}})
    words = ["--data", str(images), "--out", str(tmp_path / "run"), "--steps", "2", "--workers", "0"]
    assert main(["train", "tokenizer", str(config), *words, "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert said.count("that are not read: `model.project`") == 1
    assert "give `--" not in said.replace("give `--from`", "").replace("give `--eval-data`", "")
    recorded = read_yaml(tmp_path / "run" / "config.yaml")
    assert (recorded["kind"], recorded["training"]["steps"]) == ("tokenizer", 2)
    assert recorded["task"]["optimizer"]["learning_rate"] == pytest.approx(9e-6)
    assert main(["train", "prior", str(config), *words]) == 2
    assert "trains a tokenizer\nhint: use `vqgan train tokenizer`" in capsys.readouterr().err


def test_a_prior_of_the_original_needs_a_tokenizer_as_every_prior_does(original, images, tmp_path):
    _, config = original("net2net_uncond")
    with pytest.raises(ConfigError, match=re.escape('hint: give `tokenizer="FILE|RUN"`')):
        train(config, data=images, out=tmp_path / "run", overrides=STILL, device="cpu")
    assert not (tmp_path / "run").exists()
