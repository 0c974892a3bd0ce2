"""From a request (preset < YAML < overrides) to a trained run folder."""

import json
import logging
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vqgan.checkpoints.files import output_errors, write_json
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import convert, dump_yaml, merge, parse_overrides, read_yaml, to_mapping
from vqgan.data import Source, SourceConfig, open_source, parse_source
from vqgan.data.loader import Loader, evaluation_batches
from vqgan.errors import CheckpointError, ConfigError, closest
from vqgan.presets import PRESETS
from vqgan.training.build import build_prior_task, build_tokenizer_task, resume_prior_task
from vqgan.training.engine import Engine
from vqgan.training.loop import Loop, Task
from vqgan.training.run import PriorRun, Run, TokenizerRun
from vqgan.types import Batch, OnProgress
from vqgan.version import __version__

logger = logging.getLogger(__name__)

Data = str | Path | SourceConfig | None

_MAY_DIFFER = ("data.workers", "data.source", "data.eval_source", "training.steps")
"""What may change on resuming, besides the device; the data's fingerprint must stay, the steps may only grow."""


def train(
    run: str | Path | Run | None,
    *,
    data: Data = None,
    eval_data: Data = None,
    out: str | Path | None = None,
    tokenizer: str | Path | None = None,
    start_from: str | Path | None = None,
    resume: str | Path | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    precision: str = "fp32",
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Path:
    """Trains a tokenizer or a prior, or continues a run.

    Args:
        run: A preset's name, a YAML file, or a ``TokenizerRun`` or ``PriorRun``; None when resuming.
        data: Where the images come from: a folder, a text file of paths, ``"digits"``, ``"atari:GAME"``, ...
        eval_data: Held-out images; by default a fixed part of ``data``.
        out: The run's folder, new or empty; or ``resume``, but not both.
        tokenizer: For a prior: the trained tokenizer (a file or a run folder).
        start_from: Begin with the weights of this file or run in place of random ones.
        resume: A run folder to continue; weights, seed and precision are taken from it.
        overrides: Changes of the run's configuration, ``"training.steps=100"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"auto"``.
        seed: Of initial weights, data order, augmentation and corruption.
        on_progress: Called after every step.

    Returns:
        The run's folder; it holds ``tokenizer.safetensors`` or ``prior.safetensors``.

    Raises:
        VqganError: ConfigError, DataError or CheckpointError if the request cannot be carried out, Preempted
            after a signal (everything is saved), DivergedError, or OutputError if the disk refuses.
    """
    if (out is None) == (resume is None):
        raise ConfigError(
            "expected exactly one of `out` and `resume`", hint="give a new folder, or one to continue"
        )
    if resume is not None:
        prepared = _continue(RunFolder(Path(resume)), data, eval_data, overrides, device)
    else:
        settings = with_data(resolve(run, overrides), data, eval_data)
        prepared = _begin(
            RunFolder(Path(str(out))), settings, tokenizer, start_from, Engine(device, precision), seed
        )
    prepared.loop(on_progress)
    return prepared.folder.path


@dataclass(frozen=True)
class _Prepared:
    """Everything that the loop needs."""

    settings: Run
    task: Task
    folder: RunFolder
    engine: Engine
    train: Source
    heldout: Source
    seed: int
    start: int

    def loop(self, on_progress: OnProgress | None) -> None:
        """Trains from ``start`` to the last step."""
        data, training = self.settings.data, self.settings.training
        channels = self.task.image_channels
        ranks = self.engine.world
        if training.batch_size % (training.accumulate * ranks):
            raise ConfigError(
                f"batch_size {training.batch_size} cannot be shared by {ranks} processes "
                f"with {training.accumulate} micro-batches each",
                hint="make batch_size a multiple of processes times accumulate",
            )
        batches = Loader(
            self.train,
            data.transform(channels, training=True),
            batch_size=training.batch_size // training.accumulate,
            seed=self.seed,
            workers=data.workers,
            start=self.start * training.batch_size,
            rank=self.engine.rank,
            world=ranks,
        )

        def heldout() -> Iterable[Batch]:
            transform = data.transform(channels, training=False)
            size = training.batch_size // training.accumulate
            return evaluation_batches(
                self.heldout, transform, batch_size=size, limit=training.evaluate_images
            )

        loop = Loop(
            task=self.task,
            config=training,
            folder=self.folder,
            engine=self.engine,
            values={"seed": self.seed, "fingerprint": self.train.fingerprint()},
            on_progress=on_progress,
        )
        loop.run(iter(batches), heldout, self.start)


def _begin(
    folder: RunFolder,
    settings: Run,
    tokenizer: str | Path | None,
    start_from: str | Path | None,
    engine: Engine,
    seed: int,
) -> _Prepared:
    if not 0 <= seed < 1 << 63:
        raise ConfigError(f"seed is {seed}, expected 0 to 2^63 - 1")
    train_source, heldout = open_sources(settings)
    task: Task
    if isinstance(settings, TokenizerRun):
        if tokenizer is not None:
            raise ConfigError("a tokenizer is not trained on a tokenizer", hint="leave `tokenizer` away")
        settings, task = build_tokenizer_task(settings, engine, seed=seed, start_from=start_from)
    else:
        settings, task = build_prior_task(
            settings,
            engine,
            seed=seed,
            tokenizer=tokenizer,
            start_from=start_from,
            class_names=train_source.class_names,
        )
    if engine.is_main:
        folder.create()
        with output_errors(folder.config):
            folder.config.write_text(dump_yaml(settings), encoding="utf-8")
        write_json(folder.environment, _environment(engine, seed, train_source, heldout))
        if isinstance(settings, PriorRun):
            task.export(folder, 0)
    engine.barrier()
    return _Prepared(settings, task, folder, engine, train_source, heldout, seed, 0)


def _continue(
    folder: RunFolder, data: Data, eval_data: Data, overrides: Sequence[str], device: str
) -> _Prepared:
    recorded, environment = read_run(folder)
    changed = merge(to_mapping(recorded), parse_overrides(overrides))
    settings = with_data(_convert(changed, where="the resumed run"), data, eval_data)
    _refuse_changes(recorded, settings)
    step = folder.newest()
    engine = Engine(device, environment["precision"])
    train_source, heldout = open_sources(settings)
    if train_source.fingerprint() != step.values["fingerprint"]:
        raise ConfigError(
            f"the data has fingerprint {train_source.fingerprint()[:12]}, the run was trained on "
            f"{step.values['fingerprint'][:12]}",
            hint="resume with the same images; to train on others, begin a new run with `--from`",
        )
    seed = int(step.values["seed"])
    task: Task
    if isinstance(settings, TokenizerRun):
        _, task = build_tokenizer_task(settings, engine, seed=seed, start_from=None)
    else:
        task = resume_prior_task(settings, engine, seed=seed, folder=folder)
    task.state.load(step.tensors)
    if engine.is_main:
        folder.clean(step.number)
        with output_errors(folder.config):
            folder.config.write_text(dump_yaml(settings), encoding="utf-8")
    engine.barrier()
    logger.info("going on from step %d of %d", step.number, settings.training.steps)
    return _Prepared(settings, task, folder, engine, train_source, heldout, seed, step.number)


def resolve(run: str | Path | Run | None, overrides: Sequence[str] = ()) -> Run:
    """The typed run of a preset's name, a YAML file (which may begin with ``preset: NAME``) or a run itself.

    Raises:
        ConfigError: If there is no such preset or file, or a key or value does not fit.
    """
    if run is None:
        raise ConfigError(
            "no run was given", hint="give a preset or a YAML file; `vqgan presets` lists presets"
        )
    if isinstance(run, TokenizerRun | PriorRun):
        base, where = to_mapping(run), "the run"
    elif str(run) in PRESETS:
        base, where = to_mapping(PRESETS[str(run)].make()), f"preset `{run}`"
    elif Path(run).suffix.lower() in (".yaml", ".yml") or Path(run).exists():
        written = read_yaml(Path(run))
        where = f"`{run}`"
        preset = written.pop("preset", None)
        base = merge(_preset(str(preset)), written) if preset is not None else written
    else:
        return _convert(_preset(str(run)), where=str(run))
    return _convert(merge(base, parse_overrides(overrides)), where=where)


def _preset(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        hint = closest(name, PRESETS) + "; `vqgan presets` lists them"
        raise ConfigError(f"unknown preset `{name}`, and no YAML file of that name", hint=hint)
    return to_mapping(PRESETS[name].make())


def _convert(mapping: dict[str, Any], *, where: str) -> Run:
    if "kind" not in mapping:
        raise ConfigError(
            f"{where} has no `kind`", hint="write `kind: tokenizer`, `kind: prior` or `preset: NAME`"
        )
    return convert(mapping, Run, where=where)


def with_data(settings: Run, data: Data, eval_data: Data) -> Run:
    """The run with its sources set, where they are given."""
    changes = {}
    for key, value in (("source", data), ("eval_source", eval_data)):
        if value is not None:
            changes[key] = to_mapping(parse_source(str(value)) if isinstance(value, str | Path) else value)
    return _convert(merge(to_mapping(settings), {"data": changes}), where="the run") if changes else settings


def open_sources(settings: Run) -> tuple[Source, Source]:
    """The training images and the held-out images of a run.

    Raises:
        ConfigError: If the run names no source.
        DataError: If a source cannot be read.
    """
    if settings.data.source is None:
        raise ConfigError("no images were given", hint="give `--data FOLDER`, or `data=` in Python")
    if settings.data.eval_source is None:
        return open_source(settings.data.source, "train"), open_source(settings.data.source, "heldout")
    return open_source(settings.data.source, "all"), open_source(settings.data.eval_source, "all")


def read_run(folder: RunFolder) -> tuple[Run, dict[str, Any]]:
    """The configuration and the environment that a run folder records.

    Raises:
        CheckpointError: If the folder is none of a run.
    """
    if not folder.config.is_file() or not folder.environment.is_file():
        raise CheckpointError(
            f"`{folder.path}` is not a run folder", hint="give the folder that `--out` named"
        )
    environment = json.loads(folder.environment.read_text(encoding="utf-8"))
    return _convert(read_yaml(folder.config), where=f"`{folder.config}`"), environment


def _refuse_changes(recorded: Run, settings: Run) -> None:
    """Raises ConfigError if a resumed run differs in more than it may."""
    old, new = _flat(to_mapping(recorded)), _flat(to_mapping(settings))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key) and not key.startswith(_MAY_DIFFER):
            raise ConfigError(
                f"`{key}` is {new.get(key)}, but the run was begun with {old.get(key)}",
                hint="a resumed run keeps its configuration; begin a new one with `--from`",
            )
    if settings.training.steps < recorded.training.steps:
        raise ConfigError(
            f"`training.steps` is {settings.training.steps}, but the run was begun with {recorded.training.steps}",
            hint="steps may only grow",
        )


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        result |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return result


def _environment(engine: Engine, seed: int, train_source: Source, heldout: Source) -> dict[str, Any]:
    return {
        "vqgan": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(engine.device),
        "processes": engine.world,
        "precision": engine.precision,
        "seed": seed,
        "training_images": len(train_source),
        "heldout_images": len(heldout),
        "fingerprint": train_source.fingerprint(),
    }
