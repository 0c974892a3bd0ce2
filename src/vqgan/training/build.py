"""From a run's configuration to the task that the loop drives."""

import logging
from pathlib import Path

import msgspec
import torch

from vqgan.checkpoints.format import load_model, read_training
from vqgan.checkpoints.load import find_file
from vqgan.checkpoints.perceptual import load_perceptual
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.conditioning import ClassLabelConfig, ConditionerConfig, build_conditioner
from vqgan.errors import CheckpointError, ConfigError, DataError
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.lpips import LPIPS
from vqgan.prior import PriorConfig
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import Tokenizer
from vqgan.training.engine import Engine
from vqgan.training.prior_task import PriorTask
from vqgan.training.run import PriorRun, TokenizerRun
from vqgan.training.tokenizer_task import TokenizerTask, TokenizerTaskConfig

logger = logging.getLogger(__name__)


def build_tokenizer_task(
    run: TokenizerRun, engine: Engine, *, seed: int, start_from: str | Path | None
) -> tuple[TokenizerRun, TokenizerTask]:
    """The task of a tokenizer's run, with fresh weights from the seed or those of ``start_from``.

    Returns:
        The run (its model is that of the file it starts from) and the task.

    Raises:
        CheckpointError: If the file does not hold a tokenizer.
    """
    torch.manual_seed(seed)
    file = find_file(Path(start_from)) if start_from is not None else None
    if file is None:
        tokenizer = Tokenizer(run.tokenizer)
    else:
        tokenizer = load_tokenizer(file)
        if tokenizer.config != run.tokenizer:
            logger.info("the model is that of `%s`, not that of the run's configuration", file)
        run = msgspec.structs.replace(run, tokenizer=tokenizer.config)
    task = TokenizerTask(
        tokenizer.to(engine.device),
        run.task,
        loop=run.training,
        engine=engine,
        seed=seed,
        judges=(_discriminator(run, engine, file), _perceptual(run.task, engine, file)),
    )
    return run, task


def _discriminator(run: TokenizerRun, engine: Engine, file: Path | None) -> PatchDiscriminator | None:
    adversary = run.task.adversary
    if adversary is None:
        return None
    network = PatchDiscriminator(
        image_channels=run.tokenizer.autoencoder.image_channels,
        base_channels=adversary.base_channels,
        num_layers=adversary.num_layers,
    )
    if file is not None:
        stored = _stored_discriminator(file)
        if stored:
            try:
                network.load_state_dict(stored, strict=True)
            except RuntimeError:
                raise CheckpointError(
                    f"the discriminator of `{file}` has other sizes than `task.adversary`",
                    hint="give its sizes, or train a new one from a file without it",
                ) from None
    return network.to(engine.device)


def _stored_discriminator(file: Path) -> dict[str, torch.Tensor]:
    """The discriminator that travels in a file, or else stands in the newest step of the file's run."""
    stored = read_training(file, "discriminator")
    folder = RunFolder(file.parent)
    if not stored and folder.numbers():
        model = folder.newest().tensors["model"]
        prefix = "discriminator."
        stored = {key.removeprefix(prefix): t for key, t in model.items() if key.startswith(prefix)}
    return stored


