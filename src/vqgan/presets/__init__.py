"""Named runs: each is a run file beside this one. To add one, write ``NAME.yaml`` with a summary in its first line."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqgan.config import merge, read_yaml, value_at
from vqgan.errors import ConfigError, closest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preset:
    """A run file with a name."""

    path: Path

    @property
    def summary(self) -> str:
        """The comment in its first line."""
        return self.path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")

    def mapping(self) -> dict[str, Any]:
        """Its file as plain mappings, on top of the preset that it names, if it names one."""
        own = read_yaml(self.path)
        return merge(PRESETS[own.pop("preset")].mapping(), own) if "preset" in own else own


def _family_then_stage(path: Path) -> tuple[str, int]:
    family, _, stage = path.stem.partition("-")
    return family, ("tokenizer", "prior", "classifier", "denoiser").index(stage)


PRESETS = {
    path.stem: Preset(path) for path in sorted(Path(__file__).parent.glob("*.yaml"), key=_family_then_stage)
}


def find_preset(name: str, where: str = ", and no YAML file of that name") -> Preset:
    """The preset of a name. Raises ConfigError if there is none, with ``where`` it was asked for."""
    if name not in PRESETS:
        hint = closest(name, PRESETS) + "; `vqgan presets` lists them"
        raise ConfigError(f"unknown preset `{name}`{where}", hint=hint)
    return PRESETS[name]


SCHEDULE = (
    "optimizer.warmup_steps",
    "discriminator.discriminator_start",
    "discriminator.start",
    "discriminator.ramp_steps",
)
"""Steps of a task that are a share of the run."""


def shortened(preset: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``SCHEDULE`` that ``changes`` do not set, so that a shorter run keeps the preset's shares."""
    whole, steps = preset["training"]["steps"], value_at(changes, "training.steps")
    task: dict[str, Any] = {}
    if isinstance(steps, int) and 0 < steps < whole:
        for key in SCHEDULE:
            value, (section, name) = value_at(preset, f"task.{key}"), key.split(".")
            if value and value_at(changes, f"task.{key}") is None:
                task = merge(task, {section: {name: value * steps // whole}})
                logger.info(
                    "for %d of %d steps `task.%s` becomes %d", steps, whole, key, value * steps // whole
                )
    return {"task": task}
