"""One ``.safetensors`` file holds one model: its tensors, and in the metadata everything needed to build it.

Metadata: ``vqgan.format`` ("1"), ``vqgan.kind`` ("tokenizer", "synthesizer", "classifier" or "denoiser"),
``vqgan.config`` (canonical JSON, complete), ``vqgan.version``, ``vqgan.weights`` ("ema" or "raw"), ``vqgan.step``,
``vqgan.digest`` and, for training networks stored under ``training.*``, their arguments as JSON in ``vqgan.training``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import init
from torch.overrides import TorchFunctionMode

from vqgan.checkpoints.renamed import with_new_names
from vqgan.checkpoints.tensors import (
    COPY_AGAIN,
    Shapes,
    below,
    read_description,
    read_tensors,
    write_tensors,
)
from vqgan.classifier import Classifier, ClassifierConfig
from vqgan.config import canonical_json, from_mapping, to_mapping
from vqgan.denoiser import Denoiser, DenoiserConfig
from vqgan.errors import CheckpointError, ConfigError, printable
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import Tokenizer, TokenizerConfig
from vqgan.version import __version__

FORMAT = 1
"""Version of the layout that this package writes; newer files are refused, older ones migrated here."""

TRAINING_PREFIX = "training."
"""Tensors of networks that only training needs (discriminator, perceptual network)."""

Model = Tokenizer | Synthesizer | Classifier | Denoiser
ModelConfig = TokenizerConfig | SynthesizerConfig
Kind = Literal["tokenizer", "synthesizer", "classifier", "denoiser"]
N = TypeVar("N", bound=nn.Module)

_CLASSES: dict[Kind, tuple[type[Any], type[Any]]] = {
    "tokenizer": (Tokenizer, TokenizerConfig),
    "synthesizer": (Synthesizer, SynthesizerConfig),
    "classifier": (Classifier, ClassifierConfig),
    "denoiser": (Denoiser, DenoiserConfig),
}


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of a weights file and the shapes of its tensors.

    Attributes:
        kind: Which class the file holds.
        config: The model's configuration as plain mappings.
        shapes: Name to shape of every tensor, in the file's order.
        weights: ``"ema"`` for averaged weights, else ``"raw"``.
        step: Optimizer steps of their training.
        digest: sha256 over the tensors; 12 digits of it name the model.
        version: Version of this package that wrote the file.
        training: Arguments of the training networks in the file by name, or empty.
        format: Version of the layout.
        inferred: Whether the configuration follows from the shapes of the tensors, as in some files of other programs.
    """

    kind: Kind
    config: dict[str, Any]
    shapes: Shapes
    weights: Literal["ema", "raw"]
    step: int
    digest: str
    version: Annotated[str, msgspec.Meta(min_length=1)]
    training: dict[str, Any]
    format: Annotated[int, msgspec.Meta(ge=1)] = FORMAT
    inferred: bool = False


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
    path: str | Path,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    weights: Literal["ema", "raw"] = "raw",
    step: int = 0,
    training: Mapping[str, tuple[Mapping[str, Any], nn.Module]] | None = None,
) -> str:
    """Writes the model to one file, which is complete or absent.

    Args:
        model: Its ``config`` goes into the metadata.
        path: The file, usually named ``*.safetensors``.
        tensors: Written instead of the model's own state (averaged weights), under the same names.
        weights: Whether the weights are averaged.
        step: Optimizer steps of their training.
        training: Networks that only training needs, by name, with their arguments.

    Returns:
        The digest.

    Raises:
        ConfigError: If ``tensors`` has names or shapes that the model does not have.
        OutputError: If the file cannot be written.
    """
    state: dict[str, Tensor] = {**model.state_dict()}
    for name, tensor in (tensors or {}).items():
        if name not in state or state[name].shape != tensor.shape:
            raise ConfigError(f"the model has no tensor `{name}` of the shape {tuple(tensor.shape)}")
        state[name] = tensor
    arguments = {}
    for name, (given, module) in (training or {}).items():
        arguments[name] = dict(given)
        state |= {f"{TRAINING_PREFIX}{name}.{key}": value for key, value in module.state_dict().items()}
    digest = digest_of(state)
    metadata = {
        "vqgan.format": str(FORMAT),
        "vqgan.kind": kind_of(model.config),
        "vqgan.config": canonical_json(model.config),
        "vqgan.version": __version__,
        "vqgan.weights": weights,
        "vqgan.step": str(step),
        "vqgan.digest": digest,
    }
    if arguments:
        metadata["vqgan.training"] = json.dumps(arguments, sort_keys=True)
    write_tensors(Path(path), state, metadata)
    return digest


def read_header(path: Path) -> Header:
    """Reads the metadata of a file of ours.

    Raises:
        CheckpointError: If the file is truncated, not one of ours, or of a newer format.
    """
    metadata, shapes = read_description(path)
    if "vqgan.format" not in metadata:
        raise CheckpointError(
            f"`{path}` is a safetensors file without a `vqgan.format` entry",
            hint="it was not written by vqgan",
        )
    values: dict[str, Any] = {key.removeprefix("vqgan."): value for key, value in metadata.items()}
    try:
        for key, value in values.items():
            if value and not value.isprintable():
                raise ValueError(f"`{printable(key)}` is not a line of text")
        values |= {name: int(values[name]) for name in ("format", "step")}
        if values["format"] > FORMAT:
            raise CheckpointError(
                f"`{path}` has format {values['format']}; this version reads up to {FORMAT}",
                hint="upgrade with `pip install --upgrade vqgan`",
            )
        texts = {"config": values["config"], "training": values.get("training", "{}")}
        values |= {name: json.loads(text) for name, text in texts.items()}
        header: Header = from_mapping(values | {"shapes": shapes}, Header, where=f"the metadata of `{path}`")
        return msgspec.structs.replace(header, config=with_new_names(header.config))
    except ConfigError as error:
        raise CheckpointError(error.message, hint=error.hint or COPY_AGAIN) from None
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"`{path}` has damaged metadata: {type(error).__name__} {error}", hint=COPY_AGAIN
        ) from None


