"""A run that was killed, wherever, is bit by bit the run that nobody killed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import killed
from launcher import ENVIRONMENT
from unit.test_resume import assert_equal_runs
from vqgan.checkpoints.tensors import read_tensors

pytestmark = pytest.mark.timeout(600)  # beside other work; alone it is a minute


def run(*request):
    """The script, which does it in processes of its own."""
    result = subprocess.run(
        [sys.executable, killed.__file__, *map(str, request)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    run("points", folder)
    return folder


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("point", killed.POINTS)
@pytest.mark.parametrize("stage", killed.STAGES)
def test_killed_in_any_phase_it_goes_on_exactly(folder, stage, point, workers):
    ours, whole = folder / f"{stage} {point} {workers}", folder / stage
    assert_equal_runs(ours, whole)
    for name in (f"{stage}.safetensors", f"{stage}-best.safetensors"):
        one, other = (read_tensors(each / name) for each in (ours, whole))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], tensor) for key, tensor in other.items())
    assert not list(ours.rglob("*tmp*"))


def test_killed_at_any_time_it_goes_on_exactly(tmp_path):
    run("anywhere", tmp_path, 20)
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")
    assert not list(Path(tmp_path / "run").rglob("*tmp*"))
