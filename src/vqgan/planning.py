"""What a training needs on each device, predicted from its configuration: nothing is trained, no weights are made."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from msgspec.structs import replace
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vqgan.checkpoints.format import WithoutRandomNumbers, tokenizer_of
from vqgan.checkpoints.load import find_header
from vqgan.checkpoints.perceptual import load_alternative
from vqgan.denoiser import Denoiser
from vqgan.errors import ConfigError, require
from vqgan.nn.efficientnet_lite import EfficientNetLite
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.presets import PRESETS
from vqgan.runs import resolve
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer, TokenizerConfig
from vqgan.training.build import build_classifier_task, build_denoiser_task, build_tokenizer_task
from vqgan.training.census import Census
from vqgan.training.classifier_task import ClassifierTask
from vqgan.training.computed import completed
from vqgan.training.denoiser_task import DenoiserTask
from vqgan.training.engine import Engine
from vqgan.training.prior_task import PriorTask
from vqgan.training.recompute import recompute
from vqgan.training.run import DenoiserRun, PriorRun, Run, TokenizerRun
from vqgan.training.started import synthesizer_config
from vqgan.training.tokenizer_task import TokenizerTask
from vqgan.types import Batch, ConditionTokens

_Task = TokenizerTask | PriorTask | ClassifierTask | DenoiserTask


@dataclass(frozen=True)
class Plan:
    """What a training needs on each device, most of it as :class:`~vqgan.training.census.Census` counts it.

    Attributes:
        run: Its configuration.
        parameters: How many each network has, also those that are not trained.
        flops: Of a step, forward and backward.
        largest: The most bytes of each part of the memory, in a step.
        peak: Bytes by part when all together are most, beside what Python, PyTorch and drivers take.
        memory: Bytes that a device has; None where that is unknown.
        seconds: Of a step, without waiting for images and for other devices; None where it does not fit.
    """

    run: Run
    parameters: Mapping[str, int]
    flops: int
    largest: Mapping[str, int]
    peak: Mapping[str, int]
    memory: int | None
    seconds: float | None


def plan(
    run: str | Path | Run | None,
    *,
    tokenizer: str | Path | None = None,
    overrides: Sequence[str] = (),
    devices: int = 1,
    memory: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
) -> Plan:
    """Predicts what a training needs on each device: parameters, operations, memory by part, seconds of a step.

    Steps of the real task run on tensors without values, and what they keep and compute is counted. The time is that of
    their operations, each different one measured by itself on this machine.

    Args:
        run: A preset's name, a YAML file, ours or the original's, or a run itself.
        tokenizer: For a prior: a trained tokenizer's file or run folder, or a tokenizer's preset or YAML file; by
            default the preset of the same family.
        overrides: Changes of the run's configuration, ``"training.recompute=true"``.
        devices: How many devices share each batch.
        memory: Bytes of a device; by default what this one has.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``; it must be there.
        precision: As for :func:`vqgan.train`.

    Raises:
        ConfigError: If the configuration does not fit, or the batch cannot be divided.
    """
    require(devices >= 1, f"`devices` is {devices}, expected at least 1")
    require(memory is None or memory >= 1, f"`memory` is {memory} bytes, expected a positive number")
    settings, engine = resolve(run, overrides), Engine(device, precision)
    require(engine.world == 1, "a plan is made in one process", hint="start it without a launcher")
    given = _given(run, settings, tokenizer)
    what = "`training.shard` is true, but a plan counts whole weights"
    hint = "set it to false, and divide weights, gradients and moments by the devices"
    require(devices == 1 or not settings.training.shard, what, hint=hint)
    census, loop, fake = Census(engine.device), settings.training, FakeTensorMode(allow_non_fake_inputs=True)
    share, limit = loop.share(devices), memory or _memory_of(engine.device)
    with torch.random.fork_rng([]), _beside_others(devices, engine), fake, census:
        with _made_there(engine.device):
            task, networks = _task(settings, engine, given)
        batches = [_batch(settings, task, engine, share) for _ in range(loop.accumulate)]
        step = max(1, loop.steps - 1)  # near the end, everything is trained that is
        _follow(census, task, networks, batches, step)
        census.begin()
        task.train_step(batches, step)
        fits = limit is None or census.peak.total() <= limit
        if fits:
            census.begin(is_timed=True)
            task.train_step(batches, step)
    counts = {name: sum(each.numel() for each in part.parameters()) for name, part in networks.items()}
    found = census.flops, census.largest, census.peak, limit, census.seconds if fits else None
    return Plan(settings, {name: count for name, count in counts.items() if count}, *found)


def _given(
    run: str | Path | Run | None, settings: Run, tokenizer: str | Path | None
) -> TokenizerConfig | Denoiser | EfficientNetLite | None:
    """What a prior's tokenizer is, or the network by which a tokenizer's images are compared, if not LPIPS."""
    if isinstance(settings, PriorRun):
        return _tokenizer_of(run, tokenizer)
    require(tokenizer is None, "only a prior has a tokenizer", hint="omit `tokenizer=`")
    if isinstance(settings, TokenizerRun) and settings.task.perceptual is not None:
        return load_alternative(settings.task.perceptual.weights)
    return None


def _tokenizer_of(run: str | Path | Run | None, given: str | Path | None) -> TokenizerConfig:
    """What the tokenizer of a prior's run is."""
    if given is None and (family := f"{str(run).removesuffix('-prior')}-tokenizer") in PRESETS:
        given = family
    if given is None:
        hint = 'give `tokenizer="FILE|RUN|PRESET"`'
        raise ConfigError("a prior is trained on a tokenizer's codes", hint=hint)
    if str(given) not in PRESETS and Path(given).suffix.lower() not in (".yaml", ".yml"):
        return tokenizer_of(find_header(Path(given))[-1], given).config
    settings = resolve(given)
    if not isinstance(settings, TokenizerRun):
        raise ConfigError(f"`{given}` trains a {settings.__struct_config__.tag}, expected a tokenizer")
    return settings.tokenizer


