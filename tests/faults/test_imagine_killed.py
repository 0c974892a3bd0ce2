"""``vqgan imagine`` is killed, by a signal that cannot be caught, and goes on exactly."""

import signal
import subprocess
import sys
import time

import pytest
import torch

import networks
import tiny
import vqgan
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.cli.main import main


def test_a_killed_command_goes_on_to_the_same_pictures(tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install vqgan[clip]")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    model = tiny.tokenizer(channels=3)
    torch.nn.init.normal_(model.quantizer.codebook.weight)
    vqgan.save_model(model, "model.safetensors")
    networks.save_judge("CLIPModel", tmp_path / "clip")
    words = ["imagine", "model.safetensors", "red", "--judge", "clip", "--size", "16", "--cuts", "2"]
    words += ["--steps", "60", "--every", "3", "--average", "0.5", "--zoom", "1.01", "--device", "cpu"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main([*words, "--out", "whole"]) == 0
        with subprocess.Popen(
            [sys.executable, "-m", "vqgan", *words, "--out", "killed"], stderr=subprocess.PIPE
        ) as process:
            folder, deadline = RunFolder(tmp_path / "killed"), time.monotonic() + 100
            while not folder.numbers() and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors.decode()
        assert folder.newest().number < 60
        assert main([*words, "--out", "killed", "--resume"]) == 0
    finally:
        torch.set_num_threads(threads)
    names = sorted(
        path.relative_to("whole") for path in (tmp_path / "whole").relative_to(tmp_path).rglob("*.png")
    )
    assert len(names) == 23  # a picture, the animation, 21 frames
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not list((tmp_path / "killed").rglob("*tmp*"))
