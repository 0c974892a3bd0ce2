"""Two processes never train in one folder, and one that was killed is in nobody's way."""

import os
import signal
import time

import tiny
from launcher import launched
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import dump_yaml


def together(folder, *request):
    """Starts the command twice at the same time; gives the words of the one that was refused, and kills the other."""
    requests = {name: ["train", "tokenizer", *request, "--device", "cpu"] for name in ("one", "two")}
    (folder / "one.log").unlink(missing_ok=True)
    (folder / "two.log").unlink(missing_ok=True)
    with launched(folder, requests) as told:
        started, refused, deadline = told(), None, time.monotonic() + 60
        while refused is None and time.monotonic() < deadline:
            logs = {name: folder / f"{name}.log" for name in started}
            said = {name: log.read_text() if log.exists() else "" for name, log in logs.items()}
            refused = next((name for name, text in said.items() if "hint: " in text), None)
            time.sleep(0.01)
        first = started[{"one": "two", "two": "one", None: "one"}[refused]]
        rows = RunFolder(folder / "run").metrics
        while not rows.exists() or rows.stat().st_size < 2000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(first, signal.SIGKILL)
        codes = told()
    assert codes == {name: 2 if name == refused else -9 for name in codes}
    return said[refused], first


def test_the_second_of_two_is_refused_and_a_killed_one_is_no_bar(tmp_path):
    source = tiny.data(tmp_path / "images")
    run = tiny.tokenizer_run(source, steps=100_000, save_every=3)
    (tmp_path / "run.yaml").write_text(dump_yaml(run))
    folder = tmp_path / "run"
    for request in (["run.yaml", "--out", str(folder)], ["--resume", str(folder), "--workers", "2"]):
        words, first = together(tmp_path, *request)
        assert f"vqgan: `{folder}` is in use: process {first} on " in words
        assert "Traceback" not in words
        assert RunFolder(folder).newest().number % 3 == 0
