"""VQGAN: images to a grid of codes and back, and a transformer that draws new grids.

Names are imported when they are first used, so that ``import vqgan`` is quick and needs no PyTorch.
"""

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


def __getattr__(name: str) -> Any:
    match name:
        case "load":
            from vqgan.checkpoints.load import load

            return load
        case "save_model":
            from vqgan.checkpoints.format import save_model

            return save_model
        case "train":
            from vqgan.runs import train

            return train
        case "read_images" | "to_pictures" | "to_sheet" | "write_images":
            from vqgan import images

            return getattr(images, name)
        case "Synthesizer" | "SynthesizerConfig":
            from vqgan import synthesizer

            return getattr(synthesizer, name)
        case "Tokenizer" | "TokenizerConfig":
            from vqgan import tokenizer

            return getattr(tokenizer, name)
        case "TokenizerRun" | "PriorRun":
            from vqgan.training import run

            return getattr(run, name)
        case "Progress":
            from vqgan.types import Progress

            return Progress
        case "__version__":
            from vqgan.version import __version__

            return __version__
        case _ if name in __all__:
            from vqgan import errors

            return getattr(errors, name)
        case _:
            raise AttributeError(f"module `vqgan` has no attribute `{name}`")


def __dir__() -> list[str]:
    return __all__
