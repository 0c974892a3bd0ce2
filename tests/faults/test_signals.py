"""The command line is stopped by signals, also by one that cannot be caught, and goes on exactly."""

# ruff: noqa: F811  (fixtures are imported and asked for by the same names)

import os
import signal
import time
from pathlib import Path

import pytest

import tiny
from launcher import launched
from unit.test_resume import assert_equal_runs, one_thread, rows, source, stopped  # noqa: F401
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import dump_yaml
from vqgan.runs import train

SIGNALS = {"SIGINT": 75, "SIGTERM": 75, "SIGUSR1": 75, "SIGKILL": -9}
"""Signal and exit code of the command line."""

ENDLESS = {"steps": 100_000, "save_every": 3, "evaluate_every": 7, "pictures": 2}


@pytest.fixture(scope="module")
def processes(source, tmp_path_factory):
    """The command line, trained for a moment and then sent each of the signals: exit codes and messages."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "run.yaml").write_text(dump_yaml(tiny.tokenizer_run(source, **ENDLESS)))
    command = ["train", "tokenizer", "run.yaml", "--device", "cpu"]
    workers = {name: ["--workers", "1"] for name in SIGNALS if name != "SIGKILL"}
    requests = {name: [*command, *workers.get(name, []), "--out", str(folder / name)] for name in SIGNALS}
    with launched(folder, requests) as told:
        started = told()
        try:
            for name in trained(folder, set(started)):
                # Ctrl-C goes to the whole group, and what a batch system sends to all processes of a job.
                own, number = started[name], getattr(signal, name)
                for reader in map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split()):
                    os.kill(reader, number)
                os.kill(own, number)
            codes = told()
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


BRIEF = {"steps": 5, "save_every": 3, "evaluate_every": 2, "pictures": 1}

PHASES = {
    "start-up": ("vqgan.runs:build_task", 1, "0 of 5"),
    "first batch": ("vqgan.training.loop:to_device", 1, "1 of 5"),
    "training": ("vqgan.training.tokenizer_task:TokenizerTask.train_step", 3, "3 of 5"),
    "evaluation": ("vqgan.training.tokenizer_task:TokenizerTask.evaluate", 1, "2 of 5"),
    "pictures": ("vqgan.training.tokenizer_task:TokenizerTask.pictures", 1, "1 of 5"),
    "save": ("vqgan.checkpoints.run_folder:RunFolder.commit", 2, "4 of 5"),
    "report": ("vqgan.training.loop:write_run_report", 1, None),
    "end": ("vqgan.training.observer:Observer.close", 1, None),
}
"""For each phase a function, the call of it during which the signal comes, and the step at which the run stops, if so."""


@pytest.fixture(scope="module")
def cases(source, tmp_path_factory):
    """A run for each signal and phase, and one without any: exit codes and messages."""
    folder = tmp_path_factory.mktemp("phases")
    (folder / "run.yaml").write_text(dump_yaml(tiny.tokenizer_run(source, **BRIEF)))
    requests = {"whole": {"signal": "SIGTERM", "during": PHASES["end"][0], "call": 2}}
    for phase, (during, call, _) in PHASES.items():
        for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
            requests[f"{phase} {name}"] = {"signal": name, "during": during, "call": call}
    for name, request in requests.items():
        out = str(folder / name)
        request["arguments"] = ["train", "tokenizer", "run.yaml", "--device", "cpu", "--out", out]
    with launched(folder, requests) as told:
        told()
        codes = told()
    assert codes.pop("whole") == 0
    return folder, codes


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_in_any_phase_ends_in_a_run_that_is_complete_or_can_go_on(cases, phase, name):
    folder, codes = cases
    run, errors = folder / f"{phase} {name}", (folder / f"{phase} {name}.log").read_text()
    step = PHASES[phase][-1]
    assert codes[f"{phase} {name}"] == (0 if step is None else 75), errors
    assert "Traceback" not in errors
    assert not list(run.rglob("*tmp*"))
    if step is None:
        assert errors.endswith(f"{run}\n")
    else:
        assert f"vqgan: stopped at step {step}; everything is saved in `{run}`\n" in errors
        assert f"hint: continue with `vqgan train tokenizer --resume {run}`\n" in errors
        train(None, resume=run, device="cpu")
    assert_equal_runs(run, folder / "whole")
    assert (run / "report.html").is_file()
