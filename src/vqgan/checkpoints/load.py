"""``vqgan.load``: any model from any path, decided by content."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import nn

from vqgan.checkpoints.finding import find_file
from vqgan.checkpoints.foreign import read_foreign
from vqgan.checkpoints.format import Header, Model, empty_model, load_model, read_header
from vqgan.checkpoints.tensors import is_safetensors, read_description
from vqgan.errors import ConfigError, closest

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions by the name that users give them."""

PRECISIONS: tuple[str, ...] = (*DTYPES, "auto")

M = TypeVar("M", bound=nn.Module)

_LARGE = 100_000_000
"""Number of parameters above which reading weights limits a CPU, so that half the bytes take half the time."""


def load(
    path: str | Path,
    config: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    device: str = "auto",
    precision: str = "fp32",
) -> Model:
    """Loads a tokenizer, a synthesizer, a classifier or a denoiser, ready for use.

    Args:
        path: A run folder (its prior if there is one, else its tokenizer), a ``.safetensors`` file of ours, an
            original checkpoint or its published folder, a LlamaGen tokenizer, or a folder of diffusers:
            of the tokenizer, or of a pipeline that has one.
        config: The configuration of an original checkpoint; by default the YAML file beside it or in
            ``configs/``, else what can be inferred from its tensors. Our files carry theirs.
        overrides: Changes to the configuration of another program's file: ``["prior.num_heads=16"]``.
        device: ``"auto"`` (CUDA, MPS, CPU in that order), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, or ``"auto"``: see :func:`best_precision`; on the CPU
            fp32 below 100 M parameters.

    Raises:
        CheckpointError: If there is no model at the path, or it is damaged.
        ConfigError: If the device or the precision is unavailable, or ``config`` is not needed.
    """
    model, _ = load_with_header(Path(path), config, overrides, device=device, precision=precision)
    return model


def load_with_header(
    path: Path,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
    precision: str = "fp32",
) -> tuple[Model, Header]:
    """Like :func:`load`, but also returns the header."""
    started = time.perf_counter()
    target = pick_device(device)
    model, header = read_model(path, config, overrides)
    if header.training:
        logger.info("omitted from `%s`, for training only: %s", path, ", ".join(sorted(header.training)))
    model = place(model, target, precision)
    count = sum(parameter.numel() for parameter in model.parameters())
    seconds = time.perf_counter() - started
    name = precision_of(model)
    logger.info(
        "loaded %s: %.1fM parameters, %s, %s (%.1f s)", header.kind, count / 1e6, target, name, seconds
    )
    return model, header


def read_model(
    path: Path, config: str | Path | None = None, overrides: Sequence[str] = ()
) -> tuple[Model, Header]:
    """The model of any file that :func:`load` accepts, on the CPU in fp32, and its header."""
    file = find_file(path)
    if _carries_config(file, config, overrides):
        return load_model(file)
    foreign = read_foreign(file, config, overrides)
    return foreign.model(), foreign.header(hashed=True)


def find_header(
    path: Path, config: str | Path | None = None, overrides: Sequence[str] = ()
) -> tuple[Path, Header, Model]:
    """The file that a path refers to, its header, and its model without weights.

    Weights are neither read nor hashed.
    """
    file = find_file(path)
    if _carries_config(file, config, overrides):
        header = read_header(file)
        return file, header, empty_model(file, header)
    foreign = read_foreign(file, config, overrides)
    return file, foreign.header(), foreign.empty()


def is_own(path: Path) -> bool:
    """Whether a file is one of ours, by its metadata. Raises CheckpointError if it is a damaged safetensors file."""
    return is_safetensors(path) and any(key.startswith("vqgan.") for key in read_description(path)[0])


def _carries_config(file: Path, config: str | Path | None, overrides: Sequence[str]) -> bool:
    """As :func:`is_own`. Raises ConfigError if a configuration, or a change of it, is given for such a file."""
    own = is_own(file)
    if own and (config is not None or overrides):
        raise ConfigError(f"`{file}` carries its own configuration", hint="omit the configuration")
    return own


def place(model: M, device: torch.device, precision: str) -> M:
    """Moves the model to a device, in the precision of a name (see :func:`pick_precision`)."""
    return model.to(device=device, dtype=pick_precision(precision, device, model))


def precision_of(model: nn.Module) -> str:
    """The name of the precision that a model is in."""
    dtype = next(model.parameters()).dtype
    return {dtype: name for name, dtype in DTYPES.items()}[dtype]


def pick_device(name: str) -> torch.device:
    """The device of a name; ``"auto"`` is CUDA, MPS, CPU in that order.

    Raises:
        ConfigError: If the device is unknown or absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        hint = closest(name, ("auto", "cpu", "cuda", "mps"))
        raise ConfigError(f"unknown device `{name}`", hint=hint) from None
    count = torch.cuda.device_count() if device.type == "cuda" else int(torch.backends.mps.is_available())
    if device.type in ("cuda", "mps") and (device.index or 0) >= count:
        raise ConfigError(f"device `{name}` is not available here", hint='use `device="cpu"` or `auto`')
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device `{name}` is not supported", hint="use `cpu`, `cuda`, `mps` or `auto`")
    return device


def best_precision(device: torch.device) -> Literal["bf16", "fp16", "fp32"]:
    """The fastest precision that a device supports natively: emulated bf16 is an order of magnitude slower."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        has_bf16 = any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        return "bf16" if has_bf16 else "fp32"
    return "fp16"


def pick_precision(name: str, device: torch.device, model: nn.Module) -> torch.dtype:
    """The floating-point type of a name on a device; ``"auto"`` goes by device and size (see :func:`load`).

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"unknown precision `{name}`", hint=closest(name, PRECISIONS))
    if name == "auto":
        small = sum(parameter.numel() for parameter in model.parameters()) < _LARGE
        name = "fp32" if small and device.type == "cpu" else best_precision(device)
        logger.info("precision `auto` is `%s` here", name)
    return DTYPES[name]
