import json

import pytest
import torch

from vqgan.errors import OutputError
from vqgan.training.records import SkippedFiles
from vqgan.types import Batch


def batch(*skipped):
    return Batch(torch.zeros(1, 1, 2, 2), {}, torch.zeros(1, dtype=torch.int64), skipped)


def test_every_file_is_listed_once_also_over_a_resumption(tmp_path):
    path = tmp_path / "skipped.jsonl"
    files = SkippedFiles(path)
    first, second = ("a\udcff.png", "truncated"), ("b.png", "too large")
    assert files.add(batch(first, second)) == [first, second]
    assert files.add(batch(first)) == []
    assert SkippedFiles(path).add(batch(second, ("c.png", "empty"))) == [("c.png", "empty")]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"path": "a\udcff.png", "reason": "truncated"},
        {"path": "b.png", "reason": "too large"},
        {"path": "c.png", "reason": "empty"},
    ]


def test_without_skipped_files_there_is_no_list(tmp_path):
    SkippedFiles(tmp_path / "skipped.jsonl").add(batch())
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_an_output_error(tmp_path):
    files = SkippedFiles(tmp_path / "absent" / "skipped.jsonl")
    with pytest.raises(OutputError, match=r"cannot write `.*skipped\.jsonl`: no such file or directory"):
        files.add(batch(("a", "b")))
