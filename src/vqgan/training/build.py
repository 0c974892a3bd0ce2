"""From a run's configuration to the task that the loop drives."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, assert_never

import msgspec
import torch

from vqgan.checkpoints.finding import find_file
from vqgan.checkpoints.foreign import read_foreign, training_networks
from vqgan.checkpoints.format import check_keys, digest_of, kind_of, read_training, shapes_of, tokenizer_of
from vqgan.checkpoints.imagenet import IMAGENET
from vqgan.checkpoints.load import is_own, read_model
from vqgan.checkpoints.perceptual import load_alternative, load_perceptual
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.checkpoints.tensors import below
from vqgan.classifier import Classifier, ClassifierConfig
from vqgan.config import to_mapping
from vqgan.data.label_names import read_label_names
from vqgan.data.source import Source
from vqgan.denoiser import Denoiser, DenoiserConfig
from vqgan.errors import CheckpointError, ConfigError, DataError, require
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.perceptual import check_fits
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer, TokenizerConfig, receptive_field
from vqgan.training.adversary import RECOVERY_STEPS
from vqgan.training.classifier_task import ClassifierTask
from vqgan.training.compiled import compile_networks
from vqgan.training.computed import completed, refuse_cached
from vqgan.training.conditions import check_conditions, take_tokenizers
from vqgan.training.denoiser_task import DenoiserTask
from vqgan.training.engine import Engine
from vqgan.training.losses import Distance
from vqgan.training.prior_task import PriorTask
from vqgan.training.recompute import recompute
from vqgan.training.run import ClassifierRun, DenoiserRun, PriorRun, Run, TokenizerRun, differences, read_run
from vqgan.training.started import started_synthesizer, synthesizer_config, with_classes
from vqgan.training.task import Task
from vqgan.training.tokenizer_task import TokenizerTask, TokenizerTaskConfig

logger = logging.getLogger(__name__)

M = TypeVar("M", Classifier, Denoiser)


def build_task(
    run: Run,
    engine: Engine,
    images: Source,
    *,
    seed: int,
    start_from: str | Path | None,
    tokenizer: str | Path | None = None,
    condition_tokenizers: Mapping[str, Tokenizer] | None = None,
) -> tuple[Run, Task]:
    """The task of a run, and the run with what files and images tell about it; the errors are those of its kind."""
    how: dict[str, Any] = {"seed": seed, "start_from": start_from}
    task: Task
    match run:
        case TokenizerRun():
            run, task = build_tokenizer_task(run, engine, **how)
        case ClassifierRun():
            task = build_classifier_task(run, engine, **how, class_names=images.class_names)
        case DenoiserRun():
            task = build_denoiser_task(run, engine, **how)
        case PriorRun():
            how |= {"tokenizer": tokenizer, "condition_tokenizers": condition_tokenizers}
            run, task = build_prior_task(run, engine, **how, class_names=images.class_names, images=images)
        case _:
            assert_never(run)
    if run.training.compile:
        compile_networks(task.state.modules.values())
    if run.training.recompute:
        recompute(task.state.model)
    return run, task


def build_tokenizer_task(
    run: TokenizerRun, engine: Engine, *, seed: int, start_from: str | Path | None
) -> tuple[TokenizerRun, TokenizerTask]:
    """The task of a tokenizer's run, with fresh weights from the seed or those of ``start_from``.

    Returns:
        The run (its model is that of the file it starts from) and the task.

    Raises:
        CheckpointError: If the file holds no model, or another discriminator than the task's.
        ConfigError: If the images are too small, or do not fit the tokenizer's factor.
    """
    torch.manual_seed(seed)
    file = find_file(Path(start_from)) if start_from is not None else None
    tokenizer = Tokenizer(run.tokenizer) if file is None else load_tokenizer(file)
    if tokenizer.config != run.tokenizer:
        logger.info("the model is that of `%s`, not that of the run's configuration", file)
    tokenizer.config = _with_names(run.task, tokenizer.config)
    stored = _stored_discriminator(file) if file is not None and run.task.discriminator is not None else {}
    task_config = _with_perceptual_path(_with_recovery(run, file, stored), file)
    run = msgspec.structs.replace(run, tokenizer=tokenizer.config, task=task_config)
    tokenizer.grid_size(run.data.image_size)  # images that do not fit are refused before anything is written
    run, perceptual = _perceptual(run, engine)
    task = TokenizerTask(
        tokenizer.to(engine.device),
        run.task,
        loop=run.training,
        engine=engine,
        seed=seed,
        perceptual=perceptual,
    )
    if task.adversary is not None:
        _fit_discriminator(task.adversary.network, run, stored, file)
    return run, task


def _with_names(task: TokenizerTaskConfig, config: TokenizerConfig) -> TokenizerConfig:
    """The tokenizer with the names of its labels, if it has labels and they have no names yet."""
    if not task.is_of_labels or config.label_names:
        return config
    count = config.image_channels
    names = read_label_names(task.label_names, count) if task.label_names else tuple(map(str, range(count)))
    return msgspec.structs.replace(config, label_names=names)


def _with_recovery(
    run: TokenizerRun, file: Path | None, stored: Mapping[str, torch.Tensor]
) -> TokenizerTaskConfig:
    """The task, whose discriminator is trained alone, then joins slowly, where it starts from a file without one."""
    config = run.task.discriminator
    if file is None or stored or config is None or config.recover_steps is not None:
        return run.task
    steps = min(RECOVERY_STEPS, run.training.steps // 4)
    message = "`%s` holds no discriminator: a new one is trained alone first, for at most %d steps, then both"
    logger.info(message, file, steps)
    recovering = {"recover_steps": steps, "ramp_steps": config.ramp_steps or steps}
    config = msgspec.structs.replace(config, start=0, discriminator_start=None, **recovering)
    return msgspec.structs.replace(run.task, discriminator=config)


def _fit_discriminator(
    network: PatchDiscriminator, run: TokenizerRun, stored: Mapping[str, torch.Tensor], file: Path | None
) -> None:
    """Refuses images that are too small for a discriminator, and gives it the weights of ``file``, if it has some."""
    height, width = run.data.image_size
    require(
        min(height, width) >= network.min_side,
        f"images of {height} x {width} pixels are too small for the discriminator: it needs {network.min_side} a side",
        hint="lower `task.discriminator.num_layers`",
    )
    if stored:
        wanted, what = shapes_of(network.state_dict()), "discriminator of `task.discriminator`"
        check_keys(wanted, shapes_of(stored), where=f"the one of `{file}`", what=what)
        network.load_state_dict(stored, strict=True)


def _stored_discriminator(file: Path) -> dict[str, torch.Tensor]:
    """The discriminator in a file, or else in the newest step of the file's run; empty if there is none."""
    stored = _stored(file, "discriminator")
    folder = RunFolder(file.parent)
    if not stored and folder.numbers():
        return below("discriminator.", folder.newest().tensors["model"])
    return stored


