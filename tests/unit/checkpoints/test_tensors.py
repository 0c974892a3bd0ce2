import hashlib
import os
import stat
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError

from vqgan.checkpoints.tensors import is_safetensors, read_description, read_tensors, write_tensors
from vqgan.errors import CheckpointError, OutputError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "some.safetensors"
    write_tensors(path, {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(3)}, {"x": "y"})
    return path


def test_tensors_and_metadata_come_back_bit_by_bit(path):
    tensors = read_tensors(path)
    assert torch.equal(tensors["b"], torch.arange(6.0).view(2, 3))
    assert tensors["a"].dtype == torch.int64
    assert read_description(path) == ({"x": "y"}, {"a": (), "b": (2, 3)})
    assert is_safetensors(path)


def test_the_file_has_the_permissions_of_any_other_new_file(path, tmp_path):
    (tmp_path / "other").write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_changing_a_tensor_never_changes_the_file(path):
    before = path.read_bytes()
    for tensor in read_tensors(path).values():
        tensor.add_(1)
    assert path.read_bytes() == before


def test_tensors_that_share_memory_are_stored_once_for_each_name(tmp_path):
    whole = torch.arange(8.0)
    shared = {"whole": whole, "again": whole, "part": whole[2:5], "turned": whole.view(2, 4).T}
    write_tensors(tmp_path / "a", shared, {})
    for name, tensor in read_tensors(tmp_path / "a").items():
        assert torch.equal(tensor, shared[name])


WRITES = """
import sys, torch
from pathlib import Path
from vqgan.checkpoints.tensors import write_tensors
metadata = {f"vqgan.{name}": "ü\\"\\n\x7f" * (1 + number % 3) for number, name in enumerate("zyxwvutsr")}
write_tensors(Path(sys.argv[1]), {"b": torch.arange(6.0), "a": torch.ones(3, dtype=torch.int64)}, metadata)
"""


def test_equal_tensors_and_metadata_give_the_same_bytes_in_every_process(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-c", WRITES, str(tmp_path / "a")], check=True)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "b")])
    exec(WRITES, {})
    first, second = (hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a", "b"))
    assert first == second
    metadata, shapes = read_description(tmp_path / "a")
    assert (len(metadata), metadata["vqgan.z"], shapes) == (9, 'ü"\n\x7f', {"a": (3,), "b": (6,)})
    assert torch.equal(read_tensors(tmp_path / "a")["b"], torch.arange(6.0))


@pytest.mark.parametrize("metadata", [{}, {"x": "y"}])
def test_a_file_without_tensors_can_be_read(tmp_path, metadata):
    write_tensors(tmp_path / "a", {}, metadata)
    assert read_tensors(tmp_path / "a") == {}
    assert read_description(tmp_path / "a") == (metadata, {})


@pytest.mark.parametrize("length", [0, 4, 8, 9, 60, 170])
def test_a_file_that_was_cut_off_is_refused(path, length):
    data = path.read_bytes()
    assert length < len(data)
    path.write_bytes(data[:length])
    with pytest.raises(CheckpointError, match=r"is truncated|cannot be read"):
        read_tensors(path)
    with pytest.raises(CheckpointError, match=r"is truncated|cannot be read"):
        read_description(path)


def test_a_header_of_two_gigabytes_is_not_read(path):
    path.write_bytes((2 << 30).to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(
        CheckpointError, match=r"announces a header of 2,147,483,648 bytes; at most 100,000,000"
    ):
        read_tensors(path)


def test_what_is_no_file_of_tensors_is_refused(tmp_path):
    text = tmp_path / "text"
    text.write_bytes((20).to_bytes(8, "little") + b"{" + b"x" * 40)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(text)
    with pytest.raises(CheckpointError, match=r"cannot read .*: no such file or directory"):
        read_tensors(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="is not a file"):
        read_tensors(tmp_path)
    assert not is_safetensors(tmp_path)
    assert not is_safetensors(tmp_path / "absent")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert not is_safetensors(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is not a file"):
        read_tensors(tmp_path / "pipe")


def test_a_folder_that_is_missing_is_made_and_a_file_in_its_place_is_an_output_error(tmp_path):
    write_tensors(tmp_path / "new" / "folder" / "a", {"a": torch.zeros(1)}, {})
    for below in ("a", "a/b"):
        with pytest.raises(OutputError, match="not a directory"):
            write_tensors(tmp_path / "new" / "folder" / "a" / below, {"a": torch.zeros(1)}, {})
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("I/O error: x (os error 28)", "no space left on device\nhint: free some"),
        ("no\n such", "no such\nhint"),
    ],
)
def test_what_safetensors_says_of_the_disk_is_told_by_its_number(path, monkeypatch, told, reason):
    def failing(*arguments, **options):
        raise SafetensorError(told)

    monkeypatch.setattr("vqgan.checkpoints.tensors.save_file", failing)
    with pytest.raises(OutputError, match=f": {reason}"):
        write_tensors(path, {"a": torch.zeros(1)}, {})
    assert list(path.parent.iterdir()) == [path]
