"""From a request (preset < YAML < overrides) to a trained run folder."""

import logging
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vqgan.checkpoints.original_config import is_original
from vqgan.checkpoints.renamed import with_new_names
from vqgan.checkpoints.run_folder import RunFolder, Stage
from vqgan.conditioning import CoordinatesConfig, parts_of
from vqgan.config import dump_yaml, merge, parse_overrides, read_yaml, to_mapping, value_at
from vqgan.data import Data, source_of
from vqgan.data.codes import CodesSource
from vqgan.data.conditions import Classes, ConditionKind
from vqgan.data.given import MemoryConfig
from vqgan.data.loader import candidates, check_maps, check_source, evaluation_batches, training_batches
from vqgan.data.source import Source
from vqgan.errors import ConfigError, require
from vqgan.output_files import write_json, write_text
from vqgan.presets import find_preset, shortened
from vqgan.presets.original import original_run
from vqgan.stopping import Interrupted, stop_on_signals
from vqgan.tokenizer import Tokenizer
from vqgan.training.build import build_task, load_tokenizer
from vqgan.training.cached_codes import CachedCodes, check_pictures
from vqgan.training.conditions import conditioned, kinds_of, previous_frames
from vqgan.training.encoding import check_codes
from vqgan.training.engine import Engine, is_restarted
from vqgan.training.loop import COURSE, UNFINISHED, Loop, samples_before
from vqgan.training.metrics_log import trackers_of
from vqgan.training.observer import Heldout, Observer
from vqgan.training.prior_task import PriorTask
from vqgan.training.run import (
    ClassifierRun,
    Given,
    PriorRun,
    Run,
    open_sources,
    read_run,
    refuse_changes,
    refuse_other,
    run_from_mapping,
)
from vqgan.training.task import Session
from vqgan.types import OnProgress, Progress
from vqgan.version import __version__

__all__ = ["Data", "read_run", "resolve", "train"]
logger = logging.getLogger(__name__)

_Compute = tuple[str, str | None, int | None]
"""Device, precision, seed."""

_Prepared = tuple[Run, tuple[Source, Source], Session]
"""The resolved run, its images (trained on, held out), and what the loop needs."""


class _First(NamedTuple):
    """Files that a new run begins with; conditions and their tokenizers by name."""

    tokenizer: str | Path | None
    start_from: str | Path | None
    conditions: Mapping[str, str | Path] | None
    condition_tokenizers: Mapping[str, str | Path] | None


def train(
    run: str | Path | Run | None,
    *,
    data: Data = None,
    eval_data: Data = None,
    out: str | Path | None = None,
    tokenizer: str | Path | None = None,
    conditions: Mapping[str, str | Path] | None = None,
    condition_tokenizers: Mapping[str, str | Path] | None = None,
    start_from: str | Path | None = None,
    resume: str | Path | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    precision: str | None = None,
    seed: int | None = None,
    on_progress: OnProgress | None = None,
    stage: Stage | None = None,
    log: Sequence[str] = (),
) -> Path:
    """Trains a tokenizer, a prior, a classifier or a denoiser, or continues a run.

    Args:
        run: A preset's name, a YAML file, ours or the original's, or a run itself; None when resuming.
        data: Where the images come from: a folder, a text file of paths, ``"digits"``, ``"codes:FOLDER"``, ...; or a
            list of paths, a uint8 array (n H W c), or a list or ``Dataset`` of images or (image, class): PIL
            pictures, arrays (H W c) or tensors (c H W) of uint8, uint16 or floats in [0, 1]; (image, caption) likewise.
        eval_data: Held-out images, as ``data``; by default a fixed part of it.
        out: The run's folder, new or empty; or ``resume``, but not both. A launcher that starts again continues it.
        tokenizer: For a prior: the trained tokenizer (a file or a run folder).
        conditions: For a prior: where conditions lie beside the images, by name: ``class`` and ``text`` in tables,
            ``layout`` and ``pose`` in JSON like COCO's, others in folders; data sets: ``""``; classifiers: ``class``.
        condition_tokenizers: Trained tokenizers of such maps; without one, a map shares that of the images.
        start_from: Begin with the weights of this file or run.
        resume: A run folder to continue; everything but ``data`` given as images is taken from it.
        overrides: Changes of the run's configuration, ``"training.steps=100"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
        precision: ``"fp32"`` (the default of a new run), ``"bf16"``, ``"fp16"``, ``"auto"``, or ``"tf32"`` (NVIDIA).
        seed: Of initial weights, data order, augmentation and corruption; 0 by default.
        on_progress: Called after every step, and for every variant of a picture that ``data.cached_codes`` encodes.
        stage: ``"tokenizer"``, ``"prior"``, ``"classifier"`` or ``"denoiser"``, to refuse a run of another stage.
        log: Trackers beside TensorBoard: ``"wandb"``, ``"mlflow"``, ``"aim"``; a resumed run keeps its own.

    Returns:
        The run's folder; it holds ``tokenizer.safetensors``, or that of the other stage.

    Raises:
        VqganError: ConfigError, DataError, CheckpointError of the request; DivergedError; OutputError; Preempted.
    """
    given, compute = (source_of(data), source_of(eval_data)), (device, precision, seed)
    first = _First(tokenizer, start_from, conditions, condition_tokenizers)
    with stop_on_signals(), closing(_folder(out, resume, log)) as folder:
        if resume is not None or (is_restarted() and folder.numbers()):
            for name, value in ({"run": run, **first._asdict()} if resume else {}).items():
                what = f"`{name}=` is `{value}`, but a resumed run takes everything from its folder"
                require(not value, what, hint=_BEGIN_ANEW)
            return _train(_continue(folder, given, overrides, compute, stage), on_progress, log)
        settings = resolve(run, overrides, data=given[0], eval_data=given[1], conditions=conditions)
        _require_stage(settings, stage, run)
        refuse_other(settings, start_from, overrides)
        return _train(_begin(folder, settings, given, first, compute, run), on_progress, log)


