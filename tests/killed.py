"""Trains in processes that are killed, by the signal that cannot be caught, and lets others go on.

    python killed.py points FOLDER          at each of POINTS, by both stages, with and without processes that read
    python killed.py anywhere FOLDER COUNT  one run, COUNT times: half of them while a step is written, else at any time

What they leave lies in FOLDER: the runs that were killed, and the same runs undisturbed.
"""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
import torch._dynamo  # what takes long to import is paid for once, before the processes part

import tiny
from vqgan.checkpoints import run_folder
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import Preempted
from vqgan.runs import train
from vqgan.training import loop, observer
from vqgan.training.optimizers import TrainingState

SETTINGS = {"steps": 5, "save_every": 2, "evaluate_every": 2, "pictures": 1}

POINTS = {
    "first batch": (loop, "to_device", 1),
    "training": (
        TrainingState,
        "update_averages",
        4,
    ),  # the weights are those after the step, the averages are not
    "evaluation": (TrainingState, "averaged", 3),
    "pictures": (observer, "write_pictures", 2),
    "saving": (os, "rename", 3),  # all is written, but not committed
    "saved": (run_folder, "sync", 3),  # committed, but not yet the newest for those who read
}
"""Which function, at which of its calls, by the name of the phase."""

STAGES = ("tokenizer", "prior")
EVERY = 3
"""Steps between two saved ones where the kill comes anywhere."""


def child(work: Callable[[], object]) -> int:
    """A process that does it."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        work()
        code = 0
    except Preempted:
        code = 75
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(number: int) -> int:
    """Its exit code, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def begin(stage: str, folder: Path, out: str, workers: int = 0, **changes: object) -> None:
    """Trains in this process from the start."""
    source = tiny.IdxConfig(path=str(folder / "images"))
    run = {"tokenizer": tiny.tokenizer_run, "prior": tiny.prior_run}[stage](source, **{**SETTINGS, **changes})
    tokenizer = None if stage == "tokenizer" else folder / "tokenizer"
    kept = [f"data.workers={workers}"]
    train(run, out=folder / out, tokenizer=tokenizer, overrides=kept, device="cpu", seed=3)


def go_on(folder: Path, workers: int = 0) -> None:
    """Continues in this process."""
    train(None, resume=folder, overrides=[f"data.workers={workers}"], device="cpu")


def killed_at(point: str, stage: str, folder: Path, out: str, workers: int) -> None:
    """Trains and dies at the point."""
    owner, name, call = POINTS[point]
    real, calls = getattr(owner, name), []

    def deadly(*arguments, **keywords):
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)

    with mock.patch.object(owner, name, deadly):
        begin(stage, folder, out, workers)


def points(folder: Path) -> None:
    """Kills at all of them; who goes on reads with other processes than who was killed."""
    for stage in STAGES:
        assert ended(child(lambda stage=stage: begin(stage, folder, stage))) == 0
        for point in POINTS:
            for workers in (0, 2):
                out = f"{stage} {point} {workers}"
                first = child(lambda a=(point, stage, folder, out, workers): killed_at(*a))
                assert ended(first) == -signal.SIGKILL, out
                assert ended(child(lambda out=out, workers=workers: go_on(folder / out, 2 - workers))) == 0, (
                    out
                )


def anywhere(folder: Path, count: int) -> None:
    """Kills a run again and again; then trains it undisturbed to the step that it has reached."""
    chance, run, newest, inside = random.Random(0), RunFolder(folder / "run"), 0, 0
    endless = {"steps": 1_000_000, "save_every": EVERY, "evaluate_every": 7, "pictures": 0}
    for number in range(count):
        begun = bool(run.numbers())
        trains = child(lambda b=begun: go_on(run.path) if b else begin("tokenizer", folder, "run", **endless))
        size = run.metrics.stat().st_size if run.metrics.exists() else 0
        deadline = time.monotonic() + 60
        while not run.metrics.exists() or run.metrics.stat().st_size < size + 500:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(chance.random() * 0.2)
        while number % 2 and not list(run.state.glob(".tmp-step-*")):
            assert time.monotonic() < deadline
        os.kill(trains, signal.SIGKILL)
        assert ended(trains) == -signal.SIGKILL
        inside += bool(list(run.state.glob(".tmp-step-*")))
        rows = run.metrics.read_text().count("\n")
        found = RunFolder(run.path).newest().number
        # Beside the step that was being written, all are there.
        assert found >= newest, (found, newest)
        assert rows - 2 * EVERY <= found, (rows, found)
        newest = found
    assert inside >= count // 3, inside

    def stop(progress):
        if progress.step == newest + 2:
            os.kill(os.getpid(), signal.SIGTERM)

    overrides = ["data.workers=0"]
    assert (
        ended(
            child(lambda: train(None, resume=run.path, overrides=overrides, device="cpu", on_progress=stop))
        )
        == 75
    )
    source = tiny.IdxConfig(path=str(folder / "images"))
    whole = tiny.tokenizer_run(source, **endless)
    assert (
        ended(child(lambda: train(whole, out=folder / "whole", device="cpu", seed=3, on_progress=stop))) == 75
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.modules["torch.utils.tensorboard"] = None  # type: ignore[assignment]
    os.fsync = lambda handle: None  # nobody cuts the power here
    place = Path(sys.argv[2])
    tiny.data(place / "images")
    points(place) if sys.argv[1] == "points" else anywhere(place, int(sys.argv[3]))
