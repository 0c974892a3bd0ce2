"""Safetensors files, diffusers folders, codes, and what comes after a good reading."""

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reference import store
from vqgan.checkpoints.published import convert
from vqgan.cli.main import main

TENSOR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


def written(path, header, data=bytes(16), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


HEADERS = {
    "2 GB": (b"{}", 2 << 30),
    "18 exabytes": (b"{}", 2**64 - 1),
    "below the limit, not there": (b"{}", 99_000_000),
    "overlapping tensors": ({"a": TENSOR, "b": TENSOR}, None),
    "a hole": ({"a": {**TENSOR, "shape": [2], "data_offsets": [8, 16]}}, None),
    "offsets behind the end": ({"a": {**TENSOR, "shape": [8], "data_offsets": [0, 32]}}, None),
    "offsets backwards": ({"a": {**TENSOR, "data_offsets": [16, 0]}}, None),
    "negative offsets": ({"a": {**TENSOR, "data_offsets": [-16, 0]}}, None),
    "another length than its shape": ({"a": {**TENSOR, "shape": [10**9]}}, None),
    "a shape that overflows": ({"a": {**TENSOR, "shape": [2**62, 2**62]}}, None),
    "an unknown dtype": ({"a": {**TENSOR, "dtype": "os.system"}}, None),
    "the wrong dtype": ({"a": {**TENSOR, "dtype": "I64"}}, None),
    "keys that stand twice": (b'{"a": %s, "a": %s}' % ((json.dumps(TENSOR).encode(),) * 2), None),
    "deep nesting": (b'{"a":' + b"[" * 100_000, None),
    "no JSON": (b"{'a': os.system}", None),
    "no UTF-8": (b'{"\xff\xfe": 1}', None),
    "metadata that is no text": ({"__metadata__": {"vqgan.format": 1}, "a": TENSOR}, None),
    "a name that is a command": ({"\x1b[2J": TENSOR}, None),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_refused(faults, name):
    header, length = HEADERS[name]
    faults.refused(written(faults.folder / "x.safetensors", header, length=length))


@pytest.fixture(scope="module")
def good(published, tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "x.safetensors"
    convert(published["vqmodel_tiny"] / "last.ckpt", path)
    return path.read_bytes()


def parts(data):
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.01, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_refused(faults, good, share):
    path = faults.folder / "x.safetensors"
    path.write_bytes(good[: int(len(good) * share)])
    faults.refused(path)


CONFIG = "vqgan.config"
METADATA = {
    "a newer format": ("vqgan.format", "2"),
    "a format of 5,000 digits": ("vqgan.format", "9" * 5_000),
    "an unknown kind": ("vqgan.kind", "os.system"),
    "no configuration": (CONFIG, ""),
    "a configuration of lists": (CONFIG, "[" * 100_000),
    "a configuration with a class": (CONFIG, '{"target": "os.system"}'),
    "a step that is none": ("vqgan.step", "1e400"),
    "a version that is empty": ("vqgan.version", ""),
    "escapes": ("vqgan.kind", "\x1b[2J\nos.system"),
    "training that is a list": ("vqgan.training", "[1]"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_that_lies_is_refused(faults, good, name):
    header, data = parts(good)
    key, value = METADATA[name]
    header["__metadata__"][key] = value
    faults.refused(written(faults.folder / "x.safetensors", header, data))


@pytest.mark.parametrize("value", [10**9, 10**30, -1, 0, "1", None])
@pytest.mark.parametrize(
    "key",
    ["base_channels", "num_residual_blocks", "latent_channels", "resolution", "image_channels", "patch_size"],
)
def test_sizes_in_a_header_take_no_memory(faults, good, key, value):
    header, data = parts(good)
    config = json.loads(header["__metadata__"][CONFIG])
    config["autoencoder"][key] = value
    header["__metadata__"][CONFIG] = json.dumps(config)
    faults.refused(written(faults.folder / "x.safetensors", header, data))


def diffusers_folder(faults, **changes):
    config = {
        "_class_name": "VQModel",
        "block_out_channels": [32],
        "down_block_types": ["DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D"],
        **changes,
    }
    (faults.folder / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.zeros(4)}, faults.folder / "diffusion_pytorch_model.safetensors")
    return faults.folder


@pytest.mark.parametrize("value", [10**9, 10**30, -1, 0, "1", [10**9] * 3, {"target": "os.system"}])
@pytest.mark.parametrize(
    "key",
    [
        "layers_per_block",
        "latent_channels",
        "block_out_channels",
        "num_vq_embeddings",
        "vq_embed_dim",
        "sample_size",
        "in_channels",
        "_class_name",
        "down_block_types",
    ],
)
def test_a_diffusers_folder_with_absurd_values_is_refused(faults, key, value):
    faults.refused(diffusers_folder(faults, **{key: value}))


@pytest.mark.parametrize(
    "text", ["", "[]", "{" * 9, "[" * 100_000, '{"a":' * 100_000, "9" * 100_000, "x" * 2_000_000]
)
def test_a_diffusers_configuration_that_is_none_is_refused(faults, text):
    folder = diffusers_folder(faults)
    (folder / "config.json").write_text(text)
    faults.refused(folder)


def test_a_diffusers_folder_with_an_old_pickle_runs_nothing(faults, reducer):
    folder = diffusers_folder(faults)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    old = folder / "diffusion_pytorch_model.bin"
    torch.save({"a": reducer(os.system, f"touch {faults.marker}")}, old)
    faults.refused(folder)
    old.unlink()
    os.mkfifo(old)
    faults.refused(folder)


@pytest.mark.parametrize(
    "name", ["../marker", "/tmp/marker", "a/../../marker", "..", "C:\\marker", "..\\marker", ""]
)
def test_names_of_codes_that_lead_out_are_refused(faults, good, name):
    model, codes = faults.folder / "x.safetensors", faults.folder / "codes"
    model.write_bytes(good)
    assert main(["encode", str(model), str(faults.image), "--out", str(codes)]) == 0
    description = json.loads((codes / "codes.json").read_text())
    (codes / "codes.json").write_text(json.dumps({**description, "names": [name]}))
    words = ["decode", model, codes, "--out", faults.root / "out"]
    faults.refuses(words, "leads out of the folder", code=3)


CODES = {
    "nested": ("codes.json", b"[" * 100_000),
    "no mapping": ("codes.json", b"[]"),
    "no text": ("codes.json", b"\xff"),
    "objects": ("codes.npy", None),
    "a header that lies": (
        "codes.npy",
        b"\x93NUMPY\x01\x00F\x00{'descr': '<u2', 'fortran_order': False, 'shape': (9, 99999, 99999), }",
    ),
    "cut off": ("codes.npy", b"\x93NUMPY\x01"),
}


@pytest.mark.parametrize("name", CODES)
def test_damaged_codes_are_refused(faults, good, reducer, name):
    model, codes = faults.folder / "x.safetensors", faults.folder / "codes"
    model.write_bytes(good)
    assert main(["encode", str(model), str(faults.image), "--out", str(codes)]) == 0
    file, data = CODES[name]
    if data is None:
        np.save(codes / file, np.array([reducer(os.system, f"touch {faults.marker}")]), allow_pickle=True)
    else:
        (codes / file).write_bytes(data)
    faults.refuses(["decode", model, codes, "--out", faults.root / "out"], code=3)


DISCRIMINATORS = {
    "no number": {"loss.x": torch.zeros(1), "loss.discriminator.main.0.bias": torch.zeros(4)},
    "a flat first layer": {"loss.discriminator.main.0.weight": torch.zeros(4)},
    "no layers": {"loss.discriminator.main.0.weight": torch.zeros(0, 0, 4, 4)},
    "too wide": {
        "loss.discriminator.main.0.weight": torch.zeros(100_000, 1, 1, 1),
        "loss.discriminator.main.2.weight": torch.zeros(1, 1, 1, 1),
        "loss.discriminator.main.5.weight": torch.zeros(1, 1, 1, 1),
    },
    "without a name": {"loss.discriminator": torch.zeros(4)},
    "an unknown name": {"loss.discriminator.os.system": torch.zeros(4)},
    "a perceptual network without layers": {"loss.perceptual_loss.lin0.model.1.weight": torch.zeros(4)},
}


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_training_networks_that_do_not_fit_are_refused_when_they_are_kept(faults, name):
    path = faults.copy()
    state = store.case("vqmodel_tiny").state
    torch.save({"state_dict": {**state, **DISCRIMINATORS[name]}}, path)
    out = faults.root / "out.safetensors"
    faults.refuses(["convert", path, "--out", out, "--keep-training-state"])
    assert main(["convert", str(path), "--out", str(out)]) == 0


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
def test_an_output_that_exists_is_left_as_it_is(faults, kind):
    path, out = faults.copy(), faults.root / "out.safetensors"
    other = faults.root / "other"
    if kind == "folder":
        out.mkdir()
    elif kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to(other)
        if kind == "link":
            other.write_text("mine")
    faults.refuses(["convert", path, "--out", out], "exists; nothing is overwritten", code=6)


def test_a_size_limit_on_memory_is_a_message(faults):
    """The worst configuration in a process that may take 3 GB: refused by the same message, not by the system."""
    path = faults.copy()
    text = faults.yaml().replace("n_embed: 64", "n_embed: 1000000000").replace("ch: 32", "ch: 1000000000")
    (faults.folder / "model.yaml").write_text(text)
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30));"
        "from vqgan.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "info", path], capture_output=True, text=True, check=False
    )
    assert result.returncode == 5
    assert result.stderr.startswith("vqgan: ")
