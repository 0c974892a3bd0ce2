import errno
import json
import logging
import math
import sys

import pytest
import torch
from torch.utils import tensorboard

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import OutputError
from vqgan.training.observer import MetricsLog


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


class Board:
    """Notes what TensorBoard is told, or fails like a full disk."""

    def __init__(self, path, purge_step=None):
        self.told = [("purge", purge_step)]
        self.full = False
        boards.append(self)

    def add_scalar(self, name, value, step):
        self._tell(name, value, step)

    def add_image(self, name, image, step, dataformats):
        self._tell(name, tuple(image.shape), step)

    def close(self):
        self._tell("close")

    def _tell(self, *what):
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.told.append(what)


boards = []


@pytest.fixture
def board(monkeypatch):
    boards.clear()
    monkeypatch.setattr(tensorboard, "SummaryWriter", Board)
    return boards


def rows(folder):
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def test_rows_are_appended_and_mirrored(folder, board):
    for start in (0, 2):
        log = MetricsLog(folder, start)
        log.row(start + 1, {"loss": 0.5, "usage": 1.0})
        log.picture(start + 1, "samples", torch.zeros(5, 3, 4))  # three of its channels can be shown
        log.close()
    assert rows(folder) == [{"step": 1, "loss": 0.5, "usage": 1.0}, {"step": 3, "loss": 0.5, "usage": 1.0}]
    told = [("loss", 0.5, 3), ("usage", 1.0, 3), ("samples", (3, 4, 3), 3), ("close",)]
    assert [each.told[0] for each in board] == [("purge", None), ("purge", 3)]
    assert board[1].told[1:] == told


def test_numbers_that_are_not_finite_are_written_as_words(folder, board):
    MetricsLog(folder, 0).row(1, {"loss": math.nan, "psnr": math.inf})
    assert rows(folder) == [{"step": 1, "loss": "nan", "psnr": "inf"}]


def test_a_full_disk_stops_the_run(folder, board):
    folder.metrics.mkdir()
    with pytest.raises(OutputError, match=r"cannot write `.*metrics\.jsonl`: is a directory"):
        MetricsLog(folder, 0).row(1, {"loss": 1.0})


def test_tensorboard_that_cannot_write_is_given_up_with_one_warning(folder, board, caplog):
    log = MetricsLog(folder, 0)
    board[0].full = True
    for step in (1, 2):
        log.row(step, {"loss": 1.0, "usage": 1.0})
        log.picture(step, "samples", torch.zeros(1, 3, 4))
    log.close()
    assert len(rows(folder)) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "no more TensorBoard events: [Errno 28] No space left on device"
    ]


def test_without_tensorboard_one_line_names_it(folder, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO):
        log = MetricsLog(folder, 0)
    log.row(1, {"loss": 1.0})
    log.close()
    assert [record.getMessage() for record in caplog.records] == [
        "no TensorBoard events: install them with `pip install vqgan[log]`"
    ]


def test_real_events_are_written(folder):
    log = MetricsLog(folder, 0)
    log.row(1, {"loss": 1.0})
    log.picture(1, "samples", torch.zeros(1, 3, 4))
    log.close()
    (events,) = (folder.path / "tensorboard").iterdir()
    assert events.stat().st_size > 200
