"""Both stages through real compiled code: minutes of compiling (`make soak`)."""

import json
import os
import subprocess
import sys

import pytest

import tiny
from unit.test_resume import assert_equal_runs
from vqgan.checkpoints.run_folder import RunFolder

RUNS = """
import sys
from pathlib import Path
import tiny
from vqgan.errors import Preempted
from vqgan.runs import train
from vqgan.training.loop import Loop

folder = Path(sys.argv[1])
source = tiny.data(folder / "images")
complete = Loop._complete

def interrupted(self, done, row, stop):
    stop.requested = done == 3
    complete(self, done, row, stop)

for stage, run in (("tokenizer", tiny.tokenizer_run), ("prior", tiny.prior_run)):
    how = {"device": "cpu", "tokenizer": None if stage == "tokenizer" else folder / "tokenizer" / "plain"}
    for name, compile in (("plain", False), ("compiled", True)):
        train(run(source, compile=compile, recompute=compile), out=folder / stage / name, **how)
    Loop._complete = interrupted
    try:
        train(run(source, compile=True, recompute=True), out=folder / stage / "resumed", **how)
    except Preempted:
        Loop._complete = complete
    train(None, resume=folder / stage / "resumed", device="cpu")
"""


@pytest.mark.timeout(1800)
def test_compiled_runs_have_the_losses_of_others_and_go_on_exactly(tmp_path):
    tests = os.path.dirname(tiny.__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path]), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", RUNS, tmp_path]
    result = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "uncompiled" not in result.stderr
    for stage in ("tokenizer", "prior"):
        plain, compiled = (
            [json.loads(line) for line in RunFolder(tmp_path / stage / name).metrics.read_text().splitlines()]
            for name in ("plain", "compiled")
        )
        if stage == "tokenizer":  # the prior's dropout draws other numbers
            # Only the first: Adam's early steps make something of the last digits of small gradients.
            assert compiled[0]["gradient_norm"] == pytest.approx(plain[0]["gradient_norm"], rel=1e-4)
        for ours, theirs in zip(compiled, plain, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-3), stage
        assert_equal_runs(tmp_path / stage / "resumed", tmp_path / stage / "compiled")
