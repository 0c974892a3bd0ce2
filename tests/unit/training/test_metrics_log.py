"""Rows on the disk, and the trackers that mirror them; Weights & Biases and others are played by doubles."""

import json
import logging
import math
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch.utils import tensorboard

import tiny
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import CheckpointError, ConfigError
from vqgan.runs import train
from vqgan.training.metrics_log import MetricsLog, trackers_of


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.config.write_text("kind: tokenizer\ntraining: {steps: 4}\n")
    return folder


class Told(list):
    """What trackers were told; `full` makes them fail like a full disk."""

    full = False

    def add(self, *what):
        if self.full:
            raise OSError("No space left\non device")
        self.append(what)


class Board:
    """TensorBoard's writer."""

    def __init__(self, path, purge_step=None):
        told.add("purge", purge_step)

    def add_scalar(self, name, value, global_step):
        told.add(name, value, global_step)

    def add_images(self, name, images, global_step, dataformats):
        told.add(name, tuple(images.shape), global_step, dataformats)

    def flush(self):
        pass

    def close(self):
        told.add("close")


told = Told()


@pytest.fixture(autouse=True)
def _board(monkeypatch):
    told.clear()
    told.full = False
    monkeypatch.setattr(tensorboard, "SummaryWriter", Board)


@pytest.fixture
def wandb(monkeypatch):
    """A double of Weights & Biases, whose user is logged in."""

    def init(**options):
        options["settings"] = options["settings"].values
        told.add("init", options)
        run = {"id": options["id"] or "new", "log": lambda values, step: told.add(values, step)}
        return SimpleNamespace(**run, finish=lambda: told.add("finish"))

    parts = {
        "setup": lambda: SimpleNamespace(settings=SimpleNamespace(mode="online")),
        "login": lambda prompt, verify: bool(prompt or not verify),
        "Settings": lambda **values: SimpleNamespace(values=values),
        "Image": lambda image: ("image", image.shape),
        "config": SimpleNamespace(update=lambda values, allow_val_change: told.add("config", values)),
        "init": init,
    }
    return double(monkeypatch, "wandb", **parts)


def double(monkeypatch, name, **parts):
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(parts)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def rows(folder):
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def test_rows_are_appended_and_mirrored(folder):
    for start in (0, 2):
        told.clear()
        log = MetricsLog(folder, start)
        log.row(start + 1, {"loss": 0.5, "usage": 1.0})
        log.picture(start + 1, "samples", torch.zeros(5, 3, 4))  # three of its channels can be shown
        log.close()
        assert told[0] == ("purge", start + 1)
    assert rows(folder) == [{"step": 1, "loss": 0.5, "usage": 1.0}, {"step": 3, "loss": 0.5, "usage": 1.0}]
    assert told[1:] == [("loss", 0.5, 3), ("usage", 1.0, 3), ("samples", (1, 3, 4, 3), 3, "NHWC"), ("close",)]
    assert not folder.trackers.exists()


def test_numbers_that_are_not_finite_are_written_as_words(folder):
    MetricsLog(folder, 0).row(1, {"loss": math.nan, "psnr": math.inf})
    assert rows(folder) == [{"step": 1, "loss": "nan", "psnr": "inf"}]


def test_a_tracker_that_fails_is_given_up_with_one_warning(folder, caplog):
    log = MetricsLog(folder, 0)
    told.full = True
    for step in (1, 2):
        log.row(step, {"loss": 1.0, "usage": 1.0})
        log.picture(step, "samples", torch.zeros(1, 3, 4))
    log.close()
    assert len(rows(folder)) == 2
    assert caplog.messages == ["nothing more goes to `tensorboard`: No space left on device"]


def test_without_tensorboard_one_line_names_it(folder, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO):
        log = MetricsLog(folder, 0)
    log.row(1, {"loss": 1.0})
    log.close()
    assert caplog.messages == ["no TensorBoard events: install them with `pip install vqgan[log]`"]


def test_real_events_are_written(folder, monkeypatch):
    monkeypatch.undo()
    log = MetricsLog(folder, 0)
    log.row(1, {"loss": 1.0})
    log.picture(1, "samples", torch.zeros(1, 3, 4))
    log.close()
    (events,) = (folder.path / "tensorboard").iterdir()
    assert events.stat().st_size > 200


