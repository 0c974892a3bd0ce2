"""The recorded checkpoints as files, through ``vqgan.load``: what a user gets from them is what the original gave."""

import copy
import shutil

import pytest
import torch
from torch.testing import assert_close

import vqgan
from reference import store
from vqgan.cli.main import main
from vqgan.config import to_mapping
from vqgan.errors import CheckpointError
from vqgan.sampling import SamplingSettings, sample_grid, sample_sliding

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
KINDS = (
    "vqmodel_tiny",
    "gumbelvq_tiny",
    "train3",
    *(f"net2net_{kind}" for kind in ("class", "uncond", "coord", "firststage", "permuter", "scene")),
)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder for each recorded checkpoint, laid out as the published ones are."""
    root = tmp_path_factory.mktemp("published")
    for name in KINDS:
        for part in ("checkpoints", "configs"):
            (root / name / part).mkdir(parents=True)
        store.write_checkpoint(name, root / name / "checkpoints" / "last.ckpt")
        shutil.copy(
            store.ROOT / name / "model.yaml", root / name / "configs" / "2021-04-03T19-39-50-project.yaml"
        )
    return root


@pytest.fixture(scope="module")
def models(published):
    return {name: vqgan.load(published / name, device="cpu") for name in KINDS}


def test_tokenizer(models, reference):
    model, case = models["vqmodel_tiny"], reference("vqmodel_tiny")
    with torch.no_grad():
        for end in ("", "_wide"):
            images, recorded = case.tensor(f"image{end}"), case.tensor(f"recon{end}")
            indices = model.encode(images)
            assert torch.equal(indices.flatten(), case.tensor(f"indices{end}"))
            # As the original computes it; and from the codes alone, whose fp32 rounding is 1.6e-5, in float64.
            assert_close(model(images).images, recorded, **TOLERANCE)
            assert_close(copy.deepcopy(model).double().decode(indices).float(), recorded, **TOLERANCE)
        free = case.tensor("gi").view(2, 16, 16)
        assert_close(model.decode(free), case.tensor("gi_decoded"), **TOLERANCE)


def test_gumbel_tokenizer(models, reference):
    model, case = models["gumbelvq_tiny"], reference("gumbelvq_tiny")
    with torch.no_grad():
        indices = model.encode(case.tensor("image"))
        assert torch.equal(indices, case.tensor("argmax"))
        assert_close(model.decode(indices), case.tensor("argmax_recon"), **TOLERANCE)


CONDITIONS = {"class": "class", "permuter": "class", "firststage": "lr", "scene": "layout"}
"""The name under which each kind's recorded condition is given; the others need none."""


def condition_of(kind, case):
    return {CONDITIONS[kind]: case.tensor("cond")} if kind in CONDITIONS else None


@pytest.mark.parametrize("kind", ["class", "uncond", "firststage", "permuter", "scene"])
def test_second_stage(models, reference, kind):
    model, case = models[f"net2net_{kind}"], reference(f"net2net_{kind}")
    condition = condition_of(kind, case)
    with torch.no_grad():
        loss = -model.log_probability(case.tensor("image"), condition).mean()
        tokens = model.conditioner.tokens(condition, 2, (8, 8))
        assert_close(model.prior(case.tensor("z_indices"), tokens), case.tensor("logits"), **TOLERANCE)
        images = copy.deepcopy(model).double().sample(2, condition=condition, temperature=0.0)
        found = sample_grid(
            model.prior,
            tokens,
            torch.zeros(2, 8, 8, dtype=torch.int64),
            torch.zeros(2, 8, 8, dtype=torch.bool),
            settings=SamplingSettings(temperature=0.0),
            token_order=model.config.token_order,
        )
    assert_close(loss, case.tensor("loss"), **TOLERANCE)
    assert torch.equal(tokens, case.tensor("c_indices"))
    assert torch.equal(found.flatten(1), case.tensor("greedy"))
    assert_close(images.float(), case.tensor("greedy_image"), **TOLERANCE)


def test_second_stage_with_coordinates_on_a_wide_image(models, reference):
    model, case = models["net2net_coord"], reference("net2net_coord")
    assert model.config.window == (16, 16)
    with torch.no_grad():
        tokens = model.conditioner.tokens(None, 1, (16, 24))
        assert torch.equal(tokens, case.tensor("c_indices"))
        found = sample_sliding(
            model.prior,
            tokens,
            torch.zeros(1, 16, 24, dtype=torch.int64),
            torch.zeros(1, 16, 24, dtype=torch.bool),
            window=(16, 16),
            lengths=(None,),
            settings=SamplingSettings(temperature=0.0),
        )
    assert torch.equal(found, case.tensor("slide16"))


