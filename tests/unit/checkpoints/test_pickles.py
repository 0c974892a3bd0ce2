import collections
import os
import pickle

import pytest
import torch

from reference import store
from vqgan.checkpoints.pickles import read_checkpoint
from vqgan.errors import CheckpointError


class Harmful:
    """Makes a folder when it is unpickled by careless means."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_tensors_come_out_of_a_plain_mapping_and_of_a_state_dict(tmp_path):
    state = collections.OrderedDict(a=torch.arange(3.0), b=torch.tensor(1))
    for value in (state, {"state_dict": state, "epoch": 3, "name": "x"}, {**state, "epoch": 3}):
        torch.save(value, tmp_path / "x")
        found = read_checkpoint(tmp_path / "x").tensors
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in state.items())


def test_files_older_than_zip_archives_are_read(tmp_path):
    torch.save({"a": torch.arange(3.0)}, tmp_path / "x", _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(tmp_path / "x").tensors["a"], torch.arange(3.0))


def test_a_checkpoint_of_the_original_needs_none_of_its_packages(tmp_path):
    store.write_checkpoint("vqmodel_tiny", tmp_path / "last.ckpt")
    found = read_checkpoint(tmp_path / "last.ckpt").tensors
    state = store.case("vqmodel_tiny").state
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in state.items())


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_file_is_ever_run(tmp_path, legacy):
    torch.save(
        {"state_dict": {"a": Harmful(tmp_path / "made")}},
        tmp_path / "x",
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint without running code"):
        read_checkpoint(tmp_path / "x")
    (tmp_path / "y").write_bytes(pickle.dumps(Harmful(tmp_path / "made")))
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "y")
    assert not (tmp_path / "made").exists()


def test_damaged_files_are_refused_wherever_they_are_cut(tmp_path):
    path = tmp_path / "x"
    torch.save({"a": torch.arange(30.0)}, path)
    data = path.read_bytes()
    for length in (0, 1, 10, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(path)
        assert "\n" not in caught.value.message
    path.write_bytes(b"\x80\x02}q\x01.")
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [3, [torch.zeros(1)], {"state_dict": 3}])
def test_what_is_no_mapping_of_tensors_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "x")
    with pytest.raises(CheckpointError, match="expected tensors by name"):
        read_checkpoint(tmp_path / "x")


def test_an_absent_file_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError, match="absent"):
        read_checkpoint(tmp_path / "absent")
