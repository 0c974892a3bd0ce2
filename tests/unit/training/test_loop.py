import errno
import itertools
import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch

import tiny
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.checkpoints.tensors import read_tensors
from vqgan.errors import DivergedError, OutputError, Preempted
from vqgan.stopping import SIGNALS, Interrupted, stop_on_signals
from vqgan.training import saving
from vqgan.training.engine import Engine
from vqgan.training.loop import (
    COURSE,
    UNFINISHED,
    Loop,
    samples_before,
    step_seed,
)
from vqgan.training.observer import Observer
from vqgan.training.optimizers import OptimizerConfig, TrainingState
from vqgan.training.task import Session
from vqgan.types import Batch

STEPS = 6


class Counting:
    """A task of one number that rises by its learning rate; what it is asked for is noted in ``calls``."""

    stage = "tokenizer"
    image_channels = 1
    num_labels = 0

    def __init__(self, **loop):
        self.loop = tiny.loop(steps=STEPS, batch_size=2, **loop)
        self.module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.module.weight)
        config = OptimizerConfig(learning_rate=1.0, betas=(0.0, 0.0))
        self.state = TrainingState({"one": self.module}, config, Engine("cpu"), ema_decay=None)
        self.state.export = self.export
        self.calls = []
        self.during = {}
        self.bad = lambda step, sample: False

    def note(self, what):
        self.calls.append(what)
        self.during.pop(what, lambda: None)()

    def train_step(self, batches, step):
        self.note(f"train {step}")
        assert len(batches) == self.loop.accumulate
        sample = int(batches[0].sample[0])
        bad = self.bad(step, sample)
        self.module.weight.grad = torch.full((1, 1), torch.nan if bad else -1.0)
        self.state.optimizers["one"].step(1.0)
        loss = torch.tensor(torch.nan if bad == "loss" else float(step))
        return {"loss": loss, "chance": torch.rand(()), "first": torch.tensor(float(sample))}

    def evaluate(self, batches):
        self.note("evaluate")
        return {"psnr": float(sum(len(batch.images) for batch in batches))}

    def pictures(self, batch, on_progress):
        self.note("pictures")
        on_progress(None)
        return {"shown": batch.images}

    def export(self, path, step, tensors):
        self.note(f"{'best' if 'best' in path.name else 'export'} {step}")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without what has tests of its own: TensorBoard's events, and waiting for the disk."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def batches(skipped=(), start=0):
    for first in itertools.count(2 * start, 2):
        whole = tiny.batch(2, first=first)
        yield Batch(whole.images, whole.condition, whole.sample, skipped)


def held_out(size, limit):
    for first in range(0, limit, size):
        yield tiny.batch(min(size, limit - first), first=first)


def run(task, folder, start=0, unfinished=None, progress=None, train=None, values=()):
    plain = {"seed": 5, "fingerprint": "f", **dict(values)}
    session = Session(task, folder, Engine("cpu"), plain, start, unfinished)
    if not folder.numbers():
        folder.commit(start, task.state.tensors(), session.values)
    on_progress = None if progress is None else progress.append
    observer = Observer(
        session, held_out, measured=True, on_progress=on_progress, label=lambda sample: f"image {sample}"
    )
    try:
        Loop(session, observer).run(train or batches(start=start))
    finally:
        observer.close()


def rows(folder):
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def diverged(folder):
    return [json.loads(line) for line in folder.diverged.read_text().splitlines()]


def test_numbers_pictures_evaluations_and_checkpoints_come_when_they_are_due(folder):
    task, progress = Counting(log_every=2, evaluate_every=4, evaluate_images=3, save_every=3, pictures=2), []
    run(task, folder, progress=progress)
    written = [call for call in task.calls if call.startswith(("best", "export"))]
    assert written == ["export 3", "best 4", "export 6"]
    assert [call for call in task.calls if call not in written] == [
        "train 0",
        "pictures",
        "train 1",
        "train 2",
        "train 3",
        "evaluate",
        "train 4",
        "train 5",
        "pictures",
        "evaluate",
    ]
    assert [row["step"] for row in rows(folder)] == [2, 4, 6]
    assert [row["loss"] for row in rows(folder)] == [1.0, 3.0, 5.0]
    assert [row.get("heldout_psnr") for row in rows(folder)] == [None, 3.0, 3.0]
    assert all(row["images_per_second"] > 0 and 0 < row["data_wait"] < 1 for row in rows(folder))
    assert folder.numbers() == [0, 3, 6]
    assert [(report.step, report.total, report.phase) for report in progress] == [
        (step, STEPS, "tokenizer") for step in range(1, 7)
    ]
    assert [bool(report.values) for report in progress] == [False, True, False, True, False, True]
    assert (folder.images / "training.png").exists()
    assert sorted(path.name for path in folder.images.glob("shown-*")) == [
        "shown-00000001.png",
        "shown-00000006.png",
    ]


