"""On a disk that is full, then read-only, training goes on; what was saved stays as it was."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from unit.test_resume import assert_equal_runs, one_thread  # noqa: F401  (a fixture for all)
from vqgan.runs import train

STEPS = {"steps": 14, "save_every": 2, "evaluate_every": 5}

SCRIPT = """
import json, os, shutil, subprocess, sys, threading
from contextlib import suppress
from pathlib import Path
sys.modules["torch.utils.tensorboard"] = None
import torch
import tiny
from vqgan.runs import train

disk, kept = Path(sys.argv[1]), {}

def state():
    return {path: path.read_bytes() for path in (disk / "run" / "state").rglob("*") if path.is_file()}

def disturb(progress):
    for thread in threading.enumerate():
        if thread.name == "save":
            thread.join()
    match progress.step:
        case 3:
            kept["full"] = state()
            with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        case 7:
            assert state() == kept["full"]
            (disk / "filler").unlink()
        case 9:
            kept["read-only"] = state()
            subprocess.run(["mount", "--bind", disk, disk], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
        case 13:
            assert state() == kept["read-only"]
            subprocess.run(["umount", disk], check=True)

torch.set_num_threads(1)
run = tiny.tokenizer_run(tiny.IdxConfig(path=sys.argv[2]), **json.loads(sys.argv[3]))
try:
    train(run, out=disk / "run", device="cpu", on_progress=disturb)
finally:
    shutil.copytree(disk / "run", sys.argv[4])
"""


def test_a_run_goes_on_and_ends_as_if_nothing_had_been(tmp_path):
    disk, ours = tmp_path / "disk", tmp_path / "run"
    disk.mkdir()
    alone = ["unshare", "--user", "--mount", "--map-root-user"]
    mounted = f"mount -t tmpfs -o size=24m none {disk}"
    if (
        not shutil.which("unshare")
        or subprocess.run([*alone, "sh", "-c", mounted], capture_output=True).returncode
    ):
        pytest.skip("no small disk can be made here")
    source = tiny.data(tmp_path / "images")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, disk, source.path, json.dumps(STEPS), ours]
    places = os.pathsep.join([str(Path(tiny.__file__).parent), *sys.path])
    result = subprocess.run(
        [*alone, "sh", "-c", f'{mounted} && exec "$@"', "sh", *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": places},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    # Two steps each, and the best model at the fifth.
    for reason, count in {"no space left on device": 3, "read-only file system": 2}.items():
        assert result.stderr.count(f"{reason}; the next save tries again\n") == count, result.stderr
    train(tiny.tokenizer_run(source, **STEPS), out=tmp_path / "whole", device="cpu")
    assert_equal_runs(ours, tmp_path / "whole")
