"""Two training processes do what one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import tiny
import two_processes
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.runs import train


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The runs of two processes, and what each of them noted."""
    folder = tmp_path_factory.mktemp("together")
    tiny.data(folder / "images", count=20)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = subprocess.run(
        [sys.executable, Path(two_processes.__file__), folder, str(port)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def rows(folder):
    lines = RunFolder(folder).metrics.read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k not in ("images_per_second", "data_wait")}
        for line in lines
    ]


def test_the_same_batches_give_the_same_model(together, tmp_path):
    folder, _ = together
    source = tiny.IdxConfig(path=str(folder / "images"))
    with two_processes.in_float64():
        train(two_processes.tokenizer_run(source), out=tmp_path / "tokenizer", device="cpu")
        run = two_processes.prior_run(source)
        train(run, out=tmp_path / "prior", tokenizer=folder / "tokenizer", device="cpu")
    for stage in ("tokenizer", "prior"):
        alone, both = RunFolder(tmp_path / stage).newest(), RunFolder(folder / stage).newest()
        for file in ("model", "ema"):
            for name, tensor in alone.tensors[file].items():
                assert_close(both.tensors[file][name], tensor, rtol=1e-6, atol=1e-8)
        for one, two in zip(rows(tmp_path / stage), rows(folder / stage), strict=True):
            assert two == pytest.approx(one, rel=1e-5)


def test_both_processes_have_the_same_weights_at_the_end_also_with_discriminator_and_re_seeding(together):
    _, (first, second) = together
    assert len(first["digests"]) == 5
    assert first["digests"] == second["digests"]


def test_only_one_process_writes_and_reports(together):
    folder, (first, second) = together
    assert (first["reports"], second["reports"]) == (3, 0)
    assert [row["step"] for row in rows(folder / "game")] == [1, 2, 3, 4]
    assert len(list((folder / "game" / "tensorboard").iterdir())) == 1
    assert not list(folder.rglob("*tmp*"))


def test_a_signal_to_one_stops_both_at_the_same_step_and_one_alone_can_go_on(together):
    folder, (first, second) = together
    assert first["stopped"] == second["stopped"]
    assert first["stopped"] == [75, f"stopped at step 2 of 4; everything is saved in `{folder / 'stopped'}`"]
    train(None, resume=folder / "stopped", device="cpu")
    assert [row["step"] for row in rows(folder / "stopped")] == [1, 2, 3, 4]
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in rows(folder / "stopped"))


def test_a_batch_that_is_bad_in_one_process_is_skipped_in_both_and_both_go_back_alike(together):
    folder, _ = together
    events = [json.loads(line) for line in (folder / "diverged" / "diverged.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events] == [2, 3, 4, 5]
    assert [event.get("back_to") for event in events] == [None, None, None, 1]
    newest = RunFolder(folder / "diverged").newest()
    assert newest.values["course"] == {"good": 6, "rewinds": 0, "passed_over": 16}
    assert all(tensor.isfinite().all() for file in newest.tensors.values() for tensor in file.values())


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_written(together):
    folder, notes = together
    for note in notes:
        assert note["odd"] == [
            2,
            "`batch_size` 3 cannot be divided into 2 equal micro-batches (`accumulate` = 1, processes: 2)",
        ]
    assert not (folder / "odd").exists()
