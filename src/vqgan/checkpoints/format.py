"""One ``.safetensors`` file holds one model: its tensors, and in the metadata everything needed to build it.

Metadata: ``vqgan.format`` ("1"), ``vqgan.kind`` ("tokenizer" or "synthesizer"), ``vqgan.config`` (canonical
JSON, complete), ``vqgan.version``, ``vqgan.weights`` ("ema" or "raw"), ``vqgan.step``, ``vqgan.digest`` and,
where training networks travel along under ``training.*``, their arguments as JSON in ``vqgan.training``.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vqgan.checkpoints.files import replace_file
from vqgan.config import canonical_json, convert
from vqgan.errors import CheckpointError, ConfigError
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import Tokenizer, TokenizerConfig
from vqgan.version import __version__

FORMAT = 1
"""Version of the layout that this package writes; newer files are refused, older ones migrated here."""

MAX_HEADER_BYTES = 100_000_000
"""The safetensors specification's own limit; a larger header is not read."""

TRAINING_PREFIX = "training."
"""Tensors of networks that only training needs (discriminator, perceptual network)."""

Model = Tokenizer | Synthesizer
Kind = Literal["tokenizer", "synthesizer"]


@dataclass(frozen=True)
class Header:
    """What a weights file says about itself, read without its tensors.

    Attributes:
        kind: Which class the file holds.
        config: The model's configuration as plain mappings.
        shapes: Name to shape of every tensor, in the file's order.
        weights: ``"ema"`` for averaged weights, else ``"raw"``.
        step: Optimizer steps that made these weights.
        digest: sha256 over the tensors; 12 digits of it name the model.
        version: Version of this package that wrote the file.
        training: Arguments of the training networks in the file by name, or empty.
    """

    kind: Kind
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    weights: str
    step: int
    digest: str
    version: str
    training: dict[str, Any]


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over name, dtype, shape and bytes of every tensor in name order, as hexadecimal digits."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def save_model(
    model: Model,
    path: Path,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    weights: Literal["ema", "raw"] = "raw",
    step: int = 0,
    training: Mapping[str, tuple[Mapping[str, Any], nn.Module]] | None = None,
) -> str:
    """Writes the model to one file; the file appears complete or not at all.

    Args:
        model: What is written; its ``config`` goes into the metadata.
        path: The file, by custom named ``*.safetensors``.
        tensors: Written in place of the model's own state (averaged weights); the same names.
        weights: What these weights are.
        step: Optimizer steps that made them.
        training: Networks that only training needs, by name, with their arguments.

    Returns:
        The digest.

    Raises:
        OutputError: If the file cannot be written.
    """
    state = {**model.state_dict(), **(tensors or {})}
    arguments = {}
    for name, (given, module) in (training or {}).items():
        arguments[name] = dict(given)
        state |= {f"{TRAINING_PREFIX}{name}.{key}": value for key, value in module.state_dict().items()}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    digest = digest_of(state)
    metadata = {
        "vqgan.format": str(FORMAT),
        "vqgan.kind": "tokenizer" if isinstance(model, Tokenizer) else "synthesizer",
        "vqgan.config": canonical_json(model.config),
        "vqgan.version": __version__,
        "vqgan.weights": weights,
        "vqgan.step": str(step),
        "vqgan.digest": digest,
    }
    if arguments:
        metadata["vqgan.training"] = json.dumps(arguments, sort_keys=True)
    write_tensors(path, state, metadata)
    return digest


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors to a safetensors file that appears complete or not at all.

    Raises:
        OutputError: If the file cannot be written; nothing is left behind.
    """
    # Tensors that share memory are stored once for each name: a file must not depend on tying.
    own = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    seen: set[int] = set()
    for name, tensor in own.items():
        if tensor.data_ptr() in seen and tensor.numel():
            own[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    replace_file(path, lambda temporary: save_file(own, temporary, metadata=dict(metadata)))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, memory-mapped.

    Raises:
        CheckpointError: If the file is missing, truncated or no safetensors file.
    """
    check_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as a safetensors file does: a length, then a JSON object."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:
        return False
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") >= 2


