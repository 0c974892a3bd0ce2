import logging
import os

import pytest
import torch

import tiny
from vqgan.checkpoints.format import save_model
from vqgan.checkpoints.load import (
    best_precision,
    find_file,
    load,
    pick_device,
    pick_precision,
    place,
    precision_of,
)
from vqgan.errors import CheckpointError, ConfigError
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer


@pytest.fixture
def run(tmp_path):
    (tmp_path / "prior").mkdir()
    (tmp_path / "tokenizer").mkdir()
    save_model(tiny.tokenizer(), tmp_path / "tokenizer" / "tokenizer.safetensors")
    save_model(tiny.synthesizer(), tmp_path / "prior" / "prior.safetensors")
    return tmp_path


def test_content_decides_and_not_the_name(run):
    odd = run / "weights.ckpt"
    (run / "tokenizer" / "tokenizer.safetensors").rename(odd)
    assert isinstance(load(odd, device="cpu"), Tokenizer)


def test_a_folder_means_its_prior_and_else_its_tokenizer(run):
    assert isinstance(load(run, device="cpu"), Synthesizer)
    assert isinstance(load(str(run / "tokenizer"), device="cpu"), Tokenizer)
    (run / "prior" / "prior.safetensors").unlink()
    assert isinstance(load(run, device="cpu"), Tokenizer)


def test_a_folder_without_a_model_says_what_was_tried(tmp_path):
    with pytest.raises(
        CheckpointError,
        match=r"holds no model: tried `prior\.safetensors`, `tokenizer\.safetensors`, `class",
    ):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"PK\x05\x06" + b"\0" * 18, b"GIF89a"])
def test_other_files_are_told_apart(tmp_path, content):
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="it is neither a safetensors file nor a PyTorch checkpoint"):
        load(path)


def test_what_is_not_there_or_no_file_is_refused(tmp_path):
    for name, reason in (("absent", "no such file or directory"), ("x" * 300, "file name too long")):
        with pytest.raises(CheckpointError, match=f"{name}` cannot be read: {reason}\nhint: check the path"):
            load(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="holds no model that can be read"):
        find_file(tmp_path / "pipe")


def test_our_files_need_no_configuration(run):
    with pytest.raises(ConfigError, match="carries its own configuration"):
        load(run, "model.yaml", device="cpu")


def test_facts_about_the_model_are_logged_and_what_was_left_out(tmp_path, caplog):
    path = tmp_path / "a.safetensors"
    save_model(tiny.tokenizer(), path, training={"discriminator": ({}, torch.nn.Linear(1, 1))})
    with caplog.at_level(logging.INFO):
        load(path, device="cpu")
    left_out, loaded = (record.getMessage() for record in caplog.records)
    assert left_out == f"omitted from `{path}`, for training only: discriminator"
    assert loaded.startswith("loaded tokenizer: 0.2M parameters, cpu, fp32 (")


def test_precision_is_that_of_the_weights(run):
    assert {p.dtype for p in load(run, device="cpu", precision="bf16").parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_model_can_be_placed_and_asked_for_its_precision(precision):
    assert precision_of(place(tiny.tokenizer(), torch.device("cpu"), precision)) == precision


def test_unknown_devices_and_precisions_are_refused():
    with pytest.raises(ConfigError, match=r"unknown device `cudda`\nhint: did you mean `cuda`\?"):
        pick_device("cudda")
    with pytest.raises(ConfigError, match="device `meta` is not supported"):
        pick_device("meta")
    with pytest.raises(ConfigError, match=r"unknown precision `fp64`\nhint: did you mean `fp16`\?"):
        pick_precision("fp64", torch.device("cpu"), torch.nn.Linear(1, 1))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with CUDA has the device")
def test_an_absent_device_is_refused():
    with pytest.raises(ConfigError, match="device `cuda:3` is not available here"):
        pick_device("cuda:3")


@pytest.mark.parametrize("able", [True, False])
def test_automatic_precision_goes_by_size_and_by_what_the_processor_can(able, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able, "avx2": True})
    cpu, half = torch.device("cpu"), torch.bfloat16 if able else torch.float32
    for width, expected in ((10, torch.float32), (100_000_000, half)):
        with torch.device("meta"):
            model = torch.nn.Linear(width, 1, dtype=torch.float32)
        assert pick_precision("auto", cpu, model) == expected
    assert best_precision(torch.device("mps")) == "fp16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: able)
    assert best_precision(torch.device("cuda")) == ("bf16" if able else "fp16")