def _folder(out: str | Path | None, resume: str | Path | None, log: Sequence[str]) -> RunFolder:
    require((out is None) != (resume is None), "expected exactly one of `out=` and `resume=`", hint=_BEGIN)
    folder = RunFolder(Path(resume or out or ""))
    trackers_of(folder, log)
    return folder


def _require_stage(run: Run, stage: Stage | None, name: object) -> None:
    kind = run.__struct_config__.tag
    require(stage in (None, kind), f"`{name}` trains a {kind}", hint=f"use `vqgan train {kind}`")


_BEGIN = 'begin a run with `out="RUN"`, or continue one with `resume="RUN"`'
_BEGIN_ANEW = 'omit it, or begin a new run with `out="NEW"` and `start_from="RUN"`'


def _train(prepared: _Prepared, on_progress: OnProgress | None, log: Sequence[str]) -> Path:
    """Trains to the last step; gives the folder."""
    settings, (images, heldout), session = prepared
    data, training, engine, values = settings.data, settings.training, session.engine, session.values
    # Held-out images that are also trained on, because there are no others, are pictured but not measured.
    measured = data.eval_source is not None or values["fingerprint"] != values["heldout_fingerprint"]
    height, width = data.image_size
    classes = f" of {len(images.class_names)} classes" if images.class_names else ""
    logger.info(
        "%s",
        f"{training.steps:,} steps of {training.batch_size} images of {height}x{width} pixels in {engine.precision} "
        f"on {engine.device}: {len(images):,} images{classes}, {len(heldout) if measured else 0:,} held out",
    )
    parts = parts_of(settings.conditioner) if isinstance(settings, PriorRun) else ()
    by_place = any(isinstance(part, CoordinatesConfig) for part in parts)
    task = session.task
    transform = data.transform(task.image_channels, coordinates=by_place, labels=task.num_labels)
    with ExitStack() as stack:
        numbers = {
            "batch_size": training.batch_size // training.accumulate,
            "start": samples_before(session.start, training.batch_size, values),
            "rank": engine.rank,
            "world": engine.world,
        }
        if data.cached_codes and isinstance(session.task, PriorTask):
            codes = CachedCodes(images, session.task.synthesizer.tokenizer, data=data, seed=values["seed"])
            if session.start < training.steps:
                _encode(codes, on_progress if engine.is_main else None)
            batches = codes.batches(coordinates=by_place, **numbers)
        elif isinstance(images, CodesSource):
            batches = images.training_batches(values["seed"], **numbers)
        else:
            seed, workers = values["seed"], data.workers
            batches = training_batches(images, transform, seed=seed, workers=workers, **numbers)
        # Closing the batches ends the processes that read, also where an error keeps them alive.
        stack.enter_context(closing(batches))
        observer = None
        if engine.is_main:
            held_out: Heldout = partial(evaluation_batches, heldout, transform)
            if isinstance(heldout, CodesSource):
                held_out = heldout.evaluation_batches
            label = partial(_label, images, values["seed"])
            rest: dict[str, Any] = {"on_progress": on_progress, "label": label, "log": log}
            observer = Observer(session, held_out, measured=measured, **rest)
            stack.enter_context(closing(observer))
        Loop(session, observer).run(batches)
    return session.folder.path