def test_the_model_is_written_before_the_step_that_says_so(folder):
    task, found = Counting(save_every=3), []
    task.during["export 3"] = lambda: found.append(folder.numbers())
    run(task, folder)
    assert found == [[0]]


def test_a_step_takes_as_many_micro_batches_as_it_is_cut_into(folder):
    taken = []

    def counting():
        for batch in batches():
            taken.append(batch)
            yield batch

    run(Counting(accumulate=2), folder, train=counting())
    assert len(taken) == 2 * STEPS


def test_chance_in_a_step_follows_from_seed_and_step_alone(folder, tmp_path):
    run(Counting(), folder)
    other = RunFolder(tmp_path / "other")
    other.create()
    torch.rand(17)
    run(Counting(), other, start=3)
    drawn = [row["chance"] for row in rows(folder)]
    assert [row["chance"] for row in rows(other)] == drawn[3:]
    assert len(set(drawn)) == STEPS
    assert len({step_seed(seed, step, rank) for seed in (0, 1) for step in (0, 1) for rank in (0, 1)}) == 8


def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("moment", "step", "unfinished"),
    [
        ("train 2", 3, False),
        ("export 3", 4, False),  # during a save: noticed after the next step
        ("pictures", 1, True),
        ("evaluate", 5, True),
    ],
)
def test_a_signal_at_any_moment_leads_to_a_committed_step_and_a_hint(folder, moment, step, unfinished):
    task = Counting(evaluate_every=5, save_every=3, pictures=2)
    sent = threading.Event()
    task.during["train 3"] = lambda: moment != "export 3" or sent.wait(60)  # which may be written meanwhile
    task.during[moment] = lambda: (interrupt(), sent.set())
    with pytest.raises(Preempted) as caught:
        run(task, folder)
    assert caught.value.exit_code == 75
    assert (
        caught.value.message == f"stopped at step {step} of {STEPS}; everything is saved in `{folder.path}`"
    )
    assert caught.value.hint == f"continue with `vqgan train tokenizer --resume {folder.path}`"
    newest = folder.newest()
    assert newest.number == step
    assert (UNFINISHED in newest.values) == unfinished
    assert task.calls[-1] == f"export {step}"
    written = [row["step"] for row in rows(folder)] if folder.metrics.exists() else []
    assert written == list(range(1, step + (not unfinished)))


@pytest.mark.parametrize("moment", ["pictures", "evaluate"])
def test_an_evaluation_that_was_broken_off_is_made_up_for_on_resuming(folder, tmp_path, moment):
    settings = {"evaluate_every": 4, "pictures": 2}
    whole = RunFolder(tmp_path / "whole")
    whole.create()
    run(Counting(**settings), whole)
    task = Counting(**settings)
    task.during[moment] = interrupt
    with pytest.raises(Preempted):
        run(task, folder)
    step = folder.newest()
    folder.clean(step.number - 1)
    again = Counting(**settings)
    again.state.load(step.tensors, where="here")
    run(again, folder, step.number, step.values[UNFINISHED])
    timeless = [
        [{**row, "images_per_second": 0, "data_wait": 0} for row in rows(each)] for each in (folder, whole)
    ]
    assert timeless[0] == timeless[1]
    assert {p.name for p in folder.images.rglob("*.png")} == {p.name for p in whole.images.rglob("*.png")}
    assert again.module.weight == STEPS


def test_a_signal_in_the_last_evaluation_is_no_end_and_one_after_it_is(folder, tmp_path):
    task = Counting()
    task.during["evaluate"] = interrupt
    with pytest.raises(Preempted):
        run(task, folder)
    assert folder.newest().number == STEPS
    other = RunFolder(tmp_path / "other")
    other.create()
    task = Counting()
    task.during[f"export {STEPS}"] = interrupt
    run(task, other)


