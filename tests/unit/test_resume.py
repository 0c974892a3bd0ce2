"""A run that was stopped and resumed is, bit by bit, the run that was not."""

import json
import logging
import os
import re
import shutil
import signal
import sys

import msgspec
import pytest
import torch

import tiny
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.checkpoints.tensors import read_tensors
from vqgan.errors import CheckpointError, ConfigError, Preempted
from vqgan.runs import resolve, train

STEPS = 5


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums depend on the number of threads: here and in the processes that are started it is one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)  # nobody cuts the power here
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Ten images: an epoch ends within the third step."""
    return tiny.data(tmp_path_factory.mktemp("images"))


def stopped(run, folder, step, **arguments):
    """Trains until a signal comes during ``step``."""

    def stop(progress):
        if progress.phase != "encoding pictures" and progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted, match=f"stopped at step {step} of "):
        train(run, **arguments, device="cpu", on_progress=stop)
    assert RunFolder(folder).newest().number == step


@pytest.fixture(scope="module")
def runs(source, tmp_path_factory):
    """All stages, uninterrupted, and what is needed to begin them again."""
    folder = tmp_path_factory.mktemp("whole")
    training = {"steps": STEPS, "evaluate_every": 2, "pictures": 1}
    requests = {
        "tokenizer": (tiny.tokenizer_run(source, **training), None),
        "prior": (tiny.prior_run(source, **training), folder / "tokenizer"),
        "classifier": (tiny.classifier_run(source, **training), None),
        "denoiser": (tiny.denoiser_run(source, **training), None),
    }
    for stage, (run, tokenizer) in requests.items():
        train(run, out=folder / stage, tokenizer=tokenizer, device="cpu", seed=3)
    return folder, requests


@pytest.fixture(scope="module")
def first_step(runs, tmp_path_factory):
    """The same runs, stopped after their first step."""
    folder = tmp_path_factory.mktemp("begun")
    for stage, (run, tokenizer) in runs[1].items():
        stopped(run, folder / stage, 1, out=folder / stage, tokenizer=tokenizer, seed=3)
    return folder


def rows(folder):
    """All numbers but the speed."""
    lines = RunFolder(folder).metrics.read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k not in ("images_per_second", "data_wait")}
        for line in lines
    ]


def assert_equal_runs(folder, expected):
    ours, theirs = RunFolder(folder).newest(), RunFolder(expected).newest()
    assert ours.number == theirs.number
    assert ours.values == theirs.values
    assert ours.tensors.keys() == theirs.tensors.keys() == {"model", "ema", "optimizer"}
    for file, tensors in theirs.tensors.items():
        assert ours.tensors[file].keys() == tensors.keys()
        different = [
            name for name, tensor in tensors.items() if not torch.equal(ours.tensors[file][name], tensor)
        ]
        assert different == []
    assert rows(folder) == rows(expected)


@pytest.mark.parametrize("stage", ["tokenizer", "prior", "classifier", "denoiser"])
def test_stopping_at_every_step_with_other_workers_each_time_changes_nothing(
    runs, first_step, tmp_path, stage
):
    whole, _ = runs
    folder = shutil.copytree(first_step / stage, tmp_path / stage)
    for step, workers in ((2, 2), (3, 0), (4, 1)):
        stopped(None, folder, step, resume=folder, overrides=[f"data.workers={workers}"])
    train(None, resume=folder, overrides=["data.workers=0"], device="cpu")
    assert_equal_runs(folder, whole / stage)
    ours, theirs = (read_tensors(each / f"{stage}.safetensors") for each in (folder, whole / stage))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_a_damaged_step_costs_only_the_steps_since_the_one_before(runs, first_step, tmp_path, caplog):
    folder = shutil.copytree(first_step / "tokenizer", tmp_path / "run")
    stopped(None, folder, 3, resume=folder)
    damaged = folder / "state" / "step-00000003" / "optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    train(None, resume=folder, device="cpu")
    assert "step-00000003/optimizer.safetensors` is damaged" in caplog.text
    assert_equal_runs(folder, runs[0] / "tokenizer")
    assert RunFolder(folder).numbers() == [0, 1, STEPS]


def test_a_run_that_never_took_a_step_can_be_resumed(runs, tmp_path, monkeypatch):
    whole, requests = runs
    run, tokenizer = requests["prior"]
    folder = tmp_path / "prior"
    with monkeypatch.context() as patch:
        patch.setattr("vqgan.training.loop.step_seed", _fail)
        with pytest.raises(RuntimeError, match="the power went"):
            train(run, out=folder, tokenizer=tokenizer, device="cpu", seed=3)
    train(None, resume=folder, device="cpu")
    assert_equal_runs(folder, whole / "prior")


@pytest.fixture(scope="module")
def cached(runs, tmp_path_factory):
    """A prior on crops of codes that are encoded once: its request, and the run that nothing stopped."""
    folder = tmp_path_factory.mktemp("cached")
    run = tiny.prior_run(tiny.data(folder / "images", side=15), steps=STEPS, evaluate_every=2, pictures=1)
    data = msgspec.structs.replace(run.data, resize=None, cached_codes=5)
    request = {"run": msgspec.structs.replace(run, data=data), "tokenizer": runs[0] / "tokenizer", "seed": 3}
    train(**request, out=folder / "whole", device="cpu")
    return request, folder / "whole"


def test_a_prior_on_cached_codes_sees_the_same_crops_wherever_it_is_stopped(cached, tmp_path, caplog):
    request, whole = cached
    folder = tmp_path / "run"
    stopped(request["run"], folder, 2, out=folder, tokenizer=request["tokenizer"], seed=3)
    with caplog.at_level(logging.INFO):
        stopped(None, folder, 3, resume=folder, overrides=["data.workers=2"])
    assert re.search(r"encoded 5 variants of each of 10 pictures: \d{3} tokens in \d+ seconds", caplog.text)
    train(None, resume=folder, overrides=["data.workers=0"], device="cpu")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        train(None, resume=folder, device="cpu")  # there is nothing to do, so nothing is encoded
    assert "continuing from step 5 of 5" in caplog.text
    assert "encoded" not in caplog.text
    assert_equal_runs(folder, whole)


def test_a_signal_while_a_run_encodes_stops_it_before_its_first_step(cached, tmp_path):
    request, whole = cached
    reports = []

    def stop(progress):
        reports.append(progress.step)
        if progress.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted, match="stopped at step 0 of 5; everything is saved in"):
        train(**request, out=tmp_path / "run", device="cpu", on_progress=stop)
    assert reports == [*range(1, 8)]
    train(None, resume=tmp_path / "run", device="cpu")
    assert_equal_runs(tmp_path / "run", whole)


def test_a_run_that_ends_while_it_encodes_can_be_resumed(cached, tmp_path):
    request, whole = cached
    reports = []

    def power_cut(progress):
        reports.append((progress.phase, progress.step, progress.total))
        if progress.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(**request, out=tmp_path / "run", device="cpu", on_progress=power_cut)
    assert reports == [("encoding pictures", number, 50) for number in range(1, 8)]
    train(None, resume=tmp_path / "run", device="cpu")
    assert_equal_runs(tmp_path / "run", whole)


def _fail(*arguments):
    raise RuntimeError("the power went")


def test_steps_may_grow_after_the_end(runs, tmp_path):
    whole, requests = runs
    grown = shutil.copytree(whole / "tokenizer", tmp_path / "grown")
    train(None, resume=grown, device="cpu")  # there is nothing to do
    assert_equal_runs(grown, whole / "tokenizer")
    train(None, resume=grown, overrides=["training.steps=7"], device="cpu")
    run = resolve(requests["tokenizer"][0], ["training.steps=7"])
    train(run, out=tmp_path / "whole", device="cpu", seed=3)
    without = [{k: v for k, v in row.items() if "heldout" not in k} for row in rows(tmp_path / "whole")]
    assert [{k: v for k, v in row.items() if "heldout" not in k} for row in rows(grown)] == without
    ours, theirs = (RunFolder(folder).newest().tensors for folder in (grown, tmp_path / "whole"))
    for file, tensors in theirs.items():
        assert all(torch.equal(ours[file][name], tensor) for name, tensor in tensors.items())


def test_another_seed_gives_another_run(runs, tmp_path):
    whole, requests = runs
    train(requests["tokenizer"][0], out=tmp_path / "other", device="cpu", seed=4)
    for one, other in zip(rows(tmp_path / "other"), rows(whole / "tokenizer"), strict=True):
        assert one["loss"] != other["loss"]


@pytest.fixture
def begun(first_step, tmp_path):
    return shutil.copytree(first_step / "tokenizer", tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"overrides": ["training.batch_size=8"]},
            "`training.batch_size` is 8, but the run began with 4",
        ),
        ({"overrides": ["training.steps=2"]}, "`training.steps` is 2, but the run began with 5"),
        ({"precision": "bf16"}, "`precision=` is bf16, but the run began with fp32"),
        ({"seed": 0}, "`seed=` is 0, but the run began with 3"),
        ({"seed": 9}, "`seed=` is 9, but the run began with 3"),
        ({"start_from": "x"}, "`start_from=` is `x`, but a resumed run takes everything from its folder"),
        ({"run": "demo-prior"}, "`run=` is `demo-prior`, but a resumed run takes everything from its folder"),
    ],
)
def test_other_changes_are_refused_with_both_values(begun, arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        train(arguments.pop("run", None), resume=begun, device="cpu", **arguments)


def test_the_same_images_may_lie_elsewhere_and_others_are_refused(begun, tmp_path):
    other = tiny.data(tmp_path / "other", count=11)
    with pytest.raises(ConfigError, match=r"the data has fingerprint [0-9a-f]{12}, the run began with "):
        train(None, resume=begun, data=other, device="cpu")
    with pytest.raises(
        ConfigError, match=r"the held-out images have fingerprint [0-9a-f]{12}, the run began "
    ):
        train(None, resume=begun, eval_data=other, device="cpu")
    train(None, resume=begun, data=tiny.data(tmp_path / "moved"), device="cpu")


@pytest.mark.parametrize("name", ["config.yaml", "env.json"])
def test_what_is_no_run_or_a_damaged_one_is_refused(begun, name):
    (begun / name).write_text("{")
    with pytest.raises(CheckpointError, match=re.escape(name)):
        train(None, resume=begun, device="cpu")
    (begun / name).unlink()
    with pytest.raises(CheckpointError, match="is not a run folder"):
        train(None, resume=begun, device="cpu")


def test_a_damaged_prior_file_is_seen_before_training_goes_on(first_step, tmp_path):
    folder = shutil.copytree(first_step / "prior", tmp_path / "run")
    data = bytearray((folder / "prior.safetensors").read_bytes())
    data[-100] ^= 1
    (folder / "prior.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match="its tensors do not have its digest"):
        train(None, resume=folder, device="cpu")
