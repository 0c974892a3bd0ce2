"""Pickles that would run something, in every shape that a checkpoint can have."""

import builtins
import functools
import os
import pickle
import runpy
import subprocess
import sys
import time

import pytest
import torch

REFUSED = "cannot be read as a checkpoint"


def calls(marker):
    """Calls that make the marker when they are made."""
    return {
        "os.system": (os.system, f"touch {marker}"),
        "os.mkdir": (os.mkdir, str(marker)),
        "eval": (builtins.eval, f"open({str(marker)!r}, 'w')"),
        "exec": (builtins.exec, f"open({str(marker)!r}, 'w')"),
        "open": (builtins.open, str(marker), "w"),
        "Popen": (subprocess.Popen, ("touch", str(marker))),
        "partial": (functools.partial, os.system, f"touch {marker}"),
        "runpy": (runpy.run_path, str(marker)),
        "torch.load": (torch.load, str(marker)),
    }


@pytest.mark.parametrize("name", calls(""))
def test_a_reducer_is_refused_by_its_name(faults, reducer, name):
    function, *arguments = calls(faults.marker)[name]
    path = faults.copy()
    torch.save({"state_dict": {"a": reducer(function, *arguments)}}, path)
    faults.refused(path, "without running code: it names `", f"{function.__name__}`", "nothing was run")


@pytest.mark.parametrize(
    "place", ["optimizer_states", "callbacks", "hyper_parameters", "key", "lr_schedulers"]
)
def test_a_reducer_is_found_wherever_it_hides_in_a_good_checkpoint(faults, reducer, place):
    path = faults.copy()
    state = {"state_dict": {"a": torch.zeros(2)}, "global_step": 3}
    bad = reducer(os.system, f"touch {faults.marker}")
    state |= {
        "optimizer_states": {"optimizer_states": [{"state": {0: {"exp_avg": [1, (2, bad)]}}}]},
        "callbacks": {"callbacks": {"checkpoint": {"best_model_path": bad}}},
        "hyper_parameters": {"hyper_parameters": {"deep": {"deeper": {"deepest": [bad]}}}},
        "key": {"callbacks": {bad: 1}},
        "lr_schedulers": {"lr_schedulers": (bad,)},
    }[place]
    torch.save(state, path)
    faults.refused(path, "it names `posix.system`")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("shape", ["raw", "archive", "legacy"])
def test_every_protocol_is_refused_in_every_kind_of_file(faults, reducer, shape, protocol):
    bad = {"state_dict": {"a": reducer(os.system, f"touch {faults.marker}")}}
    data = pickle.dumps(bad, protocol)
    path = faults.copy()
    if shape == "raw":
        path.write_bytes(data)
    elif shape == "archive":
        faults.archive(data)
    else:
        # The order of old files: a magic number, a version, the system, the checkpoint, and what it stores.
        first = (torch.serialization.MAGIC_NUMBER, 1001, {"little_endian": True})
        path.write_bytes(b"".join(pickle.dumps(each, 2) for each in first) + data + pickle.dumps([], 2))
    text = pickle.dumps(1, protocol)[:1] != b"\x80" and shape == "raw"
    faults.refused(path, "neither a safetensors file nor a PyTorch" if text else "it names `posix.system`")


def test_an_old_file_with_a_reducer_is_refused(faults, reducer):
    path = faults.copy()
    bad = {"state_dict": {"a": torch.zeros(3), "b": reducer(os.system, f"touch {faults.marker}")}}
    torch.save(bad, path, _use_new_zipfile_serialization=False)
    faults.refused(path, "it names `posix.system`")


def test_what_pytorch_allows_but_no_tensor_needs_is_refused(faults):
    for name, arguments in (
        ("builtins\nbytearray", b"\x8a\x05\x00\x00\x00\x00\x10\x85"),  # 68 GB of zeros
        ("torch\nTensor", b"\x8a\x05\x00\x00\x00\x00\x10\x85"),
        ("torch._utils\n_rebuild_meta_tensor_no_storage", b")"),
        ("torch._tensor\n_rebuild_from_type_v2", b")"),
        ("builtins\ngetattr", b")"),
    ):
        data = b"\x80\x02}X\x01\x00\x00\x00ac" + name.encode() + b"\n" + arguments + b"Rs."
        faults.refused(faults.archive(data), f"it names `{name.replace(chr(10), '.')}`")


def test_names_cannot_write_to_the_terminal(faults):
    path = faults.archive(b"\x80\x02cos\n\x1b[2Jsystem\r\n)R.")
    faults.refused(path, r"it names `os.\x1b[2Jsystem\r`")


def test_a_class_that_the_original_names_is_made_inert(faults):
    # These names are allowed; what is built from them takes arguments and state, and does nothing.
    name = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    state = b"}X\x08\x00\x00\x00__init__X\x01\x00\x00\x00xs"
    path = faults.archive(b"\x80\x02}X\x09\x00\x00\x00callbacks" + name + b")\x81" + state + b"bs.")
    faults.refused(path)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("deep", b"K\x01" + b"\x85" * 2_000_000),  # hashing it takes all of the stack
        ("wide", b"K\x01" + b"q\x00h\x00\x86" * 200),  # 2 ** 200 parts
    ],
)
@pytest.mark.parametrize("shape", ["raw", "archive"])
def test_a_key_that_cannot_be_hashed_in_time_is_refused(faults, name, key, shape):
    data = b"\x80\x02}" + key + b"K\x01s."
    path = faults.archive(data) if shape == "archive" else faults.copy()
    if shape == "raw":
        path.write_bytes(data)
    faults.refused(path, REFUSED, "a tuple of more than 10,000 parts")


@pytest.mark.parametrize(
    "value", [b"\x80\x02.", b"\x80\x02}(1e.", b"\x80\x02h\x07.", b"\x80\x02" + b"(" * 9_999, b"\x80"]
)
def test_a_damaged_pickle_is_refused(faults, value):
    faults.refused(faults.archive(value), REFUSED)
    path = faults.copy()
    path.write_bytes(value)
    faults.refused(path)


def test_a_text_of_4_gb_that_is_only_announced_is_refused(faults):
    data = b"\x80\x02}X\xff\xff\xff\xffa"
    faults.refused(faults.archive(data), REFUSED)
    path = faults.copy()
    path.write_bytes(data)
    faults.refused(path, REFUSED)


def test_a_pickle_behind_which_an_archive_hides_is_refused(faults, reducer):
    path = faults.copy()
    good = path.read_bytes()
    path.write_bytes(pickle.dumps(reducer(os.system, f"touch {faults.marker}"), 2) + good)
    faults.refused(path, REFUSED)


def test_the_payloads_work_when_they_are_run(faults, reducer):
    # Else the tests above would prove nothing.
    program = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    for name in ("os.system", "eval", "Popen"):
        function, *arguments = calls(faults.marker)[name]
        data = pickle.dumps(reducer(function, *arguments))
        subprocess.run([sys.executable, "-c", program], input=data, check=False)
        end = time.monotonic() + 10
        while not faults.marker.exists() and time.monotonic() < end:
            time.sleep(0.01)
        assert faults.marker.exists()
        faults.marker.unlink()