def _stored(file: Path, name: str) -> dict[str, torch.Tensor]:
    """The state of a training network in a file, ours or the original's; empty if there is none."""
    if is_own(file):
        return read_training(file, name)
    found = training_networks(read_foreign(file)).get(name)
    return found[1].state_dict() if found is not None else {}


def _with_perceptual_path(task: TokenizerTaskConfig, file: Path | None) -> TokenizerTaskConfig:
    """The task with the absolute path of its perceptual network: the file it starts from, if that holds one."""
    if task.perceptual is None:
        return task
    own = file if file is not None and not task.perceptual.weights and _stored(file, "perceptual") else None
    path = own or task.perceptual.weights
    if path in ("", IMAGENET):
        return task
    perceptual = msgspec.structs.replace(task.perceptual, weights=str(Path(path).expanduser().resolve()))
    return msgspec.structs.replace(task, perceptual=perceptual)


def _perceptual(run: TokenizerRun, engine: Engine) -> tuple[TokenizerRun, Distance | None]:
    """The run with the digest of its perceptual network, and how that compares images."""
    config = run.task.perceptual
    if config is None:
        return run, None
    shape = run.tokenizer.image_channels, *run.data.image_size
    with engine.main_first(), torch.random.fork_rng(devices=()):  # no weight is drawn
        other = load_alternative(config.weights)
        (other.check_fits if isinstance(other, Denoiser) else check_fits)(*shape)
        network = (other or load_perceptual(config.weights)).to(engine.device)
    digest = digest_of(network.state_dict())[:12]
    if config.digest not in ("", digest):
        where = config.weights or "the cache"
        what = f"`{where}` is not the perceptual network that the run began with: its digest is {digest}"
        hint = 'put that one back, or say where it is: `overrides=["task.perceptual.weights=FILE"]`'
        raise CheckpointError(f"{what}, expected {config.digest}", hint=hint)
    task = msgspec.structs.replace(run.task, perceptual=msgspec.structs.replace(config, digest=digest))
    return msgspec.structs.replace(run, task=task), other.distance if other else network


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a file or run folder, on the CPU; of a prior's file, the one that it was trained on."""
    model, _ = read_model(Path(path))
    return tokenizer_of(model, path)


