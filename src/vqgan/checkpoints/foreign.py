"""Reads checkpoints of other programs (the original, LlamaGen, diffusers)."""

import logging
from collections.abc import Mapping, Sequence
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
from vqgan.checkpoints.key_maps import DISCRIMINATOR, LLAMAGEN, PERCEPTUAL, KeyMap
from vqgan.checkpoints.original_config import first_stage_of, interpolated, model_config
from vqgan.checkpoints.original_weights import find_part, model_state
from vqgan.checkpoints.pickles import Pickled, read_checkpoint
from vqgan.checkpoints.tensors import below, is_safetensors, read_tensors
from vqgan.config import convert, merge, parse_overrides, read_yaml, to_mapping
from vqgan.errors import CheckpointError, ConfigError
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import TokenizerConfig

logger = logging.getLogger(__name__)

_OF_ANOTHER = "the configuration may belong to another checkpoint; give the right one with `config=`"


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
    config: TokenizerConfig | SynthesizerConfig
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


def read_foreign(path: Path, config: Path | None = None, overrides: Sequence[str] = ()) -> Foreign:
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
    found = _read(path, config, changes)
    kind = type(found.config)
    changed = convert(merge(to_mapping(found.config), changes), kind, where=f"the configuration of `{path}`")
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
    model = model_config(mapping if inner is None else {"model": inner}, shapes_of(part), where=source)
    parts = {key.partition(".")[0] for key in part}
    kind = kind_of(model)
    held = "synthesizer" if "transformer" in parts else "tokenizer" if "encoder" in parts else kind
    if held != kind:
        raise CheckpointError(f"{where} holds a {held}, but {source} describes a {kind}", hint=_OF_ANOTHER)
    tensors, training = model_state(part, model, where=where)
    return found("taming-transformers", model, tensors, training=training)


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


def _discriminator_arguments(state: Mapping[str, Tensor], file: Path) -> dict[str, int]:
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
