"""Zip archives and the tensors in them: names that lead out, sizes that are lies, views without end."""

import struct
import zipfile

import pytest
import torch

REFUSED = "cannot be read as a checkpoint"


def pickled(value=1):
    return b"\x80\x02}K" + bytes([value]) + b"K\x01s."


@pytest.mark.parametrize(
    "name",
    ["archive/../../marker", "../marker", "/marker", "C:/marker", "..\\..\\marker", "archive/../marker"],
)
def test_a_name_that_leads_out_of_the_archive_is_refused(faults, name):
    path = faults.archive(pickled(), {name: b"x"})
    faults.refused(path, "which leads out of it")


def test_a_name_that_leads_out_of_a_good_checkpoint_is_refused(faults):
    path = faults.copy()
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/data/../../../marker", "x")
    faults.refused(path, "which leads out of it")


def test_a_compressed_bomb_is_refused_before_it_is_unpacked(faults):
    path = faults.copy()
    for place in ("archive/data.pkl", "archive/data/0"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name in ("archive/data.pkl", "archive/data/0"):
                with file.open(name, "w", force_zip64=True) as entry:
                    for _ in range(64 if name == place else 1):
                        entry.write(bytes(1 << 20))
        faults.refused(path, "the archive is compressed")


def test_sizes_that_are_only_announced_are_refused(faults):
    path = faults.copy()
    data = bytearray(path.read_bytes())
    # Bytes 20 to 28 of an entry in the directory are its sizes, packed and unpacked.
    start = data.index(b"PK\x01\x02")
    data[start + 20 : start + 28] = struct.pack("<II", 0xF0000000, 0xF0000000)
    path.write_bytes(data)
    faults.refused(path, "the archive announces")


def test_an_archive_without_a_pickle_or_with_two_is_refused(faults):
    path = faults.copy()
    for names in ((), ("archive/data/0",), ("a/data.pkl", "b/data.pkl"), ("data.pkl",), ("a/b/data.pkl",)):
        with zipfile.ZipFile(path, "w") as file:
            for name in (*names, "a/x"):
                file.writestr(name, pickled())
        faults.refused(path, "one folder with a `data.pkl`")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_a_file_twice_is_refused(faults):
    path = faults.archive(pickled(), {"archive/data.pkl": pickled(2)})
    faults.refused(path, "holds a file twice")


def test_a_scripted_model_is_refused(faults):
    path = faults.archive(pickled(), {"archive/constants.pkl": pickled(), "archive/code/x.py": b"import os"})
    faults.refused(path)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.3, 0.6, 0.9, 0.999, 0.99999])
def test_a_truncated_checkpoint_is_refused(faults, share):
    path = faults.copy()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    faults.refused(path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_old_file_is_refused(faults, share):
    path = faults.copy()
    torch.save({"a": torch.arange(1000.0)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    faults.refused(path, REFUSED)


@pytest.mark.parametrize("seed", range(12))
def test_a_checkpoint_with_changed_bytes_loads_or_is_refused(faults, seed):
    # Bytes of weights may change without notice; bytes of the pickle and of the directory must not do harm.
    path = faults.archive(faults.pickle_of("train3"))
    data = bytearray(path.read_bytes())
    draw = torch.Generator().manual_seed(seed)
    for position in torch.randint(len(data), (20,), generator=draw).tolist():
        data[position] ^= int(torch.randint(1, 256, (), generator=draw))
    path.write_bytes(data)
    faults.refused(path)


TENSORS = {
    "larger than the file": (10**9, (10**9,), (1,)),
    "larger than its storage": (16, (10**6, 10**3), (10**3, 1)),
    "a view without end": (16, (10**9,), (0,)),
    "repeated rows": (16, (10**6, 16), (0, 1)),
    "negative strides": (16, (4, 4), (-4, -1)),
    "a negative size": (16, (-4, 4), (4, 1)),
    "a negative offset": (16, (4, 4), (4, 1), -8),
    "an offset behind the end": (16, (4, 4), (4, 1), 10**12),
    "sizes that overflow": (16, (2**40, 2**40), (1, 1)),
    "numbers of 100 digits": (10**100, (10**100,), (1,)),
    "a negative storage": (-16, (4,), (1,)),
    "a storage that is not there": (16, (4, 4), (4, 1), 0, "7"),
    "a storage that leads out": (16, (4, 4), (4, 1), 0, "../../../in/model.yaml"),
    "sizes that are no numbers": (16, ("a", "b"), (1, 1)),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_does_not_lie_in_the_file_is_refused(faults, tensor_pickle, name):
    path = faults.archive(tensor_pickle(*TENSORS[name]))
    faults.refused(path, REFUSED)


def test_many_names_of_the_same_bytes_are_refused(faults):
    path = faults.copy()
    one = torch.zeros(100_000)
    torch.save({"state_dict": {f"a{number}": one for number in range(1_000)}}, path)
    faults.refused(path, "its tensors announce 400,000,000 bytes in a file of")


def test_tensors_without_memory_and_complex_ones_are_refused(faults):
    path = faults.copy()
    for bad in (
        torch.empty(10**6, device="meta"),
        torch.zeros(2, dtype=torch.complex64),
        torch.eye(2).to_sparse(),
    ):
        torch.save({"state_dict": {"quantize.embedding.weight": bad}}, path)
        faults.refused(path, REFUSED, "it names `torch")
