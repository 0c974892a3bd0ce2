import hashlib
import logging

import pytest
import torch

import tiny
from vqgan.checkpoints import perceptual
from vqgan.checkpoints.format import save_model
from vqgan.checkpoints.key_maps import PERCEPTUAL, VGG16
from vqgan.checkpoints.perceptual import fetch, load_perceptual
from vqgan.checkpoints.tensors import write_tensors
from vqgan.errors import CheckpointError, OutputError
from vqgan.nn import perceptual as perceptual_module
from vqgan.nn.perceptual import PerceptualNetwork


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """A network of the same form with few weights, and a cache of our own."""
    monkeypatch.setattr(perceptual_module, "STAGES", ((2, 2), (2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)))
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(tensor.shape, generator=generator)
        for name, tensor in PerceptualNetwork().state_dict().items()
    }


def original(state, keys):
    """The weights by the names of their publishers."""
    return {theirs: state[name] for name, theirs in keys.published(state).items()}


def assert_loaded(network, state):
    assert network.state_dict().keys() == state.keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_weights_come_from_our_own_file(tmp_path, state):
    write_tensors(tmp_path / "own.safetensors", state, {})
    assert_loaded(load_perceptual(str(tmp_path / "own.safetensors")), state)


def test_weights_come_from_a_models_file_that_carries_them(tmp_path, state):
    network = PerceptualNetwork()
    network.load_state_dict(state)
    save_model(tiny.tokenizer(), tmp_path / "a.safetensors", training={"perceptual": ({}, network)})
    assert_loaded(load_perceptual(str(tmp_path / "a.safetensors")), state)


def test_weights_come_from_an_original_checkpoint(tmp_path, state):
    keys = original(state, PERCEPTUAL)
    assert len(keys) == len(state)
    model = {"encoder.x": torch.zeros(1), **{f"loss.perceptual_loss.{key}": t for key, t in keys.items()}}
    torch.save({"state_dict": model}, tmp_path / "last.ckpt")
    assert_loaded(load_perceptual(str(tmp_path / "last.ckpt")), state)


def test_files_without_them_are_refused(tmp_path, state):
    path = tmp_path / "x"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_perceptual(str(path))
    torch.save({"state_dict": {"encoder.x": torch.zeros(1)}}, path)
    with pytest.raises(
        CheckpointError, match=r"has no keys `loss\.perceptual_loss\.\*`\nhint: only checkpoints"
    ):
        load_perceptual(str(path))
    save_model(tiny.tokenizer(), path)
    with pytest.raises(CheckpointError, match="does not fit the perceptual network it describes"):
        load_perceptual(str(path))
    state.pop("heads.0.weight")
    write_tensors(path, state, {})
    with pytest.raises(CheckpointError, match=r"1 missing\n  missing .*heads\.0\.weight"):
        load_perceptual(str(path))


@pytest.fixture
def published(tmp_path, state, monkeypatch):
    """The two files as their publishers have them, at addresses that need no network."""
    heads = {key: tensor for key, tensor in original(state, PERCEPTUAL).items() if key.startswith("lin")}
    features = {key: tensor for key, tensor in original(state, VGG16).items() if key.startswith("features")}
    files = {"HEADS": heads, "VGG16": features | {"classifier.0.weight": torch.zeros(3)}}
    for name, content in files.items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=False)
        monkeypatch.setattr(perceptual, f"_{name}", path.as_uri())
        monkeypatch.setattr(perceptual, f"_{name}_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    state |= {name: PerceptualNetwork().state_dict()[name] for name in ("shift", "scale")}
    return tmp_path


def test_they_are_downloaded_once_and_kept(published, state, monkeypatch, caplog):
    with caplog.at_level(logging.INFO):
        assert_loaded(load_perceptual(), state)
    assert "528 MB, once" in caplog.text
    assert [path.name for path in (published / "cache").iterdir()] == ["lpips-vgg16.safetensors"]
    monkeypatch.setattr(perceptual, "_download", pytest.fail)
    assert_loaded(load_perceptual(), state)


def test_a_wrong_checksum_is_refused_and_nothing_kept(published, monkeypatch):
    monkeypatch.setattr(perceptual, "_VGG16_SHA256", "0" * 64)
    with pytest.raises(
        CheckpointError, match=rf"has the checksum [0-9a-f]{{64}}, expected {'0' * 64}\nhint: "
    ):
        load_perceptual()
    assert list((published / "cache").iterdir()) == []


def test_without_a_network_one_error_says_what_else_to_do(published, monkeypatch):
    (published / "HEADS.pth").unlink()
    with pytest.raises(CheckpointError) as caught:
        load_perceptual()
    assert caught.value.exit_code == 5
    assert caught.value.message.startswith("cannot download `file:///")
    assert 'overrides=["task.perceptual=null"]' in caught.value.hint
    assert str(published / "cache") in caught.value.hint
    assert caught.value.__suppress_context__
    assert list((published / "cache").iterdir()) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x", "https://nowhere.invalid/x"])
def test_servers_that_cannot_be_reached_are_network_errors(tmp_path, address):
    with pytest.raises(CheckpointError, match="cannot download"):
        fetch(address, tmp_path / "x", "0" * 64)


def test_a_disk_that_refuses_is_no_network_error(tmp_path):
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(OutputError, match="cannot write"):
        fetch((tmp_path / "source").as_uri(), tmp_path / "source" / "x", "0" * 64)


def test_two_downloads_at_once_do_not_disturb_each_other(published, state, tmp_path, monkeypatch):
    network, folder, others = PerceptualNetwork(), tmp_path / "cache", []

    def twice(address, path, digest):
        if not others:
            others.append(None)
            others.append(perceptual._download(folder, network))
        fetch(address, path, digest)

    monkeypatch.setattr(perceptual, "fetch", twice)
    for found in (perceptual._download(folder, network), others[1]):
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert list(folder.iterdir()) == []
