"""Named runs: model, task and settings as Python functions. To add one, write a function and a row here."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vqgan.config import merge
from vqgan.errors import ConfigError, closest

if TYPE_CHECKING:
    from vqgan.training.run import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preset:
    """A named run.

    Attributes:
        make: Builds it; only then PyTorch is imported, so that the list and an unknown name are answered at once.
        summary: One line for ``vqgan presets``.
    """

    make: "Callable[[], Run]"
    summary: str


def find_preset(name: str, where: str = ", and no YAML file of that name") -> Preset:
    """The preset of a name. Raises ConfigError if there is none, with ``where`` it was asked for."""
    if name not in PRESETS:
        hint = closest(name, PRESETS) + "; `vqgan presets` lists them"
        raise ConfigError(f"unknown preset `{name}`{where}", hint=hint)
    return PRESETS[name]


SCHEDULE = ("optimizer.warmup_steps", "discriminator.discriminator_start", "discriminator.start")
"""Steps of a task that are a share of the run."""


def shortened(preset: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A preset whose ``SCHEDULE`` keeps its share where ``changes`` make the run shorter and leave it alone."""
    whole, steps, result = preset["training"]["steps"], _at(changes, "training.steps"), preset
    if isinstance(steps, int) and 0 < steps < whole:
        for key in SCHEDULE:
            value, (section, name) = _at(preset, f"task.{key}"), key.split(".")
            if value and _at(changes, f"task.{key}") is None:
                value = value * steps // whole
                result = merge(result, {"task": {section: {name: value}}})
                logger.info("for %d of %d steps `task.%s` becomes %d", steps, whole, key, value)
    return result


def _at(mapping: Any, key: str) -> Any:
    for name in key.split("."):
        mapping = mapping.get(name) if isinstance(mapping, Mapping) else None
    return mapping


def _demo() -> ModuleType:
    from vqgan.presets import demo

    return demo


def _digits() -> ModuleType:
    from vqgan.presets import digits

    return digits


def _photographs() -> ModuleType:
    from vqgan.presets import photographs

    return photographs


PRESETS: dict[str, Preset] = {
    "demo-tokenizer": Preset(
        lambda: _demo().demo_tokenizer(),
        "Atari frames 96x80, factor 8: the demo's first stage, 6 minutes on 2 cores",
    ),
    "demo-prior": Preset(lambda: _demo().demo_prior(), "the demo's second stage, 2 minutes on 2 cores"),
    "digits-tokenizer": Preset(
        lambda: _digits().digits_tokenizer(), "grey 8x8 digits, factor 2: minutes on a CPU"
    ),
    "digits-prior": Preset(lambda: _digits().digits_prior(), "classes of 8x8 digits: minutes on a CPU"),
    "mnist-tokenizer": Preset(lambda: _digits().mnist_tokenizer(), "grey 28x28 digits, factor 4, 49 tokens"),
    "mnist-prior": Preset(lambda: _digits().mnist_prior(), "classes of 28x28 digits"),
    "laptop-tokenizer": Preset(
        lambda: _photographs().laptop_tokenizer(),
        "colour 128x128, factor 8, no downloads: 8 minutes on 2 cores",
    ),
    "laptop-prior": Preset(
        lambda: _photographs().laptop_prior(),
        "256 tokens without condition, on laptop-tokenizer: 8 minutes on 2 cores",
    ),
    "small-tokenizer": Preset(
        lambda: _photographs().small_tokenizer(),
        "colour 128x128, factor 8, no perceptual loss: one small GPU, or a patient CPU",
    ),
    "small-prior": Preset(
        lambda: _photographs().small_prior(), "256 tokens without condition, on small-tokenizer"
    ),
    "f16-tokenizer": Preset(
        lambda: _photographs().f16_tokenizer(),
        "colour 256x256, factor 16, 1024 codes, perceptual loss and discriminator: the paper's model",
    ),
    "f16-prior": Preset(
        lambda: _photographs().f16_prior(),
        "256 tokens without condition, 24 layers of width 1024: the paper's model",
    ),
    "half-prior": Preset(
        lambda: _photographs().half_prior(),
        "256 tokens of f16-tokenizer, 12 layers of width 832: the COCO prior halved, one small card",
    ),
}
