"""The command line is stopped by signals, also by one that cannot be caught, and goes on exactly."""

# ruff: noqa: F811  (fixtures are imported and asked for by the same names)

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from unit.test_resume import assert_equal_runs, one_thread, rows, source, stopped  # noqa: F401
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import dump_yaml

SIGNALS = {"SIGINT": 75, "SIGTERM": 75, "SIGKILL": -9}
"""Signal and exit code of the command line."""

ENDLESS = {"steps": 100_000, "save_every": 3, "evaluate_every": 7, "pictures": 2}


@pytest.fixture(scope="module")
def processes(source, tmp_path_factory):
    """The command line, trained for a moment and then sent each of the signals: exit codes and messages."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "run.yaml").write_text(dump_yaml(tiny.tokenizer_run(source, **ENDLESS)))
    command = ["train", "tokenizer", "run.yaml", "--device", "cpu"]
    workers = {"SIGINT": ["--workers", "1"]}
    requests = {name: [*command, *workers.get(name, []), "--out", str(folder / name)] for name in SIGNALS}
    launcher = subprocess.Popen(
        [sys.executable, str(Path(tiny.__file__).with_name("launcher.py"))],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with launcher:
        launcher.stdin.write(json.dumps(requests))
        launcher.stdin.close()
        started = json.loads(launcher.stdout.readline())
        try:
            for name in trained(folder, set(started)):
                # Ctrl-C goes to the whole group, with the processes that read.
                (os.killpg if name == "SIGINT" else os.kill)(started[name], getattr(signal, name))
            codes = json.loads(launcher.stdout.readline())
        except BaseException:
            for number in started.values():
                os.kill(number, signal.SIGKILL)
            raise
    return {name: (folder / name, code, (folder / f"{name}.log").read_text()) for name, code in codes.items()}


def trained(folder, waiting):
    """Yields the name of each run as soon as it has trained for some steps."""
    deadline = time.monotonic() + 100
    while waiting:
        assert time.monotonic() < deadline, [path.read_text() for path in folder.glob("*.log")]
        for name in sorted(waiting):
            log = folder / name / "metrics.jsonl"
            if log.exists() and log.read_bytes().count(b"\n") >= 8:
                waiting.remove(name)
                yield name
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(processes, source, tmp_path_factory):
    """The same run in this process, to a step that none of the others has reached."""
    step = 2 + max(RunFolder(folder).newest().number for folder, _, _ in processes.values())
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    stopped(tiny.tokenizer_run(source, **ENDLESS), folder, step, out=folder)
    return folder, step


@pytest.mark.parametrize("name", SIGNALS)
def test_the_command_line_can_be_stopped_by_any_signal_and_goes_on_exactly(processes, uninterrupted, name):
    folder, code, errors = processes[name]
    assert code == SIGNALS[name]
    last = RunFolder(folder).newest().number
    if name == "SIGKILL":
        assert last % ENDLESS["save_every"] == 0
    else:
        assert f"vqgan: stopped at step {last} of 100000; everything is saved in `{folder}`" in errors
        assert f"hint: continue with `vqgan train tokenizer --resume {folder}`" in errors
        assert "Traceback" not in errors
        assert not list(folder.rglob("*tmp*"))
    expected, step = uninterrupted
    stopped(None, folder, step, resume=folder)
    assert not list(folder.rglob("*tmp*"))
    assert_equal_runs(folder, expected)
