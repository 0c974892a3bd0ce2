import json
from unittest.mock import Mock

import pytest
import torch

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import OutputError
from vqgan.training.engine import Engine
from vqgan.training.observer import Observer
from vqgan.training.task import Session
from vqgan.types import Batch


def batch(*skipped):
    return Batch(torch.zeros(1, 1, 2, 2), {}, torch.zeros(1, dtype=torch.int64), skipped)


def observer(path):
    session = Session(Mock(), RunFolder(path), Engine("cpu"), {})
    return Observer(session, lambda size, limit: (), measured=False, on_progress=None)


def test_every_file_is_listed_once_also_over_a_resumption(tmp_path):
    files = observer(tmp_path)
    first, second = ("a\udcff.png", "truncated"), ("b.png", "too large")
    assert files.skipped(batch(first, second)) == [first, second]
    assert files.skipped(batch(first)) == []
    assert observer(tmp_path).skipped(batch(second, ("c.png", "empty"))) == [("c.png", "empty")]
    assert [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()] == [
        {"path": "a\udcff.png", "reason": "truncated"},
        {"path": "b.png", "reason": "too large"},
        {"path": "c.png", "reason": "empty"},
    ]


def test_without_skipped_files_there_is_no_list(tmp_path):
    observer(tmp_path).skipped(batch())
    assert not (tmp_path / "skipped.jsonl").exists()


def test_a_disk_that_refuses_is_an_output_error(tmp_path):
    files = observer(tmp_path)
    (tmp_path / "skipped.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"cannot write `.*skipped\.jsonl`: is a directory"):
        files.skipped(batch(("a", "b")))
