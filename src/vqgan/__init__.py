"""VQGAN: images to a grid of codes and back, and a transformer that draws new grids.

Names are imported when they are first used, so that ``import vqgan`` is fast and needs no PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `X as X`: type checkers take it for a public name
    from vqgan.checkpoints.format import save_model as save_model
    from vqgan.checkpoints.load import load as load
    from vqgan.classifier import Classifier as Classifier
    from vqgan.classifier import ClassifierConfig as ClassifierConfig
    from vqgan.denoiser import Denoiser as Denoiser
    from vqgan.denoiser import DenoiserConfig as DenoiserConfig
    from vqgan.dreaming import dream as dream
    from vqgan.errors import CheckpointError as CheckpointError
    from vqgan.errors import ConfigError as ConfigError
    from vqgan.errors import DataError as DataError
    from vqgan.errors import DivergedError as DivergedError
    from vqgan.errors import OutputError as OutputError
    from vqgan.errors import Preempted as Preempted
    from vqgan.errors import VqganError as VqganError
    from vqgan.extraction import extract as extract
    from vqgan.images import read_images as read_images
    from vqgan.images import to_pictures as to_pictures
    from vqgan.images import to_sheet as to_sheet
    from vqgan.images import write_images as write_images
    from vqgan.inpainting import inpaint as inpaint
    from vqgan.planning import Plan as Plan
    from vqgan.planning import plan as plan
    from vqgan.runs import train as train
    from vqgan.sampling.beam import Beam as Beam
    from vqgan.sampling.judge import keep_best as keep_best
    from vqgan.synthesizer import Synthesizer as Synthesizer
    from vqgan.synthesizer import SynthesizerConfig as SynthesizerConfig
    from vqgan.tokenizer import Tokenizer as Tokenizer
    from vqgan.tokenizer import TokenizerConfig as TokenizerConfig
    from vqgan.training.run import ClassifierRun as ClassifierRun
    from vqgan.training.run import DenoiserRun as DenoiserRun
    from vqgan.training.run import PriorRun as PriorRun
    from vqgan.training.run import TokenizerRun as TokenizerRun
    from vqgan.types import Progress as Progress
    from vqgan.version import __version__ as __version__

_MODULES = {
    "Beam": "vqgan.sampling.beam",
    "CheckpointError": "vqgan.errors",
    "Classifier": "vqgan.classifier",
    "ClassifierConfig": "vqgan.classifier",
    "ClassifierRun": "vqgan.training.run",
    "ConfigError": "vqgan.errors",
    "DataError": "vqgan.errors",
    "Denoiser": "vqgan.denoiser",
    "DenoiserConfig": "vqgan.denoiser",
    "DenoiserRun": "vqgan.training.run",
    "DivergedError": "vqgan.errors",
    "OutputError": "vqgan.errors",
    "Preempted": "vqgan.errors",
    "Plan": "vqgan.planning",
    "PriorRun": "vqgan.training.run",
    "Progress": "vqgan.types",
    "Synthesizer": "vqgan.synthesizer",
    "SynthesizerConfig": "vqgan.synthesizer",
    "Tokenizer": "vqgan.tokenizer",
    "TokenizerConfig": "vqgan.tokenizer",
    "TokenizerRun": "vqgan.training.run",
    "VqganError": "vqgan.errors",
    "__version__": "vqgan.version",
    "dream": "vqgan.dreaming",
    "extract": "vqgan.extraction",
    "inpaint": "vqgan.inpainting",
    "keep_best": "vqgan.sampling.judge",
    "load": "vqgan.checkpoints.load",
    "plan": "vqgan.planning",
    "read_images": "vqgan.images",
    "save_model": "vqgan.checkpoints.format",
    "to_pictures": "vqgan.images",
    "to_sheet": "vqgan.images",
    "train": "vqgan.runs",
    "write_images": "vqgan.images",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module `vqgan` has no attribute `{name}`")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