def _encode(codes: CachedCodes, on_progress: OnProgress | None) -> None:
    """Encodes all pictures, unless the run is asked to stop: then the loop does so before its first step."""
    with stop_on_signals() as stop, suppress(Interrupted):

        def encoded(progress: Progress) -> None:
            if on_progress is not None:
                on_progress(progress)
            stop.poll()

        codes.encode(encoded)


def _label(images: Source, seed: int, sample: int) -> str:
    """The image of a sample, unless it could not be read."""
    return images.label(next(candidates(sample, len(images), seed)))


def _begin(
    folder: RunFolder, settings: Run, given: Given, first: _First, compute: _Compute, name: object
) -> _Prepared:
    device, precision, seed = compute
    engine, seed = Engine(device, precision or "fp32"), seed or 0
    begun = {"run": str(name) if isinstance(name, str | Path) else None, "seed": seed}
    require(0 <= seed < 1 << 63, f"`seed` is {seed}, expected 0 to 2^63 - 1")
    settings.training.share(engine.world)
    files: dict[str, Any] = {"tokenizer": first.tokenizer, "start_from": first.start_from}
    paths, own = first.condition_tokenizers or {}, dict[str, Tokenizer]()
    if isinstance(settings, PriorRun):
        own = {each: load_tokenizer(path) for each, path in paths.items()}
        settings = conditioned(settings, own, **files)
    else:
        kind = settings.__struct_config__.tag
        require(first.tokenizer is None, f"a {kind} is not trained on a tokenizer", hint="omit `tokenizer`")
        what = f"a {kind} is trained without conditions that need a tokenizer"
        require(not paths, what, hint="omit `condition_tokenizers`")
    sources = _sources(settings, given, first.tokenizer or first.start_from)
    settings, task = build_task(settings, engine, sources[0], seed=seed, **files, condition_tokenizers=own)
    check_codes(sources, settings.data, task)
    # Images that cannot be made leave no folder.
    settings.data.transform(task.image_channels, labels=task.num_labels)
    if task.num_labels or settings.data.stretch:
        check_maps(sources[0], task.num_labels)
    else:
        check_source(sources[0], task.image_channels)
    if settings.data.cached_codes and isinstance(task, PriorTask):
        check_pictures(sources[0], task.synthesizer.tokenizer, settings.data)
    values = {"seed": seed, **_fingerprints(sources)}
    if engine.is_main:
        folder.create()
        write_text(folder.config, dump_yaml(settings))
        write_json(folder.environment, {**_environment(engine, sources), **begun, **values})
        if isinstance(settings, PriorRun):
            task.state.export(folder.weights("prior"), 0, task.state.tensors())
        # From here on the run can be resumed, whenever and however it ends.
        folder.commit(0, task.state.tensors(), values)
    engine.barrier()
    return settings, sources, Session(task, folder, engine, values)


def _continue(
    folder: RunFolder,
    given: Given,
    overrides: Sequence[str],
    compute: _Compute,
    stage: Stage | None,
) -> _Prepared:
    recorded, environment = read_run(folder)
    _require_stage(recorded, stage, folder.path)
    settings = resolve(recorded, overrides, data=given[0], eval_data=given[1])
    refuse_changes(recorded, settings)
    device, precision, seed = compute
    for name, value in (("precision", precision), ("seed", seed)):
        require(
            value in (None, "auto", environment[name]),
            f"`{name}=` is {value}, but the run began with {environment[name]}",
            hint=_BEGIN_ANEW,
        )
    engine = Engine(device, environment["precision"])
    if engine.is_main:
        folder.lock()
    # A prior's file holds everything but what training changes.
    start_from = folder.weights("prior") if isinstance(settings, PriorRun) else None
    with ThreadPoolExecutor(1) as beside:  # the step is read and checked while the model is made
        reading = beside.submit(folder.newest)
        settings.training.share(engine.world)
        sources = _sources(settings, given, folder.weights("prior"))
        _, task = build_task(settings, engine, sources[0], seed=environment["seed"], start_from=start_from)
    step, prints = reading.result(), _fingerprints(sources)
    values = {name: step.values[name] for name in ("seed", *prints)} | {COURSE: step.values.get(COURSE, {})}
    for (name, found), which in zip(prints.items(), ("data has", "held-out images have"), strict=True):
        require(
            found == values[name],
            f"the {which} fingerprint {found[:12]}, the run began with {values[name][:12]}",
            hint="resume with the same images; to train on others, begin a new run with `start_from=`",
        )
    task.state.load(step.tensors, where=f"step {step.number} of `{folder.path}`")
    unfinished = step.values.get(UNFINISHED)
    if engine.is_main:
        # The row of an unfinished step is written when that is finished.
        samples = samples_before(step.number, settings.training.batch_size, values)
        folder.clean(step.number if unfinished is None else step.number - 1, samples)
        write_text(folder.config, dump_yaml(settings))
    engine.barrier()
    logger.info("continuing from step %d of %d", step.number, settings.training.steps)
    return settings, sources, Session(task, folder, engine, values, step.number, unfinished)


