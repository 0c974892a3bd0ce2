"""VQGAN: images to a grid of codes and back, and a transformer that draws new grids.

Names are imported when they are first used, so that ``import vqgan`` is quick and needs no PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqgan.checkpoints.format import save_model
    from vqgan.checkpoints.load import load
    from vqgan.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        DivergedError,
        OutputError,
        Preempted,
        VqganError,
    )
    from vqgan.images import read_images, to_pictures, to_sheet, write_images
    from vqgan.runs import train
    from vqgan.synthesizer import Synthesizer, SynthesizerConfig
    from vqgan.tokenizer import Tokenizer, TokenizerConfig
    from vqgan.training.run import PriorRun, TokenizerRun
    from vqgan.types import Progress
    from vqgan.version import __version__

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "OutputError",
    "Preempted",
    "PriorRun",
    "Progress",
    "Synthesizer",
    "SynthesizerConfig",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerRun",
    "VqganError",
    "__version__",
    "load",
    "read_images",
    "save_model",
    "to_pictures",
    "to_sheet",
    "train",
    "write_images",
]


_MODULES = {
    "CheckpointError": "vqgan.errors",
    "ConfigError": "vqgan.errors",
    "DataError": "vqgan.errors",
    "DivergedError": "vqgan.errors",
    "OutputError": "vqgan.errors",
    "Preempted": "vqgan.errors",
    "PriorRun": "vqgan.training.run",
    "Progress": "vqgan.types",
    "Synthesizer": "vqgan.synthesizer",
    "SynthesizerConfig": "vqgan.synthesizer",
    "Tokenizer": "vqgan.tokenizer",
    "TokenizerConfig": "vqgan.tokenizer",
    "TokenizerRun": "vqgan.training.run",
    "VqganError": "vqgan.errors",
    "__version__": "vqgan.version",
    "load": "vqgan.checkpoints.load",
    "read_images": "vqgan.images",
    "save_model": "vqgan.checkpoints.format",
    "to_pictures": "vqgan.images",
    "to_sheet": "vqgan.images",
    "train": "vqgan.runs",
    "write_images": "vqgan.images",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module `vqgan` has no attribute `{name}`")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
