"""What the command line does with errors, signals, logs and a reader who leaves."""

import logging
import os
import subprocess
import sys

import pytest
import torch

import vqgan.cli.doctor
import vqgan.runs
from vqgan.cli.main import main
from vqgan.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    OutputError,
    Preempted,
    VqganError,
)

ERRORS = {ConfigError: 2, DataError: 3, DivergedError: 4, CheckpointError: 5, OutputError: 6, Preempted: 75}


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Lets ``vqgan doctor`` fail."""

    def doctor(flags: object) -> None:
        raise error

    monkeypatch.setattr(vqgan.cli.doctor, "doctor", doctor)


@pytest.mark.parametrize("kind", ERRORS)
def test_each_error_has_its_exit_code_one_message_and_one_hint(kind: type[VqganError], monkeypatch, run):
    fail_with(monkeypatch, kind("`a` is wrong", hint="write `b`"))
    result = run("doctor")
    assert result.code == ERRORS[kind]
    assert result.err == "vqgan: `a` is wrong\nhint: write `b`\n"
    assert result.out == ""


def test_debug_adds_the_traceback_to_the_same_message(monkeypatch, run):
    fail_with(monkeypatch, DataError("`a` is wrong"))
    result = run("doctor", "--debug")
    assert result.code == 3
    assert result.err.startswith("Traceback (most recent call last):")
    assert result.err.endswith("vqgan: `a` is wrong\n")


def test_an_interrupt_ends_with_the_code_of_shells(monkeypatch, run):
    fail_with(monkeypatch, KeyboardInterrupt())
    result = run("doctor")
    assert (result.code, result.err) == (130, "vqgan: interrupted\n")


def test_the_second_interrupt_of_a_training_says_how_to_go_on(trained, tmp_path, monkeypatch, run):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(vqgan.runs, "train", interrupted)
    for place, words in (
        (trained.prior, ["--resume", trained.prior]),
        (tmp_path / "new", [trained.prior_file, "--out", tmp_path / "new"]),
    ):
        result = run("train", "prior", *words)
        hint = f"hint: continue with `vqgan train prior --resume {place}`\n" * (place == trained.prior)
        assert (result.code, result.err) == (130, f"vqgan: interrupted\n{hint}")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_says_what_to_lower(error, monkeypatch, run):
    fail_with(monkeypatch, error)
    result = run("doctor")
    assert result.code == 2
    assert result.err.startswith("vqgan: out of memory: ")
    assert "hint: lower `--batch-size`, `--memory` or the size of the images" in result.err


def test_a_failure_of_the_system_names_the_path(monkeypatch, run):
    fail_with(monkeypatch, PermissionError(13, "Permission denied", "some/file"))
    result = run("doctor")
    assert result.code == 6
    assert result.err.startswith("vqgan: cannot use `some/file`: permission denied\nhint: ")


def test_a_bug_shows_its_traceback(monkeypatch):
    fail_with(monkeypatch, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        main(["doctor"])


def test_a_reader_who_leaves_early_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "vqgan", "--help"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_logs_go_to_stderr_and_only_while_a_command_runs(trained, tmp_path, run):
    before = list(logging.getLogger().handlers), logging.getLogger().level
    result = run("sample", trained.prior, "--out", tmp_path / "new", "--count", 1)
    assert "loaded synthesizer" in result.err
    assert "loaded" not in result.out
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before