def check_safetensors(path: Path) -> None:
    """Raises CheckpointError unless the file is there, regular, and its header fits into it and the limits."""
    try:
        size = os.stat(path).st_size if path.is_file() else None
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise CheckpointError(f"cannot read `{path}`: {error.strerror}", hint="check the path") from None
    if size is None or size < 8:
        raise CheckpointError(f"`{path}` is not a weights file", hint="it is empty or cut off; copy it again")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"`{path}` announces a header of {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read",
            hint="this is no safetensors file, or a damaged one",
        )
    if length + 8 > size:
        raise CheckpointError(f"`{path}` is truncated: {size:,} bytes", hint="copy or download it again")


def read_header(path: Path) -> Header:
    """Reads what the file says about itself.

    Raises:
        CheckpointError: If the file is truncated, not one of ours, or of a newer format.
    """
    check_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None
    if "vqgan.format" not in metadata:
        raise CheckpointError(
            f"`{path}` is a safetensors file without a `vqgan.format` entry",
            hint="it was not written by vqgan",
        )
    return _header(path, metadata, shapes)


def _header(path: Path, metadata: Mapping[str, str], shapes: dict[str, tuple[int, ...]]) -> Header:
    written = metadata["vqgan.format"]
    if not written.isdigit() or int(written) > FORMAT:
        raise CheckpointError(
            f"`{path}` has format {written}; this version reads up to {FORMAT}",
            hint="upgrade with `pip install --upgrade vqgan`",
        )
    try:
        kind = metadata["vqgan.kind"]
        if kind not in ("tokenizer", "synthesizer"):
            raise CheckpointError(f"`{path}` holds an unknown kind of model: `{kind}`")
        return Header(
            kind="tokenizer" if kind == "tokenizer" else "synthesizer",
            config=json.loads(metadata["vqgan.config"]),
            shapes=shapes,
            weights=metadata["vqgan.weights"],
            step=int(metadata["vqgan.step"]),
            digest=metadata["vqgan.digest"],
            version=metadata["vqgan.version"],
            training=json.loads(metadata.get("vqgan.training", "{}")),
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"`{path}` has damaged metadata: {type(error).__name__} {error}") from None


def build_model(kind: Kind, config: Mapping[str, Any], *, where: str) -> Model:
    """The model of a stored configuration, on the current default device.

    Raises:
        CheckpointError: If the configuration does not fit the class.
    """
    try:
        if kind == "tokenizer":
            return Tokenizer(convert(config, TokenizerConfig, where=where))
        return Synthesizer(convert(config, SynthesizerConfig, where=where))
    except ConfigError as error:
        raise CheckpointError(
            f"{where} holds an invalid configuration: {error.message}", hint=error.hint
        ) from None


def load_model(path: Path) -> tuple[Model, Header]:
    """Builds the model of one of our files on the CPU, in evaluation mode, with its weights.

    Shapes are compared with the configuration before memory is taken.

    Raises:
        CheckpointError: If the file is damaged or its tensors do not fit its configuration.
    """
    header = read_header(path)
    with torch.device("meta"):
        model = build_model(header.kind, header.config, where=f"`{path}`")
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: shape for name, shape in header.shapes.items() if not name.startswith(TRAINING_PREFIX)}
    check_keys(wanted, found, where=f"`{path}`", what=header.kind)
    tensors = read_tensors(path)
    model.load_state_dict({name: tensors[name] for name in wanted}, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.eval(), header


def read_training(path: Path, name: str) -> dict[str, Tensor]:
    """The state of one training network (``"discriminator"``, ``"perceptual"``) in the file; empty if absent."""
    prefix = f"{TRAINING_PREFIX}{name}."
    return {key.removeprefix(prefix): t for key, t in read_tensors(path).items() if key.startswith(prefix)}


def check_keys(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], *, where: str, what: str
) -> None:
    """Raises CheckpointError that counts missing, unexpected and misshapen tensors and shows the first five."""
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    other = [f"{n} {found[n]} instead of {wanted[n]}" for n in wanted if n in found and found[n] != wanted[n]]
    if not missing and not unexpected and not other:
        return
    rows = [("missing", missing), ("unexpected", unexpected), ("of another shape", other)]
    counts = ", ".join(f"{len(names)} {row}" for row, names in rows if names)
    lines = [
        f"  {row:<18}{', '.join(names[:5])}{', …' if len(names) > 5 else ''}" for row, names in rows if names
    ]
    raise CheckpointError(
        f"{where} does not fit the {what} it describes: {counts}\n" + "\n".join(lines),
        hint="the file is damaged or was written by other code",
    )


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())
    return CheckpointError(
        f"`{path}` cannot be read: {reason}", hint="the file is damaged; copy or download it again"
    )