def _perceptual(config: TokenizerTaskConfig, engine: Engine, file: Path | None) -> LPIPS | None:
    if config.perceptual is None:
        return None
    stored = read_training(file, "perceptual") if file is not None else {}
    if stored:
        network = LPIPS()
        network.load_state_dict(stored, strict=True)
    else:
        network = load_perceptual(config.perceptual.weights)
    return network.to(engine.device)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a file or run folder, on the CPU.

    Raises:
        CheckpointError: If there is none, or the file holds a whole synthesizer.
    """
    file = find_file(Path(path))
    model, header = load_model(file)
    if not isinstance(model, Tokenizer):
        raise CheckpointError(
            f"`{file}` holds a {header.kind}, expected a tokenizer",
            hint="give the tokenizer's own file or run",
        )
    return model


def build_prior_task(
    run: PriorRun,
    engine: Engine,
    *,
    seed: int,
    tokenizer: str | Path | None,
    start_from: str | Path | None,
    class_names: tuple[str, ...],
) -> tuple[PriorRun, PriorTask]:
    """The task of a prior's run, with fresh weights from the seed or those of ``start_from``.

    Returns:
        The run (with the classes of the data filled in) and the task.

    Raises:
        ConfigError: If neither a tokenizer nor a synthesizer to start from is given.
        CheckpointError: If a file holds something else than is needed.
        DataError: If the condition is a class and the images have none.
    """
    torch.manual_seed(seed)
    if start_from is not None:
        synthesizer = _start_synthesizer(run, start_from, tokenizer)
    elif tokenizer is None:
        raise ConfigError("a prior is trained on a tokenizer's codes", hint="give `--tokenizer FILE|RUN`")
    else:
        codes = load_tokenizer(tokenizer)
        run = msgspec.structs.replace(run, conditioner=_with_classes(run.conditioner, class_names))
        config = synthesizer_config(run, codes)
        synthesizer = Synthesizer(config)
        synthesizer.tokenizer.load_state_dict(codes.state_dict(), strict=True)
    return run, _prior_task(run, engine, seed, synthesizer)


def resume_prior_task(run: PriorRun, engine: Engine, *, seed: int, folder: RunFolder) -> PriorTask:
    """The task of a prior's run that continues: its file holds everything but what training changes."""
    return _prior_task(run, engine, seed, _synthesizer(folder.weights("prior")))


def _prior_task(run: PriorRun, engine: Engine, seed: int, synthesizer: Synthesizer) -> PriorTask:
    return PriorTask(synthesizer.to(engine.device), run.task, loop=run.training, engine=engine, seed=seed)


def _start_synthesizer(run: PriorRun, start_from: str | Path, tokenizer: str | Path | None) -> Synthesizer:
    if tokenizer is not None:
        raise ConfigError(
            "a prior that starts from a file brings its tokenizer along", hint="leave `--tokenizer` away"
        )
    synthesizer = _synthesizer(find_file(Path(start_from)))
    expected = synthesizer.tokenizer.grid_size(run.data.image_size)
    if expected != synthesizer.config.window:
        raise ConfigError(
            f"images of {run.data.image_size} have a token grid of {expected}, the prior reads "
            f"{synthesizer.config.window}",
            hint="set `data.image_size` to the size that the prior was trained on",
        )
    return synthesizer


def _synthesizer(file: Path) -> Synthesizer:
    model, header = load_model(file)
    if not isinstance(model, Synthesizer):
        raise CheckpointError(
            f"`{file}` holds a {header.kind}, expected a prior", hint="give a prior's file or run"
        )
    return model


def _with_classes(config: ConditionerConfig, names: tuple[str, ...]) -> ConditionerConfig:
    if not isinstance(config, ClassLabelConfig):
        return config
    if not names:
        raise DataError(
            "the condition is a class, but the images have none",
            hint="put the images of each class into a sub-folder",
        )
    if config.class_names and config.class_names != names:
        raise DataError(f"the images have the classes {names}, the run names {config.class_names}")
    return ClassLabelConfig(num_classes=len(names), class_names=names)


def synthesizer_config(run: PriorRun, tokenizer: Tokenizer) -> SynthesizerConfig:
    """The complete configuration of the model that a prior's run trains on this tokenizer."""
    window = tokenizer.grid_size(run.data.image_size)
    conditioner = build_conditioner(run.conditioner)
    prior = PriorConfig(
        codebook_size=tokenizer.codebook_size,
        condition_size=conditioner.vocabulary_size,
        context_length=conditioner.num_tokens(window) + window[0] * window[1] - 1,
        depth=run.prior.depth,
        width=run.prior.width,
        num_heads=run.prior.num_heads,
        dropout=run.prior.dropout,
        vocabulary=run.prior.vocabulary,
    )
    return SynthesizerConfig(
        tokenizer=tokenizer.config, conditioner=run.conditioner, prior=prior, window=window
    )
