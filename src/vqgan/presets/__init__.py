"""Named runs: each is a run file beside this one. To add one, write ``NAME.yaml`` and a line here."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqgan.config import merge, read_yaml
from vqgan.errors import ConfigError, closest

if TYPE_CHECKING:
    from vqgan.training.run import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preset:
    """A named run, with one line for ``vqgan presets``."""

    name: str
    summary: str

    def mapping(self) -> dict[str, Any]:
        """Its file as plain mappings, on top of the preset that it names, if it names one."""
        own = read_yaml(Path(__file__).parent / f"{self.name}.yaml")
        return merge(PRESETS[own.pop("preset")].mapping(), own) if "preset" in own else own

    def make(self) -> "Run":
        """Its typed run; only now PyTorch is imported."""
        from vqgan.training.run import convert_run

        return convert_run(self.mapping(), where=f"preset `{self.name}`")


_SUMMARIES = {
    "demo-tokenizer": "Atari frames 96x80, factor 8: the demo's first stage, 6 minutes on 2 cores",
    "demo-prior": "the demo's second stage, 2 minutes on 2 cores",
    "digits-tokenizer": "grey 8x8 digits, factor 2: minutes on a CPU",
    "digits-prior": "classes of 8x8 digits: minutes on a CPU",
    "mnist-tokenizer": "grey 28x28 digits, factor 4, 49 tokens",
    "mnist-prior": "classes of 28x28 digits",
    "laptop-tokenizer": "colour 128x128, factor 8, no downloads: 8 minutes on 2 cores",
    "laptop-prior": "256 tokens without condition, on laptop-tokenizer: 8 minutes on 2 cores",
    "small-tokenizer": "colour 128x128, factor 8, no perceptual loss: one small GPU, or a patient CPU",
    "small-prior": "256 tokens without condition, on small-tokenizer",
    "f16-tokenizer": "colour 256x256, factor 16, 1024 codes, perceptual loss and discriminator: the paper's model",
    "f16-prior": "256 tokens without condition, 24 layers of width 1024: the paper's model",
    "half-prior": "256 tokens of f16-tokenizer, 12 layers of width 832: the COCO prior halved, one small card",
}

PRESETS = {name: Preset(name, summary) for name, summary in _SUMMARIES.items()}


def find_preset(name: str, where: str = ", and no YAML file of that name") -> Preset:
    """The preset of a name. Raises ConfigError if there is none, with ``where`` it was asked for."""
    if name not in PRESETS:
        hint = closest(name, PRESETS) + "; `vqgan presets` lists them"
        raise ConfigError(f"unknown preset `{name}`{where}", hint=hint)
    return PRESETS[name]


SCHEDULE = ("optimizer.warmup_steps", "discriminator.discriminator_start", "discriminator.start")
"""Steps of a task that are a share of the run."""


def shortened(preset: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``SCHEDULE`` that ``changes`` do not set, so that a shorter run keeps the preset's shares."""
    whole, steps = preset["training"]["steps"], _at(changes, "training.steps")
    task: dict[str, Any] = {}
    if isinstance(steps, int) and 0 < steps < whole:
        for key in SCHEDULE:
            value, (section, name) = _at(preset, f"task.{key}"), key.split(".")
            if value and _at(changes, f"task.{key}") is None:
                task = merge(task, {section: {name: value * steps // whole}})
                logger.info(
                    "for %d of %d steps `task.%s` becomes %d", steps, whole, key, value * steps // whole
                )
    return {"task": task}


def _at(mapping: Any, key: str) -> Any:
    for name in key.split("."):
        mapping = mapping.get(name) if isinstance(mapping, Mapping) else None
    return mapping
