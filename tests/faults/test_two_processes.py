"""Several training processes do what one does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import processes
import tiny
import vqgan
from launcher import ENVIRONMENT
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import dump_yaml
from vqgan.runs import train


def run_together(folder, world, begun):
    """The runs of several processes, and what each of them noted; they go on with one that another began."""
    shutil.copytree(begun, folder / "begun")
    tiny.data(folder / "images", count=20)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = subprocess.run(
        [sys.executable, Path(processes.__file__), folder, str(port), str(world)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.fixture(scope="module")
def together(tmp_path_factory, alone):
    return run_together(tmp_path_factory.mktemp("two"), 2, alone / "sharded")


@pytest.fixture(scope="module")
def four(tmp_path_factory, alone):
    return run_together(tmp_path_factory.mktemp("four"), 4, alone / "sharded")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same runs of one process; the prior's in other micro-batches."""
    folder = tmp_path_factory.mktemp("one")
    source = tiny.data(folder / "images", count=20)
    with processes.in_float64():
        train(processes.tokenizer_run(source), out=folder / "tokenizer", device="cpu")
        train(processes.game_run(source), out=folder / "game", device="cpu")
        where = {"out": folder / "prior", "tokenizer": folder / "tokenizer"}
        train(processes.prior_run(source), **where, overrides=["training.accumulate=1"], device="cpu")
        train(processes.sharded_run(source), **{**where, "out": folder / "sharded"}, device="cpu")
    return folder


def rows(folder):
    lines = RunFolder(folder).metrics.read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k not in ("images_per_second", "data_wait")}
        for line in lines
    ]


@pytest.mark.parametrize("stage", ["tokenizer", "game", "prior", "sharded"])
@pytest.mark.parametrize("world", ["together", "four"])
def test_the_same_batches_give_the_same_losses_and_the_same_model(request, alone, world, stage):
    folder, _ = request.getfixturevalue(world)
    assert_alike(folder / stage, alone / stage)


def assert_alike(ours, theirs):
    """The saved steps and all rows of two runs."""
    several, one = RunFolder(ours).newest(), RunFolder(theirs).newest()
    assert several.number == one.number
    assert several.tensors.keys() == one.tensors.keys()
    for file, tensors in one.tensors.items():
        for name, tensor in tensors.items():
            assert_close(several.tensors[file][name], tensor, rtol=1e-6, atol=1e-7)  # Adam enlarges rounding
    for row, like in zip(rows(ours), rows(theirs), strict=True):
        assert row == pytest.approx(like, rel=1e-10, abs=1e-12)


def test_each_process_keeps_a_part_of_weights_and_moments(together, four):
    for _, notes in (together, four):
        for note in notes:
            for part, whole in note["held"]:
                assert part < whole * (0.1 + 1 / len(notes))


def test_a_sharded_run_draws_the_same_pictures_and_writes_the_same_model(together, alone):
    pictures = [path.relative_to(alone / "sharded") for path in (alone / "sharded" / "images").rglob("*.png")]
    assert len(pictures) > 5
    for path in pictures:
        assert (together[0] / "sharded" / path).read_bytes() == (alone / "sharded" / path).read_bytes()
    ours, theirs = (vqgan.load(root / "sharded").prior.state_dict() for root in (together[0], alone))
    assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_sharded_run_goes_on_in_one_process_and_one_that_one_began_in_two(together, alone, tmp_path):
    shutil.copytree(alone / "sharded", tmp_path / "one")
    shutil.copytree(together[0] / "sharded", tmp_path / "two, then one")
    with processes.in_float64():
        for folder in tmp_path.iterdir():
            train(None, resume=folder, device="cpu", overrides=["training.steps=5"])
    for folder in (tmp_path / "two, then one", together[0] / "begun"):
        assert_alike(folder, tmp_path / "one")


def test_a_gradient_that_is_not_finite_in_one_process_changes_no_part_of_a_sharded_prior(together):
    folder = RunFolder(together[0] / "poisoned")
    assert [json.loads(line)["step"] for line in folder.diverged.read_text().splitlines()] == [2]
    tensors = [each for file in folder.newest().tensors.values() for each in file.values()]
    assert all(each.isfinite().all() for each in tensors)


def test_gradients_are_sent_while_others_are_computed(together, four):
    for note in (*together[1], *four[1]):
        assert all(sent == every for sent, every in note["buckets"])
        assert max(every for _, every in note["buckets"]) > 5


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


def test_commands_share_their_images_and_write_the_files_of_one_process(together, tmp_path):
    folder, (first, second) = together
    alone = processes.used(folder, tmp_path)
    for name, (code, paths, _) in alone.items():
        assert (code, first["used"][name][:2], second["used"][name][:2]) == (0, [0, paths], [0, []]), name
    ours, theirs = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (folder / "used", tmp_path)
    )
    assert ours == theirs
    assert len(ours) > 30


def test_what_cannot_be_shared_is_refused_under_a_launcher(together):
    _, notes = together
    hint = "hint: start it without `torchrun` or `accelerate launch`"
    for note in notes:
        assert note["refused"] == [
            2,
            f"vqgan: `vqgan info` works in one process, but 2 were started\n{hint}\n",
        ]


def test_a_run_goes_on_after_one_of_two_processes_was_killed(tmp_path):
    source = tiny.data(tmp_path / "images")
    run = tiny.tokenizer_run(source, steps=60, save_every=5, ema_decay=None)
    (tmp_path / "run.yaml").write_text(dump_yaml(run))
    folder = RunFolder(tmp_path / "run")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    launcher += ["--monitor-interval", "0.1", "-m", "vqgan", "train", "tokenizer"]
    words = [*launcher, tmp_path / "run.yaml", "--out", folder.path, "--device", "cpu"]
    with (tmp_path / "said.txt").open("w+") as said:
        agent = subprocess.Popen([sys.executable, *words], stdout=said, stderr=said)
        try:
            while max(folder.numbers(), default=0) < 5:
                assert agent.poll() is None, (tmp_path / "said.txt").read_text()
                time.sleep(0.01)
            children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
            os.kill(int(children[-1]), signal.SIGKILL)
            agent.wait(200)
        finally:
            agent.kill()
    text = (tmp_path / "said.txt").read_text()
    assert (agent.returncode, "continuing from step" in text) == (0, True), text
    assert [row["step"] for row in rows(folder.path)] == [*range(1, 61)]
    assert folder.newest().number == 60