def test_a_resumed_run_goes_on_in_the_same_run_of_its_tracker(folder, wandb, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    settings = {"console": "off", "finish_timeout": 60}
    wanted = {
        "project": "vqgan",
        "resume": "allow",
        "name": f"{folder.path.parent.name}/run",
        "settings": settings,
    }
    for names, run, config in (
        (["wandb"], None, [("config", {"kind": "tokenizer", "training.steps": 4})]),
        ([], "new", []),
    ):
        told.clear()
        log = MetricsLog(folder, 0, names=names)
        log.row(1, {"loss": 0.5})
        log.picture(1, "growing", torch.zeros(3, 2, 4))
        log.close()
        images = {"growing": [("image", (2, 4, 3))]}
        expected = [("init", {**wanted, "id": run}), *config, ({"loss": 0.5}, 1), (images, 1), ("finish",)]
        assert told == expected
        assert json.loads(folder.trackers.read_text()) == {"wandb": "new"}


def test_nobody_is_asked_for_a_login(folder, wandb, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    wandb.login = lambda prompt, verify: False
    log = MetricsLog(folder, 0, names=["wandb"])
    log.row(1, {"loss": 0.5})
    why = "no login is known: run `wandb login`, or set WANDB_MODE=offline"
    assert caplog.messages == [f"nothing more goes to `wandb`: {why}"]
    assert rows(folder) == [{"step": 1, "loss": 0.5}]
    assert not folder.trackers.exists()
    assert told == []


def test_mlflow_and_aim_are_told_the_same(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    number = SimpleNamespace(experiment_id="1")
    limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
    double(
        monkeypatch,
        "mlflow",
        search_experiments=lambda filter_string: [number],
        start_run=lambda run_id, **_: SimpleNamespace(info=SimpleNamespace(run_id=run_id or "m1")),
        utils=SimpleNamespace(validation=limits),
        log_params=lambda values: told.add("params", values),
        log_metrics=lambda values, step: told.add("mlflow", values, step),
        log_image=lambda pixels, key, step, synchronous: told.add("mlflow", key, pixels.shape, step),
        end_run=lambda: told.add("end"),
    )

    class Run(dict):
        def __init__(self, repo, run_hash, capture_terminal_logs):
            self.hash = run_hash or "a1"

        def track(self, value, name, step):
            told.add("aim", name, value, step)

        def close(self):
            told.add("closed", dict(self))

    double(monkeypatch, "aim", Run=Run, Image=lambda pixels, caption: pixels.shape)
    log = MetricsLog(folder, 0, names=["mlflow", "aim"])
    log.row(1, {"loss": 0.5})
    log.picture(1, "growing", torch.zeros(1, 2, 4))
    log.close()
    config = {"kind": "tokenizer", "training.steps": 4}
    assert told == [
        ("params", config),
        *[("mlflow", {"loss": 0.5}, 1), ("aim", "loss", 0.5, 1)],
        *[("mlflow", "growing", (2, 4, 3), 1), ("aim", "growing", (2, 4, 3), 1)],
        *[("end",), ("closed", {"hparams": config})],
    ]
    assert json.loads(folder.trackers.read_text()) == {"mlflow": "m1", "aim": "a1"}
    assert trackers_of(folder, []) == {"mlflow": "m1", "aim": "a1"}


def test_a_run_shows_how_a_picture_grows_and_goes_on_without_its_flag(tmp_path, wandb, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run, words = tiny.tokenizer_run(steps=1, pictures=2), {"data": (tiny.images(8) + 1) / 2, "device": "cpu"}
    out = train(run, out=tmp_path / "run", log=["wandb"], **words)
    shown = [what[0] for what in told if isinstance(what[0], dict)]
    assert {"growing": [("image", (8, 8, 3))]} in shown
    assert any("heldout_psnr" in values for values in shown)
    told.clear()
    train(None, resume=out, overrides=["training.steps=2"], **words)
    assert told[0][1]["id"] == "new"
    assert [step for *_, step in told[1:-1]] == [2, 2, 2]


@pytest.mark.parametrize(("name", "extra"), [("wandb", "log"), ("mlflow", "mlflow"), ("aim", "aim")])
def test_a_missing_package_is_named_with_its_extra_before_there_is_a_folder(
    tmp_path, monkeypatch, name, extra
):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"`{name}` is not installed") as caught:
        train(tiny.tokenizer_run(), data=tiny.images(8), out=tmp_path / "run", log=[name])
    assert caught.value.hint == f'install the extra `{extra}`: pip install "vqgan[{extra}]"'
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_and_a_damaged_list_of_them_are_errors(folder):
    with pytest.raises(ConfigError, match="unknown tracker `wandbx`") as caught:
        trackers_of(folder, ["wandbx"])
    assert caught.value.hint == "did you mean `wandb`?"
    folder.trackers.write_text('{"wandb": 1}')
    with pytest.raises(CheckpointError, match=r"trackers\.json` is damaged: Expected `str`, got `int`"):
        trackers_of(folder, [])


def test_weights_and_biases_works_offline(folder, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install vqgan[log]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "secret" * 7)
    monkeypatch.setenv("WANDB_SILENT", "true")
    log = MetricsLog(folder, 0, names=["wandb"])
    for step in (1, 2):
        log.row(step, {"loss": 0.5})
        log.picture(step, "growing", torch.zeros(3, 2, 4))
    log.close()
    (run,) = tmp_path.glob("wandb/offline-run-*")
    assert run.name.endswith(json.loads(folder.trackers.read_text())["wandb"])
    assert len([*run.glob("files/media/images/growing_*.png")]) == 2
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"secretsecret" in path.read_bytes() for path in files)
    assert "secret" in os.environ["WANDB_API_KEY"]