def test_a_second_ctrl_c_stops_at_once_and_leaves_the_last_step(folder):
    task = Counting(save_every=2)

    def impatient():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    task.during["train 3"] = impatient
    with pytest.raises(KeyboardInterrupt):
        run(task, folder)
    assert folder.newest().number == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("step", [0, 3, STEPS - 1])
@pytest.mark.parametrize("every", [1, 4])
def test_a_gradient_that_is_not_finite_costs_one_update_wherever_it_comes(folder, caplog, step, every):
    task = Counting(log_every=every, save_every=2)
    task.bad = lambda now, sample: now == step
    run(task, folder)
    assert task.module.weight == STEPS - 1
    assert folder.newest().number == STEPS
    (row,) = diverged(folder)
    assert 0 <= row.pop("chance") < 1
    samples = [2 * step, 2 * step + 2]
    images = [f"image {number}" for number in range(*samples)]
    assert row == {"step": step + 1, "samples": samples, "images": images, "loss": step, "first": samples[0]}
    assert caplog.text.count("were skipped: their gradients were not finite") == 1


def test_a_step_that_was_skipped_is_not_saved_before_the_next_ones_tell_what_it_was(folder):
    task = Counting(save_every=2)
    task.bad = lambda step, sample: step in (3, 4)
    task.during["train 3"] = interrupt
    with pytest.raises(Preempted, match="stopped at step 4 of 6; everything up to step 2 is saved in"):
        run(task, folder)
    assert folder.numbers() == [0, 2]