def _fingerprints(sources: tuple[Source, Source]) -> dict[str, str]:
    return {"fingerprint": sources[0].fingerprint, "heldout_fingerprint": sources[1].fingerprint}


def _sources(settings: Run, given: Given, model: str | Path | None) -> tuple[Source, Source]:
    kinds: dict[str, ConditionKind] = {"class": Classes()} if isinstance(settings, ClassifierRun) else {}
    previous = None
    if isinstance(settings, PriorRun):
        kinds, previous = kinds_of(settings, model), previous_frames(settings)
    return open_sources(settings.data, given, kinds=kinds, previous=previous)


def resolve(
    run: str | Path | Run | None,
    overrides: Sequence[str] = (),
    *,
    data: Data = None,
    eval_data: Data = None,
    conditions: Mapping[str, str | Path] | None = None,
) -> Run:
    """The typed run of a request: preset < YAML < overrides < data, merged as plain mappings and converted once.

    Args:
        run: A preset's name, a YAML file (with ``preset: NAME``, or the original's), or a run itself.
        overrides: Changes, ``"training.steps=100"``.
        data: Where the images come from, in place of the run's source.
        eval_data: Where the held-out images come from, in place of the run's.
        conditions: Where conditions lie beside the images, by name.

    Raises:
        ConfigError: If there is no such preset or file, or a key or value does not fit.
    """
    if run is None:
        raise ConfigError("no run was given", hint="give a preset or a YAML file; `vqgan presets` lists them")
    changes = with_new_names(parse_overrides(overrides))
    if conditions:
        beside = {name: str(path) for name, path in conditions.items()}
        changes = merge(changes, {"data": {"conditions": beside}})
    layers, preset, where = [], None, f"`{run}`"
    if isinstance(run, Run):
        layers, where = [to_mapping(run)], "the run"
    elif Path(run).suffix.lower() in (".yaml", ".yml"):
        file = with_new_names(read_yaml(Path(run)))
        if is_original(file):
            given = {item.partition("=")[0].strip() for item in overrides}
            file = to_mapping(original_run(file, where=where, given=given))
        elif "preset" in file:
            preset = find_preset(str(file.pop("preset")), f" in {where}")
        layers = [file]
    else:
        preset, where = find_preset(str(run)), f"preset `{run}`"
    if preset is not None:
        base = preset.mapping()
        layers = [base, shortened(base, merge(*layers, changes)), *layers]
    sources = {"source": source_of(data), "eval_source": source_of(eval_data)}
    given_data = {
        key: to_mapping(MemoryConfig() if isinstance(each, Source) else each)
        for key, each in sources.items()
        if each is not None
    }
    for key, source in given_data.items():  # `data.source.every=2` without a kind is said of what is given
        told = value_at(changes, f"data.{key}")
        if isinstance(told, Mapping) and "kind" not in told:
            given_data[key] = {**source, **changes["data"].pop(key)}
    if given_data:  # a mistake in a source is one even where another replaces it
        run_from_mapping(merge(*layers, changes), where=where)
    return run_from_mapping(merge(*layers, changes, {"data": given_data}), where=where)


def _environment(engine: Engine, sources: tuple[Source, Source]) -> dict[str, Any]:
    return {
        "vqgan": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(engine.device),
        "processes": engine.world,
        "precision": engine.precision,
        "training_images": len(sources[0]),
        "heldout_images": len(sources[1]),
    }
