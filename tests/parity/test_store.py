import json
import pickle
import pickletools
import zipfile

import pytest
import torch

from reference import store

CHECKPOINTS = [name for name in store.names() if "top_level" in store.description(name)]


def test_the_store_is_small():
    total = sum(path.stat().st_size for path in store.ROOT.rglob("*") if path.is_file())
    assert total < 16_000_000


def test_every_weight_array_is_used_and_stored_once():
    cases = json.loads((store.ROOT / "cases.json").read_text())
    used = {array for entry in cases.values() for array in entry.get("state", {}).values()} - {None}
    weights = store.load_file(store.ROOT / "weights.safetensors")
    assert used == set(weights)
    contents = {(str(w.dtype), tuple(w.shape), w.numpy().tobytes()) for w in weights.values()}
    assert len(contents) == len(weights)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_state_has_the_recorded_keys_shapes_and_order(name):
    case = store.case(name)
    recorded = case.read_json("keys.json")
    assert list(case.state) == list(recorded)
    assert [[list(w.shape), str(w.dtype)] for w in case.state.values()] == list(recorded.values())


@pytest.mark.parametrize("name", store.names())
def test_io_holds_the_arrays_of_the_manifest(name):
    manifest = json.loads((store.ROOT / "manifest.json").read_text())["entries"]
    recorded = manifest[f"{name}/io.npz"]
    case = store.case(name)
    for key, entry in recorded.items():
        assert list(case.io[key].shape) == entry["shape"]
        assert str(case.io[key].dtype) == entry["dtype"]


def test_each_call_returns_tensors_of_its_own():
    first = store.case("vqmodel_tiny").state["encoder.conv_in.bias"]
    first.zero_()
    assert store.case("vqmodel_tiny").state["encoder.conv_in.bias"].abs().sum() > 0


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_written_checkpoint_has_the_recorded_pickle(name, tmp_path):
    path = tmp_path / "last.ckpt"
    store.write_checkpoint(name, path)
    description = store.description(name)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("last/data.pkl")
        storages = sum("/data/" in entry for entry in archive.namelist())
    found = {str(arg) for opcode, arg, _ in pickletools.genops(pickled) if opcode.name == "GLOBAL"}
    assert sorted(found) == description["globals"]
    scalars = str(description["values"].get("callbacks", "")).count("'tensor'")
    assert storages == len(store.case(name).state) - len(description["shared"]) + scalars
    if "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint" in found:
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)
        return
    loaded = torch.load(path, weights_only=True)
    assert list(loaded) == description["top_level"]
    state = store.case(name).state
    assert list(loaded["state_dict"]) == list(state)
    for key, tensor in loaded["state_dict"].items():
        assert torch.equal(tensor, state[key])
