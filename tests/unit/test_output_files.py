import errno
import json
import os
import platform
import subprocess
import sys

import pytest

from vqgan import output_files
from vqgan.errors import CheckpointError, ConfigError, OutputError
from vqgan.output_files import locked, output_errors, replace_file, write_json


def failing(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_else_remains(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1})
    write_json(path, {"a": "Ä\udcff", "b": [1, 2]})
    assert json.loads(path.read_text()) == {"a": "Ä\udcff", "b": [1, 2]}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("step", ["write", "sync", "replace"])
def test_after_a_failure_the_old_file_is_untouched_and_nothing_is_left_behind(tmp_path, monkeypatch, step):
    path = tmp_path / "a.txt"
    path.write_text("old")
    if step == "sync":
        monkeypatch.setattr(output_files, "sync", failing)
    if step == "replace":
        monkeypatch.setattr(os, "replace", failing)

    def write(temporary):
        temporary.write_text("new, but cut o")
        if step == "write":
            failing()

    with pytest.raises(OutputError) as caught:
        replace_file(path, write)
    assert caught.value.exit_code == 6
    assert str(caught.value).startswith(
        f"cannot write `{path}`: no space left on device\nhint: free some space"
    )
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("error", "reason", "hint"),
    [
        (OSError(errno.EROFS, "x"), "read-only file system", "choose a folder that you can write to"),
        (OSError(errno.EDQUOT, "x"), "disk quota exceeded", "free some space"),
        (OSError("no\n such"), "no such", "choose a folder"),
    ],
)
def test_failures_are_told_by_their_number_wherever_it_stands(tmp_path, error, reason, hint):
    with pytest.raises(OutputError, match=f": {reason}\nhint: {hint}"), output_errors(tmp_path):
        raise error


def test_a_path_below_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="not a directory"):
        write_json(tmp_path / "file" / "a.json", {})


def test_other_errors_pass_and_leave_nothing_behind(tmp_path):
    def write(temporary):
        temporary.write_text("x")
        raise CheckpointError("wrong checksum")

    with pytest.raises(CheckpointError, match="wrong checksum"):
        replace_file(tmp_path / "a", write)
    assert names(tmp_path) == []


@pytest.fixture
def owner(tmp_path):
    """A process that holds the lock, beside one of its own that outlives it."""
    code = "import os, sys, time; from pathlib import Path; from vqgan.output_files import locked\n"
    code += "with locked(Path(sys.argv[1])):\n  os.fork() or time.sleep(100)\n  print(flush=True)\n  time.sleep(100)"
    command = [sys.executable, "-c", code, tmp_path / "lock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        process.stdout.readline()
        yield process
        os.killpg(process.pid, 9)


def test_one_process_at_a_time_works_in_a_folder_and_a_killed_one_is_no_bar(tmp_path, owner):
    with pytest.raises(ConfigError) as caught, locked(tmp_path / "lock"):
        pass
    place = f"process {owner.pid} on {platform.node()}"
    assert caught.value.message == f"`{tmp_path}` is in use: {place} works there"
    owner.kill()
    owner.wait()
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()} on {platform.node()}"


def test_a_file_system_without_locks_or_room_only_costs_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(number):
        def fail(*arguments):
            raise OSError(number, os.strerror(number))

        return fail

    monkeypatch.setattr(output_files, "_lock", refuse(errno.ENOLCK))
    monkeypatch.setattr(os, "write", refuse(errno.ENOSPC))
    with locked(tmp_path / "lock"):
        assert f"`{tmp_path}` cannot be locked (no locks available): see that no other" in caplog.text
    with pytest.raises(OutputError, match="cannot write"), locked(tmp_path / "missing" / "lock"):
        pass