def _memory_of(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None


@contextmanager
def _made_there(device: torch.device) -> Iterator[None]:
    """Networks are made on the device: PyTorch cannot move those without values."""
    move, nn.Module.to = nn.Module.to, lambda network, *where: network  # type: ignore[method-assign]
    try:
        with device, WithoutRandomNumbers():
            yield
    finally:
        nn.Module.to = move  # type: ignore[method-assign]


@contextmanager
def _beside_others(devices: int, engine: Engine) -> Iterator[None]:
    """As the first of so many processes, without the others."""
    if devices == 1:
        yield
        return
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=devices, store=FakeStore())
    engine.world = devices
    try:
        yield
    finally:
        dist.destroy_process_group()


def _task(
    run: Run, engine: Engine, given: TokenizerConfig | Denoiser | EfficientNetLite | None
) -> tuple[_Task, dict[str, nn.Module]]:
    """The task of a run, and all networks that have a part in it."""
    task: _Task
    others: dict[str, nn.Module] = {}
    if isinstance(run, TokenizerRun):
        plain = replace(run, task=replace(run.task, perceptual=None))
        _, task = build_tokenizer_task(plain, engine, seed=0, start_from=None)
        if run.task.perceptual is not None:  # without the weights of LPIPS, which may have to be downloaded
            network = PerceptualNetwork() if given is None or isinstance(given, TokenizerConfig) else given
            task.perceptual = network if isinstance(network, PerceptualNetwork) else network.distance
            others["perceptual"] = network
            task.config = run.task
        if task.adversary is not None:  # the discriminator has been alone long enough
            task.adversary.memory.pop("counts_from", None)
    elif isinstance(run, PriorRun):
        assert isinstance(given, TokenizerConfig), "every prior has a tokenizer"
        codes = Tokenizer(given)
        run = replace(run, conditioner=completed(run, codes, None, 0))
        synthesizer = Synthesizer(synthesizer_config(run, codes))
        task = PriorTask(synthesizer, run.task, loop=run.training, engine=engine, seed=0)
        conditioner = synthesizer.conditioner
        others = {"tokenizer": synthesizer.tokenizer, "conditioner": conditioner}

        def tokens(condition: object, count: int, grid: tuple[int, int]) -> ConditionTokens:
            return conditioner.null_tokens(count, grid) * 0

        # Tokens stand for any condition: what encodes pictures and texts does not count.
        conditioner.tokens, conditioner.vectors = tokens, lambda condition: None  # type: ignore[method-assign, assignment]
    elif isinstance(run, DenoiserRun):
        task = build_denoiser_task(run, engine, seed=0, start_from=None)
    else:
        names = ("0", "1")  # its data tell how many classes there are
        task = build_classifier_task(run, engine, seed=0, start_from=None, class_names=names)
    if run.training.recompute:
        recompute(task.state.model)
    return task, {**task.state.modules, **others}


def _batch(run: Run, task: _Task, engine: Engine, count: int) -> Batch:
    """A micro-batch, with a value for each condition."""
    sizes = run.data.transform(task.image_channels, labels=task.num_labels).window()
    numbers, indices, corner = torch.arange(count), None, None
    condition = {"class": numbers}
    if isinstance(task, PriorTask):
        condition |= {part.name: numbers for part in task.synthesizer.conditioner.parts}
        corner = numbers[:, None] * torch.tensor([[0, 0]]) if run.data.context else None
        if run.data.cached_codes:
            grid, sizes = task.synthesizer.config.window, (0, 0)
            indices = torch.zeros(count, *grid, dtype=torch.int64, device=engine.device)
    images = torch.zeros(count, task.image_channels, *sizes, device=engine.device)
    return Batch(images, condition, numbers, corner=corner, indices=indices)


def _follow(
    census: Census, task: _Task, networks: Mapping[str, nn.Module], batches: list[Batch], step: int
) -> None:
    """Lets the census know which tensor is what, during a first step, which makes the optimizer's state."""
    weights = [each for network in networks.values() for each in network.parameters()]
    for each in weights:
        if each.requires_grad:
            each.register_post_accumulate_grad_hook(lambda p: census.mark([p.grad], "gradients"))
    if isinstance(task, PriorTask):
        task.prior.head.register_forward_hook(lambda *passed: census.mark([passed[-1]], "logits"))
    task.train_step(batches, step)
    buffers = (each for network in networks.values() for each in network.buffers())
    kept = task.state.tensors()
    census.mark([*weights, *buffers], "weights")
    census.mark(kept["optimizer"].values(), "optimizer")
    census.mark(kept.get("ema", {}).values(), "averages")
    census.mark([each.images if each.indices is None else each.indices for each in batches], "batch")
