"""What takes many minutes: hundreds of kills, and a long run (`make soak`)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import killed
import tiny
from launcher import ENVIRONMENT
from unit.test_resume import assert_equal_runs


@pytest.mark.timeout(3600)
def test_killed_two_hundred_times_it_goes_on_exactly(tmp_path):
    command = [sys.executable, killed.__file__, "anywhere", str(tmp_path), "200"]
    result = subprocess.run(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stderr
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")


LONG = """
import os, sys
from pathlib import Path
import tiny
from vqgan.runs import train

def look(progress):
    if progress.step in (200, 2000):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        print(pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), flush=True)

source = tiny.data(Path(sys.argv[1]) / "images")
run = tiny.tokenizer_run(source, steps=2001, save_every=50, evaluate_every=100, pictures=2)
train(run, out=Path(sys.argv[1]) / "run", device="cpu", on_progress=look)
"""


@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the system does not tell the memory of a process"
)
def test_a_long_run_needs_no_more_memory_and_files_than_a_short_one(tmp_path):
    places = os.pathsep.join([str(Path(tiny.__file__).parent), *sys.path])
    command = [sys.executable, "-c", LONG, str(tmp_path)]
    environment = {**ENVIRONMENT, "PYTHONPATH": places}
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    (early, files), (late, later) = (map(int, line.split()) for line in said.splitlines())
    assert late - early < 20_000_000
    assert later == files