def build_prior_task(
    run: PriorRun,
    engine: Engine,
    *,
    seed: int,
    tokenizer: str | Path | None,
    start_from: str | Path | None,
    class_names: tuple[str, ...],
    images: Source | None = None,
    condition_tokenizers: Mapping[str, Tokenizer] | None = None,
) -> tuple[PriorRun, PriorTask]:
    """The task of a prior's run, with fresh weights from the seed or those of ``start_from``.

    Returns:
        The run (with what ``images`` tell about the condition filled in: classes, colours) and the task.

    Raises:
        ConfigError: If neither a tokenizer nor a synthesizer to start from is given, or ``data.context`` does not fit.
        CheckpointError: If a file holds another kind of model.
        DataError: If the condition is a class and the images have none, or others; or a second picture or a layout that
            the data does not name.
    """
    check_conditions(run)
    names = {**(images.names_of if images else {}), "class": class_names}
    torch.manual_seed(seed)
    file = find_file(Path(start_from)) if start_from is not None else None
    if file is not None:
        what = "a prior that starts from a file brings its tokenizer along"
        require(tokenizer is None, what, hint="omit `tokenizer=`")
        own = condition_tokenizers or {}
        synthesizer = started_synthesizer(run, file, names=names, images=images, seed=seed, tokenizers=own)
    elif tokenizer is None:
        raise ConfigError("a prior is trained on a tokenizer's codes", hint='give `tokenizer="FILE|RUN"`')
    else:
        codes = load_tokenizer(tokenizer)
        require(
            not codes.config.label_names,
            f"the tokenizer of `{tokenizer}` is one of label maps, and a prior draws pictures",
            hint="give the tokenizer of the pictures; that of label maps serves a condition",
        )
        _warn_of_other_size(run, find_file(Path(tokenizer)))
        found = completed(run, codes, images, seed)
        named = msgspec.structs.replace(run, conditioner=with_classes(found, names))
        synthesizer = Synthesizer(synthesizer_config(named, codes))
        synthesizer.tokenizer.load_state_dict(codes.state_dict(), strict=True)
        take_tokenizers(synthesizer.conditioner, condition_tokenizers or {})
    _check_context(run.data.context, synthesizer.tokenizer)
    refuse_cached(synthesizer, run.data)
    config = synthesizer.config
    shape, order = config.prior.shape(), config.token_order
    if (shape, order) != (run.prior, run.token_order):
        logger.info("the model is that of `%s`, not that of the run's configuration", file)
    run = msgspec.structs.replace(run, conditioner=config.conditioner, prior=shape, token_order=order)
    return run, PriorTask(
        synthesizer.to(engine.device), run.task, loop=run.training, engine=engine, seed=seed
    )


