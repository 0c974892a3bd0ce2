"""`vqgan plan`."""

import pytest

from vqgan.training import census


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Operations are measured once, which is enough to show a time."""
    monkeypatch.setattr(census, "_ROUNDS", 1)
    monkeypatch.setattr(census, "_CACHE", 1)


def test_plan_prints_what_a_training_needs(trained, run):
    result = run("plan", trained.tokenizer_file, "--device", "cpu", "--devices", "2", "--memory", "1")
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0] == "batch       2 x 1 x 2 images (devices, micro-batches, images of each)"
    assert [line.split()[0] for line in lines[1:5]] == ["parameters", "operations", "time", "memory"]
    parts = {line.split()[0] for line in lines[5:-2]}
    assert parts == {"weights", "gradients", "optimizer", "activations", "exchange", "batch"}
    assert lines[-2].startswith("  together ")
    assert lines[-1] == "fits in 1.00 GB"


def test_plan_says_what_does_not_fit_and_what_helps(trained, run):
    words = ("--device", "cpu", "--memory", "1", "--set", "training.batch_size=40000")
    result = run("plan", trained.tokenizer_file, *words)
    assert result.code == 0
    assert "\ntime " not in result.out
    assert "\ndoes NOT fit in 1.00 GB\nhint: `--set training.recompute=true`" in result.out


def test_plan_refuses_what_cannot_be(trained, run):
    result = run("plan", trained.prior_file, "--device", "cpu")
    assert result.code == 2
    assert "a prior is trained on a tokenizer's codes\nhint: give `--tokenizer FILE|RUN|PRESET`" in result.err
    assert run("plan", trained.tokenizer_file, "--memory", "nan").code == 2
