"""Reads checkpoints of other programs (the original, LlamaGen, diffusers): finds the model in them and renames it."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqgan.checkpoints.diffusers import read_diffusers
from vqgan.checkpoints.finding import find_config
from vqgan.checkpoints.format import (
    Header,
    Model,
    ModelConfig,
    WithoutRandomNumbers,
    build_model,
    check_keys,
    digest_of,
    filled,
    kind_of,
    model_names,
    shapes_of,
)
from vqgan.checkpoints.inference import inferred, is_llamagen, llamagen_config
from vqgan.checkpoints.key_maps import DISCRIMINATOR, LLAMAGEN, PERCEPTUAL, PRIOR, TOKENIZER, KeyMap
from vqgan.checkpoints.original_config import first_stage_of, interpolated, translated
from vqgan.checkpoints.pickles import Pickled, read_checkpoint
from vqgan.checkpoints.tensors import below, is_safetensors, read_tensors
from vqgan.conditioning import TokenizedImageConfig
from vqgan.config import from_mapping, merge, parse_overrides, read_yaml, to_mapping
from vqgan.errors import CheckpointError, ConfigError
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.prior.token_order import token_positions
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import TokenizerConfig

logger = logging.getLogger(__name__)

_OF_ANOTHER = "the configuration may belong to another checkpoint; give the right one with `config=`"
_FIRST_STAGE, _AVERAGE = "first_stage_model.", "model_ema."


@dataclass(frozen=True)
class Foreign:
    """A checkpoint of another program under our names.

    Attributes:
        file: The checkpoint, or the folder of diffusers.
        family: The program that wrote it.
        config: The model's configuration.
        tensors: Its weights by our names, mapped from the file where possible.
        training: The tensors of its discriminator and its perceptual network, by their original names.
        step: Optimizer steps of its training, 0 if not stored.
        yaml: The file that the configuration was read from, if any.
        inferred: Whether the configuration was inferred from the tensors.
        averaged: Whether the weights are running averages.
    """

    file: Path
    family: str
    config: ModelConfig
    tensors: dict[str, Tensor]
    training: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    yaml: Path | None = None
    inferred: bool = False
    averaged: bool = False

    def header(self, *, hashed: bool = False) -> Header:
        """The header that a file of ours would have; its digest is empty unless the tensors are ``hashed``."""
        return Header(
            kind=kind_of(self.config),
            config=to_mapping(self.config),
            shapes=shapes_of(self.tensors),
            weights="ema" if self.averaged else "raw",
            step=self.step,
            digest=digest_of(self.tensors) if hashed else "",
            version=self.family,
            inferred=self.inferred,
            training={key.split(".")[1]: {} for key in self.training},
        )

    def model(self, *, copy: bool = True) -> Model:
        """The model with these weights, in evaluation mode.

        Args:
            copy: Whether the weights get memory of their own; without, they stay mapped from the file.

        Raises:
            CheckpointError: If a weight is missing, unexpected, or of another shape.
        """
        return filled(self.empty(), self.tensors, copy=copy)

    def empty(self) -> Model:
        """The model without memory for its weights. Raises CheckpointError as :meth:`model`."""
        where = f"`{self.file}`"
        what: str = kind_of(self.config)
        model = build_model(kind_of(self.config), to_mapping(self.config), where=where)
        hint = "its sizes cannot be inferred from its tensors; give `config=`" if self.inferred else ""
        if self.yaml is not None:
            what, hint = f"{what} that `{self.yaml}` describes", _OF_ANOTHER
        check_keys(shapes_of(model.state_dict()), shapes_of(self.tensors), where=where, what=what, hint=hint)
        return model


def read_foreign(path: Path, config: str | Path | None = None, overrides: Sequence[str] = ()) -> Foreign:
    """Reads a checkpoint of the original, of LlamaGen, or a folder of diffusers.

    Args:
        path: The checkpoint or the folder.
        config: The configuration of an original checkpoint; by default the one that :func:`find_config` finds,
            else what can be inferred from its tensors.
        overrides: Changes to the configuration by our names, ``"prior.num_heads=16"``.

    Raises:
        CheckpointError: If there is no configuration, or something cannot be read or does not fit.
        ConfigError: If a change is invalid.
    """
    changes = parse_overrides(overrides)
    found = _read(path, Path(config) if config is not None else None, changes)
    kind = type(found.config)
    changed = from_mapping(
        merge(to_mapping(found.config), changes), kind, where=f"the configuration of `{path}`"
    )
    if found.inferred:
        logger.info("`%s` has no configuration: it is inferred from the tensors", path)
    return replace(found, config=changed)


def _read(path: Path, config: Path | None, changes: Mapping[str, Any]) -> Foreign:
    if path.is_dir():
        return Foreign(path, "diffusers", *read_diffusers(path))
    where = f"`{path}`"
    read = Pickled(read_tensors(path)) if is_safetensors(path) else read_checkpoint(path)
    yaml = find_config(path) if config is None and not is_llamagen(read.tensors) else config
    try:
        mapping = interpolated(read_yaml(yaml)) if yaml is not None else {}
    except ConfigError as error:
        raise CheckpointError(error.message, hint=error.hint) from None
    inner = first_stage_of(mapping)
    part, averaged = find_part(read.tensors, first_stage=inner is not None, where=where)
    found = partial(
        Foreign, path, step=read.step, yaml=yaml, inferred=yaml is None, averaged=averaged or read.averaged
    )
    if yaml is None and is_llamagen(part):
        llamagen = llamagen_config(part, where=where)
        return found("LlamaGen", llamagen, LLAMAGEN.rename(part, model_names(llamagen, where), where=where))
    if yaml is None:
        mapping = inferred(part, changes, where=where)
    source = where if yaml is None else f"`{yaml}`"
    model = translated(mapping if inner is None else {"model": inner}, shapes_of(part), where=source)
    parts = {key.partition(".")[0] for key in part}
    kind = kind_of(model)
    held = "synthesizer" if "transformer" in parts else "tokenizer" if "encoder" in parts else kind
    if held != kind:
        raise CheckpointError(f"{where} holds a {held}, but {source} describes a {kind}", hint=_OF_ANOTHER)
    tensors, training = model_state(part, model, where=where)
    return found("taming-transformers", model, tensors, training=training)


def find_part(
    tensors: Mapping[str, Tensor], *, first_stage: bool = False, where: str
) -> tuple[dict[str, Tensor], bool]:
    """The second stage with all its parts in a checkpoint, or else its tokenizer; the log names what is omitted.

    Args:
        tensors: All tensors of the file.
        first_stage: Whether only the tokenizer is wanted.
        where: What they come from, for messages.

    Returns:
        The tensors by their published names, without the prefixes of wrappers, and whether they are the
        running averages instead of the last weights.

    Raises:
        CheckpointError: If there are several models.
    """
    found = [] if first_stage else _prefixes(tensors, "transformer.tok_emb.weight")
    if not found:
        found = _prefixes(tensors, "encoder.conv_in.weight")
        # The image's come before a condition's, averages before the last weights.
        for word in (_FIRST_STAGE, "ema"):
            found = [prefix for prefix in found if word in prefix] or found
    if len(found) > 1:
        raise CheckpointError(
            f"{where} holds several models, below {_shown(found)}: which one to use is ambiguous",
            hint="keep one of them in the file",
        )
    prefix = found[0] if found else ""
    flat = f"{prefix}{_AVERAGE}"
    inside = below(prefix, tensors)
    own = {key: tensor for key, tensor in inside.items() if not key.startswith(_AVERAGE)}
    others = sorted({key.split(".")[0] for key in tensors if not key.startswith(prefix)})
    if others:
        logger.info("taken from %s: `%s*`; omitted: %s", where, prefix, _shown(others))
    running = sorted({key.rpartition(".")[2] for key in own if key.endswith((".cluster_size", ".embed_avg"))})
    if running:
        what = "omitted from %s: the running averages of its codes, %s; in further training, gradients change codes"
        logger.info(what, where, _shown(running))
    # Some averages have names without dots.
    pairs = {key: inside.get(_AVERAGE + key.replace(".", "")) for key in own}
    averages = {key: tensor for key, tensor in pairs.items() if tensor is not None}
    if averages and all(key in averages for key in own if key.startswith(("encoder.", "decoder."))):
        logger.info("the weights of %s are the averaged ones, `%s*`, not the last ones", where, flat)
        return own | averages, True
    if len(own) < len(inside):
        logger.info("the weights of %s are the last ones; `%s*` does not average them all", where, flat)
    return own, "ema" in prefix


def _prefixes(tensors: Iterable[str], anchor: str) -> list[str]:
    """The prefixes of a name that every model of a kind has, one for each model."""
    ends = (key.removesuffix(anchor) for key in tensors if key.endswith(anchor))
    return sorted(prefix for prefix in ends if not prefix or prefix.endswith("."))


def _shown(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:8]) + (f" and {len(names) - 8} more" if names[8:] else "")


def model_state(
    state: Mapping[str, Tensor], config: ModelConfig, *, where: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a checkpoint of the original under our names, and those of its training networks.

    Raises:
        CheckpointError: If a key is not known, or a permutation is not the one of the configuration.
    """
    names = model_names(config, where)
    if isinstance(config, TokenizerConfig):
        return _first_stage(state, names, where)
    tokenizer = below("tokenizer.", names)
    first, training = _first_stage(below("first_stage_model.", state), tokenizer, where)
    result = {f"tokenizer.{name}": tensor for name, tensor in first.items()}
    parts = {"first_stage_model", "transformer", "permuter"}
    if isinstance(config.conditioner, TokenizedImageConfig):
        parts.add("cond_stage_model")
        own = below("conditioner.tokenizer.", names)
        condition, _ = _first_stage(below("cond_stage_model.", state), own or tokenizer, where)
        if config.conditioner.tokenizer is None:
            _check_copy(condition, first, where)
        else:
            result |= {f"conditioner.tokenizer.{name}": tensor for name, tensor in condition.items()}
    prior = PRIOR.rename(below("transformer.", state), below("prior.", names), where=where)
    result |= {f"prior.{name}": tensor for name, tensor in prior.items()}
    _check_order(state.get("permuter.forward_shuffle_idx"), config, where)
    if unknown := sorted({key.partition(".")[0] for key in state} - parts):
        shown = ", ".join(f"`{part}`" for part in unknown)
        raise CheckpointError(f"{where} holds unknown parts: {shown}", hint=_OF_ANOTHER)
    return result, training