def build_classifier_task(
    run: ClassifierRun,
    engine: Engine,
    *,
    seed: int,
    start_from: str | Path | None,
    class_names: tuple[str, ...],
) -> ClassifierTask:
    """The task of a classifier's run, with fresh weights from the seed or those of ``start_from``.

    Raises:
        CheckpointError: If the file holds another model than the run's.
        ConfigError: If the images do not fit the sizes.
        DataError: If the images have fewer than two classes.
    """
    if len(class_names) < 2:
        what = f"a classifier learns classes, but the images have {len(class_names) or 'none'}"
        hint = "put the images of each class into a sub-folder, or give `--condition class=TABLE.csv`"
        raise DataError(what, hint=hint)
    torch.manual_seed(seed)
    config = ClassifierConfig(encoder=run.encoder, image_size=run.data.image_size, class_names=class_names)
    classifier = _started(Classifier(config), start_from)
    return ClassifierTask(classifier.to(engine.device), run.task, loop=run.training, engine=engine)


def build_denoiser_task(
    run: DenoiserRun, engine: Engine, *, seed: int, start_from: str | Path | None
) -> DenoiserTask:
    """The task of a denoiser's run; arguments and errors as of :func:`build_classifier_task`."""
    torch.manual_seed(seed)
    denoiser = Denoiser(DenoiserConfig(encoder=run.encoder))
    denoiser.check_fits(run.encoder.image_channels, *run.data.image_size)
    denoiser = _started(denoiser, start_from).to(engine.device)
    return DenoiserTask(denoiser, run.task, loop=run.training, engine=engine, seed=seed)


def _started(model: M, start_from: str | Path | None) -> M:
    """The model with the weights of a file or run, if one is given, of its own kind, sizes and classes."""
    if start_from is not None:
        stored, header = read_model(Path(start_from))
        changed = {key for key, *_ in differences(to_mapping(model.config), to_mapping(stored.config))}
        other = sorted(changed - {"encoder.dropout"})
        if other:
            kind = kind_of(model.config)
            what = f"other sizes or classes than the run's {kind}: {', '.join(other)}"
            hint = f"give a {kind} of the same sizes and classes"
            raise CheckpointError(f"`{start_from}` holds a {header.kind} with {what}", hint=hint)
        model.load_state_dict(stored.state_dict(), strict=True)
    return model


def _warn_of_other_size(run: PriorRun, tokenizer: Path) -> None:
    """Logs that a tokenizer in a run folder was trained on images of another size than the prior's are."""
    folder = RunFolder(tokenizer.parent)
    if not folder.config.is_file() or not folder.environment.is_file():
        return
    (height, width), ours = read_run(folder)[0].data.image_size, run.data.image_size
    if (height, width) != ours:
        logger.warning(
            "the tokenizer was trained on images of %dx%d pixels, this prior is on %dx%d; give "
            "`--image-size %dx%d` for the same",
            *(height, width, *ours, height, width),
        )


def _check_context(context: int, tokenizer: Tokenizer) -> None:
    """Refuses a context that is not made of whole cells; logs how much of what the tokenizer sees it is."""
    factor = tokenizer.downsample_factor
    require(
        context % factor == 0,
        f"`data.context` is {context}, expected a multiple of the tokenizer's downsample factor {factor}",
        hint=f"the next are {context // factor * factor} and {-(-context // factor) * factor}",
    )
    if context:
        reach = receptive_field(tokenizer.config.autoencoder)
        logger.info(
            "crops come with %d pixels of context; the tokenizer's convolutions see %d", context, reach
        )
