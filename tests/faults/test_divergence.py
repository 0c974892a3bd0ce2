"""Numbers that are not finite: what they touch in real training, and how a run goes on or ends."""

# ruff: noqa: F811  (fixtures are imported and asked for by the same names)

import json

import msgspec
import pytest
import torch

import tiny
from unit.test_resume import assert_equal_runs, one_thread, rows, source, stopped  # noqa: F401
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.cli.main import main
from vqgan.config import dump_yaml
from vqgan.runs import train
from vqgan.training import loop
from vqgan.training.optimizers import TrainingState


@pytest.fixture
def spoil(monkeypatch):
    """Makes the images of these samples not finite, and the gradients of a prior, for which every image has codes."""
    real, update = loop.to_device, TrainingState.apply

    seen = []

    def apply(values):
        def spoiled(batch, device):
            batch = real(batch, device)
            seen[:] = batch.sample.tolist()
            for place, number in enumerate(seen):
                if number in values:
                    batch.images[place, 0, 0, 0] = values[number]
            return batch

        def updated(self, name, rate):
            if name == "prior" and {*seen} & {*values}:
                next(self.modules[name].parameters()).grad.view(-1)[0] = torch.nan
            return update(self, name, rate)

        monkeypatch.setattr(loop, "to_device", spoiled)
        monkeypatch.setattr(TrainingState, "apply", updated)

    return apply


def assert_finite(folder):
    """Whatever was saved, and the model."""
    for number in RunFolder(folder).numbers():
        for file in RunFolder(folder).newest(number).tensors.values():
            assert all(tensor.isfinite().all() for tensor in file.values())


def prior_of(source, folder):
    """A request of a prior, on a tokenizer with random weights."""
    train(tiny.tokenizer_run(source, steps=1), out=folder / "tokenizer", device="cpu")
    return {"tokenizer": folder / "tokenizer"}


def test_bad_images_cost_their_updates_and_the_run_ends_well(source, tmp_path, spoil):
    """In the first step, in the fifth and in the last, which is taken again with other images."""
    spoil({2: torch.nan, 18: torch.inf, 26: torch.nan})
    train(tiny.tokenizer_run(source, steps=7, save_every=3), out=tmp_path / "run", device="cpu")
    assert_finite(tmp_path / "run")
    events = [json.loads(line) for line in RunFolder(tmp_path / "run").diverged.read_text().splitlines()]
    assert [event["samples"] for event in events] == [[0, 4], [16, 20], [24, 28], [24, 28]]
    assert [event.get("back_to") for event in events] == [None, None, None, 6]
    assert [event.get("loss") for event in events] == ["nan", "nan", "nan", None]
    assert all("images" in image for image in events[0]["images"])
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("stage", ["tokenizer", "prior"])
def test_a_run_that_went_back_resumes_exactly(source, tmp_path, spoil, stage):
    spoil(dict.fromkeys(range(15, 28), torch.nan))  # steps 4 to 7
    request = prior_of(source, tmp_path) if stage == "prior" else {}
    run = getattr(tiny, f"{stage}_run")(source, steps=9, save_every=2)
    train(run, **request, out=tmp_path / "whole", device="cpu")
    assert_finite(tmp_path / "whole")
    folder = tmp_path / "parts"
    stopped(run, folder, 3, **request, out=folder)
    stopped(None, folder, 3, resume=folder, overrides=["data.workers=1"])  # again, with other images
    assert RunFolder(folder).newest().values["course"] == {"good": 2, "rewinds": 1, "passed_over": 20}
    train(None, resume=folder, overrides=["data.workers=0"], device="cpu")
    assert_equal_runs(folder, tmp_path / "whole")


def command(run, folder):
    """The command line's exit code."""
    (folder / "run.yaml").write_text(dump_yaml(run))
    words = ["train", run.__struct_config__.tag, str(folder / "run.yaml"), "--out", str(folder / "run")]
    return main([*words, "--device", "cpu"])


def test_an_absurd_learning_rate_ends_with_its_exit_code_and_the_images_and_saves_nothing(
    source, tmp_path, capsys
):
    run = tiny.tokenizer_run(source, steps=12, save_every=8)
    task = msgspec.structs.replace(
        run.task, optimizer=msgspec.structs.replace(tiny.OPTIMIZER, learning_rate=1e4)
    )
    assert command(msgspec.structs.replace(run, task=task), tmp_path) == 4
    message = capsys.readouterr().err
    assert "vqgan: a gradient of the tokenizer was not finite before step " in message
    assert (
        f"hint: begin a new run with a lower `task.optimizer.learning_rate`; `{tmp_path / 'run'}" in message
    )
    assert "Traceback" not in message
    assert RunFolder(tmp_path / "run").numbers() == [0]
    assert_finite(tmp_path / "run")
    assert "nan" in RunFolder(tmp_path / "run").metrics.read_text()


def test_batches_of_constants_do_no_harm(source, tmp_path, monkeypatch):
    """Black, white and grey images: normalisation and the discriminator see no variance at all."""
    real = loop.to_device

    def constant(batch, device):
        batch = real(batch, device)
        batch.images[:] = (batch.sample % 3 - 1.0).view(-1, 1, 1, 1) if batch.sample[0] % 8 else 0.0
        return batch

    monkeypatch.setattr(loop, "to_device", constant)
    train(tiny.tokenizer_run(source, steps=8), out=tmp_path / "run", device="cpu")
    assert not RunFolder(tmp_path / "run").diverged.exists()
    assert_finite(tmp_path / "run")


def test_what_overflows_in_half_precision_costs_its_update_only(source, tmp_path, monkeypatch):
    """As a loss of 70,000 does in fp16: the gradient of one batch is infinite."""
    real = loop.to_device

    def large(batch, device):
        batch = real(batch, device)
        if batch.sample[0] == 8:
            batch.images[:] = 3e38
        return batch

    monkeypatch.setattr(loop, "to_device", large)
    train(tiny.tokenizer_run(source, steps=5), out=tmp_path / "run", device="cpu", precision="bf16")
    (event,) = [json.loads(line) for line in RunFolder(tmp_path / "run").diverged.read_text().splitlines()]
    assert event["step"] == 3
    assert_finite(tmp_path / "run")
    assert RunFolder(tmp_path / "run").newest().number == 5
