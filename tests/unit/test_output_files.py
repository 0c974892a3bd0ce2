import errno
import json
import os

import pytest

from vqgan import output_files
from vqgan.errors import CheckpointError, OutputError
from vqgan.output_files import output_errors, replace_file, write_json


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