def everything_but_resolution(config):
    """A configuration without what no tensor tells, and with attention by level in its place."""
    mapping = to_mapping(config)
    sizes = config.tokenizer.autoencoder if "tokenizer" in mapping else config.autoencoder
    own = mapping["tokenizer"]["autoencoder"] if "tokenizer" in mapping else mapping["autoencoder"]
    own["resolution"] = None
    own["attention_resolutions"] = [
        sizes.has_attention(level) for level in range(len(own["channel_multipliers"]))
    ]
    return mapping


KNOWN = {
    "class": ["conditioner={kind: class_label, num_classes: 10}"],
    "uncond": ["conditioner={kind: unconditional, start_token: 5}"],
    "coord": ["conditioner.kind=coordinates"],
    "firststage": ["conditioner.image=lr"],
    "permuter": ["conditioner={kind: class_label, num_classes: 10}"],
    "scene": ["conditioner.kind=scene_layout"],
}
"""What the tensors of each kind of second stage do not show, beside the number of heads."""


@pytest.mark.parametrize("name", KINDS)
def test_without_its_configuration_everything_is_inferred_but_what_is_asked_for(models, tmp_path, name):
    path = tmp_path / "last.ckpt"
    store.write_checkpoint(name, path)
    kind = name.removeprefix("net2net_")
    known = ["prior.num_heads=4", *KNOWN[kind]] if kind in KNOWN else []
    if known:
        with pytest.raises(CheckpointError, match=r"its tensors do not show `prior\.num_heads`"):
            vqgan.load(path, overrides=known[1:])
    found = vqgan.load(path, overrides=known, device="cpu")
    assert everything_but_resolution(found.config) == everything_but_resolution(models[name].config)
    state = models[name].state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in found.state_dict().items())


@pytest.mark.parametrize("name", KINDS)
def test_a_converted_file_gives_bitwise_the_same(published, models, tmp_path, name):
    checkpoint, out = published / name / "checkpoints" / "last.ckpt", tmp_path / "out.safetensors"
    assert main(["convert", str(checkpoint), "--out", str(out)]) == 0
    converted, original = vqgan.load(out, device="cpu"), models[name]
    assert converted.config == original.config
    assert converted.state_dict().keys() == original.state_dict().keys()
    assert all(torch.equal(t, original.state_dict()[key]) for key, t in converted.state_dict().items())
    assert not any(module.training for module in converted.modules())


def test_the_discriminator_travels_along_when_asked_for(published, tmp_path, reference):
    checkpoint, out = published / "train3" / "checkpoints" / "last.ckpt", tmp_path / "out.safetensors"
    assert main(["convert", str(checkpoint), "--out", str(out), "--keep-training-state"]) == 0
    from vqgan.checkpoints.format import read_header, read_training

    assert read_header(out).training == {
        "discriminator": {"image_channels": 3, "base_channels": 16, "num_layers": 3}
    }
    stored, state = read_training(out, "discriminator"), reference("train3").state
    assert torch.equal(stored["layers.0.weight"], state["loss.discriminator.main.0.weight"])


def test_a_configuration_of_another_model_is_refused(published):
    checkpoint = published / "vqmodel_tiny" / "checkpoints" / "last.ckpt"
    with pytest.raises(
        CheckpointError, match=r"does not fit the tokenizer|are unknown for this kind of model"
    ):
        vqgan.load(checkpoint, store.ROOT / "gumbelvq_tiny" / "model.yaml")


def test_nothing_is_overwritten_and_impossible_wishes_are_refused(published, tmp_path, capsys):
    checkpoint = str(published / "vqmodel_tiny" / "checkpoints" / "last.ckpt")
    (tmp_path / "config.json").write_text("mine")
    assert main(["convert", checkpoint, "--out", str(tmp_path), "--to", "diffusers"]) == 6
    assert (tmp_path / "config.json").read_text() == "mine"
    words = [
        "convert",
        checkpoint,
        "--out",
        str(tmp_path / "x"),
        "--to",
        "diffusers",
        "--keep-training-state",
    ]
    assert main(words) == 2
    assert "has no place for the training state" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