def _first_stage(
    state: Mapping[str, Tensor], names: Iterable[str], where: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a first stage under our names, and those of its training networks."""
    training = {key: tensor for key, tensor in state.items() if key.startswith("loss.")}
    own = {key: tensor for key, tensor in state.items() if key not in training}
    return TOKENIZER.rename(own, names, where=where), training


def _check_copy(copy: Mapping[str, Tensor], first: Mapping[str, Tensor], where: str) -> None:
    """Raises CheckpointError if the two copies of a first stage that is used twice differ."""
    for name, tensor in copy.items():
        other = first.get(name)
        mapped_once = other is not None and tensor.data_ptr() == other.data_ptr()
        if other is None or not (mapped_once or torch.equal(tensor, other)):
            raise CheckpointError(
                f"{where} holds a condition's first stage that differs from the image's at `{name}`, "
                "but the configuration says that they are one",
                hint=_OF_ANOTHER,
            )


def _check_order(stored: Tensor | None, config: SynthesizerConfig, where: str) -> None:
    """Raises CheckpointError if the stored permutation is not the configured order."""
    rows, columns = config.window
    # Sizes first: a window from a file may be too large for memory.
    if stored is not None and not (
        stored.shape == (rows * columns,)
        and torch.equal(stored, token_positions(config.token_order, config.window))
    ):
        raise CheckpointError(f"{where} holds a different order of tokens than `{config.token_order}`")


def training_networks(foreign: Foreign) -> dict[str, tuple[dict[str, Any], nn.Module]]:
    """The discriminator and the perceptual network of a checkpoint, as ``save_model`` takes them.

    Raises:
        CheckpointError: If their architecture differs from ours.
    """
    networks: dict[str, tuple[dict[str, Any], nn.Module]] = {}
    parts = {key.split(".")[1] for key in foreign.training}
    # No memory is used before the shapes are checked.
    with torch.device("meta"), WithoutRandomNumbers():
        if "discriminator" in parts:
            state = below("loss.discriminator.", foreign.training)
            arguments = _discriminator_arguments(state, foreign.file)
            network: nn.Module = PatchDiscriminator(**arguments)
            networks["discriminator"] = arguments, _filled(network, DISCRIMINATOR, state, foreign.file)
        if "perceptual_loss" in parts:
            state = below("loss.perceptual_loss.", foreign.training)
            networks["perceptual"] = {}, _filled(PerceptualNetwork(), PERCEPTUAL, state, foreign.file)
    return networks


def _discriminator_arguments(state: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    first = state.get("main.0.weight")
    halvings = sum(tensor.ndim == 4 for tensor in state.values()) - 2
    if first is None or first.ndim != 4 or halvings < 1 or min(first.shape) < 1:
        raise CheckpointError(
            f"the discriminator in `{file}` cannot be built",
            hint="convert without `keep_training_state=`",
        )
    return {"image_channels": first.shape[1], "base_channels": first.shape[0], "num_layers": halvings}


def _filled(network: nn.Module, keys: KeyMap, published: Mapping[str, Tensor], file: Path) -> nn.Module:
    wanted, where = network.state_dict(), f"the training state of `{file}`"
    state = keys.rename(published, wanted, where=where)
    check_keys(shapes_of(wanted), shapes_of(state), where=where, what=type(network).__name__)
    return filled(network, state, copy=False)