def kind_of(config: ModelConfig | ClassifierConfig | DenoiserConfig) -> Kind:
    """Which class a configuration belongs to."""
    return next(kind for kind, (_, own) in _CLASSES.items() if isinstance(config, own))


def tokenizer_of(model: Model, where: str | Path) -> Tokenizer:
    """A tokenizer itself, or that of a prior. Raises CheckpointError if the model is neither."""
    if isinstance(model, Classifier | Denoiser):
        hint = "give a tokenizer's file or run; a classifier serves `vqgan sample --judge`"
        what = f"`{where}` holds a {kind_of(model.config)}, expected a tokenizer or a prior"
        raise CheckpointError(what, hint=hint)
    return model.tokenizer if isinstance(model, Synthesizer) else model


def model_names(config: ModelConfig, where: str) -> dict[str, Tensor]:
    """The tensors of a model by name, without memory. Raises as :func:`build_model`."""
    return build_model(kind_of(config), to_mapping(config), where=where).state_dict()


def build_model(kind: Kind, config: Mapping[str, Any], *, where: str) -> Model:
    """The model of a stored configuration, without memory for its weights (on the device "meta").

    Raises:
        CheckpointError: If the configuration does not fit the class, or describes impossible sizes.
    """
    try:
        with torch.device("meta"), WithoutRandomNumbers():
            model, own = _CLASSES[kind]
            built: Model = model(from_mapping(config, own, where=where))
            return built
    except ConfigError as error:
        raise CheckpointError(
            f"{where} holds an invalid configuration: {error.message}", hint=error.hint
        ) from None
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{where} describes a model that cannot be built: {reason}") from None


class WithoutRandomNumbers(TorchFunctionMode):
    """Skips drawing initial weights: on the device "meta", PyTorch would import its compiler for them (seconds)."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in (init.kaiming_uniform_, init.normal_, init.uniform_, Tensor.normal_, Tensor.uniform_):
            return args[0] if args else (kwargs or {})["tensor"]
        if function in (F.normalize, torch.randn_like):
            return args[0]
        return function(*args, **kwargs or {})


def empty_model(path: Path, header: Header) -> Model:
    """As :func:`build_model`, for a file of ours. Raises CheckpointError also if the file's tensors do not fit."""
    found = {name: shape for name, shape in header.shapes.items() if not name.startswith(TRAINING_PREFIX)}
    model = build_model(header.kind, header.config, where=f"`{path}`")
    check_keys(shapes_of(model.state_dict()), found, where=f"`{path}`", what=header.kind)
    return model


def filled(network: N, tensors: Mapping[str, Tensor], *, copy: bool = True) -> N:
    """A network without memory, in evaluation mode, with tensors that are known to fit it.

    Args:
        network: Built on the device "meta".
        tensors: By its names, in any precision; what else they hold is ignored.
        copy: Whether the weights get memory of their own; without, they may stay mapped from the file, where they
            lie unaligned and a change from outside changes the model.
    """
    own = {name: tensors[name].to(like.dtype, copy=copy) for name, like in network.state_dict().items()}
    network.load_state_dict(own, strict=True, assign=True)
    return network.eval()


def load_model(path: Path) -> tuple[Model, Header]:
    """Builds the model of one of our files on the CPU, in evaluation mode, with its weights in fp32.

    Shapes are compared with the configuration before memory is taken, and the digest with the tensors.

    Raises:
        CheckpointError: If the file is damaged or its tensors do not fit its configuration.
    """
    header = read_header(path)
    model = empty_model(path, header)
    tensors = read_tensors(path)
    if digest_of(tensors) != header.digest:
        raise CheckpointError(f"`{path}` is damaged: its tensors do not have its digest", hint=COPY_AGAIN)
    return filled(model, tensors), header


def read_training(path: Path, name: str) -> dict[str, Tensor]:
    """The state of one training network (``"discriminator"``, ``"perceptual"``) in the file; empty if absent."""
    return below(f"{TRAINING_PREFIX}{name}.", read_tensors(path))


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """Name to shape of tensors."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_keys(
    wanted: Mapping[str, Sequence[int]],
    found: Mapping[str, Sequence[int]],
    *,
    where: str,
    what: str,
    hint: str = "",
) -> None:
    """Raises CheckpointError that counts missing, unexpected and misshapen tensors and shows the first five.

    Args:
        wanted: Shapes that the network has.
        found: Shapes that there are.
        where: What they come from.
        what: The network; with the file or the key in backticks that describes it, if that is not ``where`` itself.
        hint: What to do; by default that follows from ``what``.
    """
    rows = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": [
            f"{name} {found[name]} instead of {shape}"
            for name, shape in wanted.items()
            if found.get(name, shape) != shape
        ],
    }
    rows = {row: names for row, names in rows.items() if names}
    if not rows:
        return
    counts = ", ".join(f"{len(names)} {row}" for row, names in rows.items())
    shown = "".join(
        f"\n  {row:<18}{', '.join(names[:5])}{', …' if len(names) > 5 else ''}" for row, names in rows.items()
    )
    described, cause = f"{what} it describes", "the file is damaged or was written by other code"
    if "`" in what:
        described, cause = what, f"set the {what} to what the file holds"
    raise CheckpointError(f"{where} does not fit the {described}: {counts}{shown}", hint=hint or cause)