def test_a_run_that_diverged_goes_back_to_the_last_save_and_on_with_the_samples_after(folder):
    task = Counting()
    task.loop = tiny.loop(steps=8, batch_size=2, save_every=2)
    task.bad = lambda step, sample: 6 <= sample < 14
    run(task, folder)
    # Steps 4 to 7 are bad: the fourth and the sixth are not saved, and one more than three in a row is too many.
    assert [call for call in task.calls if "train" in call] == [
        *("train 0", "train 1", "train 2", "train 3", "train 4", "train 5", "train 6"),
        *("train 2", "train 3", "train 4", "train 5", "train 6", "train 7"),
    ]
    assert [call for call in task.calls if "export" in call] == [f"export {step}" for step in (2, 4, 6, 8)]
    assert task.module.weight == 8
    assert [row["step"] for row in rows(folder)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [row["first"] for row in rows(folder)] == [0, 2, 14, 16, 18, 20, 22, 24]
    assert folder.newest().values[COURSE] == {"good": 8, "rewinds": 0, "passed_over": 10}


@pytest.mark.parametrize("every", [1, 4])
def test_a_run_that_diverges_wherever_it_goes_on_ends_and_nothing_of_it_is_saved(folder, every):
    task = Counting(log_every=every, save_every=4)
    task.loop = tiny.loop(steps=10, batch_size=2, log_every=every, save_every=2)
    task.bad = lambda step, sample: step >= 2
    folder.weights("tokenizer").touch()
    with pytest.raises(DivergedError) as caught:
        run(task, folder)
    step = {1: 6, 4: 6}[every]
    assert caught.value.exit_code == 4
    assert f"was not finite before step {step}" in caught.value.message
    assert "going back to step 2 and on with other images did not help 3 times" in caught.value.message
    assert f"--from {folder.path}" in caught.value.hint
    assert f"`{folder.diverged}` names the images" in caught.value.hint
    assert folder.numbers() == [0, 2]
    assert task.module.weight == 2
    assert task.calls.count("train 2") == 4
    events = diverged(folder)
    assert [event["back_to"] for event in events if "back_to" in event] == [2, 2, 2]
    assert [event["samples"] for event in events[:4]] == [[4, 6], [6, 8], [8, 10], [4, 12]]


def test_a_run_that_diverged_before_it_saved_is_no_place_to_start_from(folder):
    task = Counting(log_every=4, save_every=8)
    task.bad = lambda step, sample: True
    with pytest.raises(DivergedError) as caught:
        run(task, folder)
    assert caught.value.hint.startswith("begin a new run with a lower `task.optimizer.learning_rate`; ")


@pytest.mark.parametrize("save_every", [2, 3])
def test_weights_that_are_not_finite_are_never_saved(folder, save_every):
    task = Counting(save_every=save_every)
    task.during["train 2"] = lambda: task.module.weight.data.fill_(torch.inf)
    run(task, folder)
    assert task.module.weight == STEPS
    assert task.calls.count("train 2") == 2
    assert folder.newest().tensors["model"]["one.weight"] == STEPS


def test_a_signal_does_not_save_weights_that_are_not_finite_either(folder):
    task = Counting(save_every=4)
    task.during["train 2"] = lambda: (task.module.weight.data.fill_(torch.inf), interrupt())
    with pytest.raises(Preempted, match="stopped at step 3 of 6; everything up to step 0 is saved in"):
        run(task, folder)


def test_a_loss_that_is_not_finite_in_the_last_step_is_a_reason_to_go_back(folder):
    task = Counting(save_every=4)
    task.bad = lambda step, sample: "loss" * (sample == 2 * STEPS - 2)
    run(task, folder)
    assert task.calls.count(f"train {STEPS - 1}") == 2
    assert task.module.weight == STEPS


def divergent(**settings):
    """Two series of bad samples, and a signal on request: the second comes after a save that no plan asked for."""
    task = Counting(save_every=4, **settings)
    task.loop = tiny.loop(steps=14, batch_size=2, save_every=4)
    task.bad = lambda step, sample: 10 <= sample < 18 or 36 <= sample < 44
    return task


@pytest.mark.parametrize("stops", [(3,), (7,), (13,), (13, 14, 15), (18, 21), range(1, 25)])
def test_a_run_that_went_back_is_the_same_wherever_it_was_stopped(folder, tmp_path, stops):
    whole = RunFolder(tmp_path / "whole")
    whole.create()
    run(divergent(), whole)
    start, steps = 0, 0
    while start < 14:
        task = divergent()
        saved = folder.newest() if folder.numbers() else None
        if saved is not None:
            task.state.load(saved.tensors, where="here")

        def count(step, sample, bad=task.bad):
            nonlocal steps
            steps += 1
            if steps in stops:
                interrupt()
            return bad(step, sample)

        task.bad = count
        values = {COURSE: saved.values[COURSE]} if saved is not None and COURSE in saved.values else {}
        first = samples_before(start, 2, values)
        folder.clean(start, first)
        try:
            run(task, folder, start, values=values, train=batches(start=first // 2))
        except Preempted:
            assert steps < 100
        start = folder.newest().number
    timeless = [
        [{**row, "images_per_second": 0, "data_wait": 0} for row in rows(each)] for each in (folder, whole)
    ]
    assert timeless[0] == timeless[1]
    assert diverged(folder) == diverged(whole)
    assert folder.newest().values == whole.newest().values
    assert folder.newest().tensors["model"]["one.weight"] == whole.newest().tensors["model"]["one.weight"]


def files(folder):
    return {path: path.read_bytes() for path in folder.state.rglob("*.*") if path.is_file()}


def join_saving():
    [thread.join() for thread in threading.enumerate() if thread.name == "save"]


def full(*arguments, **keywords):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_saves_that_the_disk_refuses_do_not_let_a_run_diverge_for_ever(folder, monkeypatch):
    task = Counting()
    task.loop = tiny.loop(steps=99, batch_size=2, save_every=2)
    task.bad = lambda step, sample: step >= 4
    task.during["train 0"] = lambda: monkeypatch.setattr(os, "rename", full)
    with pytest.raises(DivergedError, match="going back to step 0 and on with other images did not help 3 "):
        run(task, folder)
    assert task.calls.count("train 0") == 4


def test_a_save_that_the_disk_refused_is_not_told_to_be_there(folder, monkeypatch):
    task = Counting(save_every=2)
    task.bad = lambda step, sample: step == 3
    task.during["train 0"] = lambda: monkeypatch.setattr(os, "rename", full)
    task.during["train 2"] = join_saving
    task.during["train 3"] = interrupt
    with pytest.raises(Preempted, match="stopped at step 4 of 6; everything up to step 0 is saved in"):
        run(task, folder)


@pytest.mark.parametrize("again", [True, False])
def test_a_full_disk_costs_a_warning_and_only_at_the_end_the_run(folder, monkeypatch, caplog, again):
    task, before = Counting(save_every=2, log_every=1), {}

    def disk_fills_up():
        before.update(files(folder))
        monkeypatch.setattr(os, "replace", full)
        monkeypatch.setattr(os, "rename", full)

    def there_is_room():
        join_saving()
        assert files(folder) == before
        if again:
            monkeypatch.undo()

    task.during["train 0"] = disk_fills_up
    task.during["train 5"] = there_is_room
    if again:
        run(task, folder)
        assert folder.numbers() == [0, STEPS]
    else:
        with pytest.raises(OutputError, match=r"cannot write .* no space left on device"):
            run(task, folder)
        assert files(folder) == before
    told = [message for message in caplog.messages if "nothing was saved: cannot write" in message]
    assert len(told) == 2
    assert told[0].endswith("no space left on device; the next save tries again")
    assert [row["step"] for row in rows(folder)] == list(range(1, STEPS + 1))


def test_a_step_is_not_saved_without_its_rows_which_are_written_when_there_is_room(
    folder, monkeypatch, caplog
):
    task = Counting(save_every=2, log_every=1)
    real = Path.open

    def refusing(path, mode="r", *arguments, **keywords):
        if path != folder.metrics or mode != "a":
            return real(path, mode, *arguments, **keywords)
        with real(path, mode) as file:
            file.write('{"half a')
        full()

    def there_is_room():
        assert folder.metrics.read_text() == ""
        monkeypatch.undo()

    task.during["train 0"] = lambda: monkeypatch.setattr(Path, "open", refusing)
    task.during["train 4"] = there_is_room
    run(task, folder)
    assert [row["step"] for row in rows(folder)] == list(range(1, STEPS + 1))
    assert folder.numbers() == [0, 6]
    assert [message.rsplit(";")[1] for message in caplog.messages] == [
        " the next line tries again",
        " the next save tries again",
        " the next save tries again",
    ]


def test_what_is_saved_is_the_state_of_one_step_whatever_happens_meanwhile(folder):
    task, later = Counting(save_every=2), threading.Event()
    task.during["export 2"] = lambda: later.wait(60)
    task.during["train 3"] = later.set
    saved = []
    task.during["train 5"] = lambda: saved.append(folder.newest())
    run(task, folder)
    assert task.calls.index("train 3") < task.calls.index("export 4")
    assert (saved[0].number, saved[0].tensors["model"]["one.weight"].item()) in ((2, 2.0), (4, 4.0))
    steps = [read_tensors(folder.state / f"step-0000000{n}" / "model.safetensors") for n in (2, 4, 6)]
    assert [step["one.weight"].item() for step in steps] == [2.0, 4.0, 6.0]


def test_what_goes_wrong_while_it_is_written_ends_the_run_in_the_next_step(folder):
    task = Counting(save_every=2)
    task.during["export 2"] = lambda: 1 / 0
    task.during["train 2"] = join_saving
    with pytest.raises(ZeroDivisionError):
        run(task, folder)
    assert task.calls[-1] == "train 2"
    assert folder.newest().number == 0


def test_a_second_ctrl_c_does_not_wait_for_what_is_being_written(folder, monkeypatch):
    monkeypatch.setattr(saving, "PATIENCE", 0.01)
    task, ended = Counting(save_every=2), threading.Event()
    task.during["export 2"] = lambda: ended.wait(60)
    task.during["train 2"] = lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        run(task, folder)
    assert folder.newest().number == 0
    ended.set()
    join_saving()
    assert folder.newest().number == 2


def test_the_best_model_stays_also_over_a_resumption(folder):
    scores = [2.0, 3.0, float("nan"), 1.0, 3.0, 4.0]
    task = Counting(evaluate_every=1, save_every=100)
    task.evaluate = lambda batches: {"psnr": scores[len(rows(folder)) if folder.metrics.exists() else 0]}
    task.during["train 4"] = interrupt
    with pytest.raises(Preempted):
        run(task, folder)
    again = Counting(evaluate_every=1, save_every=100)
    again.evaluate = task.evaluate
    run(again, folder, start=5)
    calls = [*task.calls, *again.calls]
    assert [call for call in calls if "best" in call] == ["best 1", "best 2", "best 6"]
    without = Counting(evaluate_every=1, save_every=100, keep_best=False)
    run(without, folder, start=0)
    assert not any("best" in call for call in without.calls)


@pytest.mark.parametrize(
    ("named", "expected"),
    [(True, ["best 2"]), ("ssim", ["best 2", "best 4"]), ("perceptual", ["best 2", "best 6"])],
)
def test_the_best_model_is_that_of_the_number_that_is_named(folder, named, expected):
    scores = iter(
        {"psnr": psnr, "ssim": ssim, "perceptual": distance}
        for psnr, ssim, distance in ((3.0, 0.5, 0.9), (2.0, 0.6, 0.9), (1.0, 0.4, 0.2))
    )
    task = Counting(evaluate_every=2, save_every=100, pictures=0, keep_best=named)
    task.evaluate = lambda batches: next(scores)
    run(task, folder)
    assert [call for call in task.calls if "best" in call] == expected


def test_skipped_files_of_training_and_evaluation_are_recorded_once(folder):
    def skipping(size, limit):
        whole = tiny.batch(limit)
        yield Batch(whole.images, whole.condition, whole.sample, (("c.png", "z"),))

    session = Session(Counting(), folder, Engine("cpu"), {"seed": 0})
    observer = Observer(session, skipping, measured=True, on_progress=None)
    Loop(session, observer).run(batches((("a.png", "x"), ("b.png", "y"))))
    observer.close()
    assert [json.loads(line)["path"] for line in folder.skipped.read_text().splitlines()] == [
        "a.png",
        "b.png",
        "c.png",
    ]


def test_the_time_that_a_run_takes_is_told_once_without_the_step_that_warms_up(folder, monkeypatch, caplog):
    times = (
        [begun, begun + 1, end] for begun, end in ((0, 50), *((100 + 6 * n, 106 + 6 * n) for n in range(5)))
    )
    seconds = itertools.chain.from_iterable(times)
    monkeypatch.setattr("vqgan.training.loop.time.perf_counter", lambda: float(next(seconds)))
    with caplog.at_level("INFO", logger="vqgan"):
        run(Counting(pictures=0, log_every=100), folder)
    assert [message for message in caplog.messages if "a step" in message] == [
        "6 s a step: about 18 seconds more, without pictures"
    ]


def test_a_report_that_fails_costs_no_step(folder, monkeypatch, caplog):
    monkeypatch.setattr("vqgan.training.loop.write_run_report", lambda folder: 1 / 0)
    task = Counting(save_every=100)
    run(task, folder)
    assert folder.newest().number == STEPS
    assert "the run is complete, but not its report: ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    run(task, folder, start=STEPS)
    assert folder.report.is_file()


def test_pictures_that_cannot_be_written_cost_no_step(folder, caplog):
    task = Counting(save_every=100, pictures=2)
    (folder.path / "images").rmdir()
    (folder.path / "images").write_text("mine")
    run(task, folder)
    assert folder.newest().number == STEPS
    assert "no pictures of step 1: cannot write" in caplog.text


def test_one_of_several_processes_evaluates_no_more_images_at_once_than_it_trains_on(folder, monkeypatch):
    sizes = []
    engine = Engine("cpu")
    monkeypatch.setattr(engine, "world", 2)
    session = Session(Counting(pictures=0), folder, engine, {"seed": 0})
    observer = Observer(
        session, lambda size, limit: sizes.append(size) or (), measured=True, on_progress=None
    )
    observer.observe(STEPS, {}, lambda: None)
    observer.close()
    assert sizes == [1]


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_only_sets_a_flag(number):
    with stop_on_signals() as stop:
        stop.poll()
        assert not stop.requested
        send(number)
        assert stop.requested
        with pytest.raises(Interrupted):
            stop.poll()


def test_the_second_ctrl_c_stops_at_once():
    with stop_on_signals():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_launcher_that_passes_one_ctrl_c_on_as_sigterm_is_not_impatient():
    with stop_on_signals() as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            send(number)
        assert stop.requested


def test_a_block_in_a_block_has_the_same_request_and_leaves_the_handlers_to_the_outer_one():
    with stop_on_signals() as outer:
        with stop_on_signals() as inner:
            send(signal.SIGTERM)
        assert inner is outer
        assert signal.getsignal(signal.SIGTERM) is outer
        assert outer.requested
    assert signal.getsignal(signal.SIGTERM) is not outer


def test_a_run_that_was_asked_to_stop_before_its_first_step_takes_none_and_a_complete_one_needs_none(folder):
    task = Counting()
    with stop_on_signals():
        interrupt()
        with pytest.raises(Preempted, match="stopped at step 0 of 6; everything is saved in"):
            run(task, folder)
        run(task, folder, start=STEPS)
    assert task.calls == []


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(RuntimeError), stop_on_signals():
        raise RuntimeError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_outside_the_main_thread_nothing_changes():
    seen = []

    def work():
        with stop_on_signals() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGTERM))]
