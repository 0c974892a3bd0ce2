"""Flags that several commands share; no torch here, so that every ``--help`` is quick."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import tyro

from vqgan.errors import ConfigError

# tyro compares the default of any other notation (`str | None`, `list[str]`) with its type through typeguard,
# whose import takes as long as all the rest of `--help`.
if TYPE_CHECKING:
    Texts = list[str]
else:
    Texts = list
OptionalText = Optional[str]  # noqa: UP045
OptionalInteger = Optional[int]  # noqa: UP045
OptionalNumber = Optional[float]  # noqa: UP045

Model = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
ImagePaths = Annotated[
    Texts, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES [IMAGES ...]", help_behavior_hint="(required)")
]
Folder = Annotated[str, tyro.conf.arg(metavar="FOLDER")]
Size = Annotated[OptionalText, tyro.conf.arg(metavar="HEIGHTxWIDTH", help_behavior_hint="")]
Changes = Annotated[tyro.conf.UseAppendAction[Texts], tyro.conf.arg(metavar="KEY=VALUE")]
Fit = Literal["pad", "crop", "exact"]


@dataclass(kw_only=True)
class Compute:
    """Where and how to compute."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """`auto` (CUDA, MPS, CPU in that order), `cpu`, `cuda`, `cuda:1` or `mps`."""

    precision: Annotated[str, tyro.conf.arg(metavar="PRECISION")] = "fp32"
    """`fp32`, `bf16`, `fp16` or `auto`."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """The same seed gives the same result."""


@dataclass(kw_only=True)
class Use(Compute):
    """What a model is read from, beside its file, and how much memory it may use."""

    config: Annotated[OptionalText, tyro.conf.arg(metavar="FILE.yaml", help_behavior_hint="")] = None
    """The configuration of an original checkpoint; by default the one beside it or in `configs/`."""

    set: Changes = field(default_factory=list)
    """What a checkpoint's own configuration does not tell: `--set prior.num_heads=16`."""

    memory: Annotated[OptionalNumber, tyro.conf.arg(metavar="GB", help_behavior_hint="")] = None
    """Memory beside the weights, in GB of 2^30 bytes; by default 4, on CUDA half of the device's. Images that do not
    fit pass in bands of rows, more slowly, through a file in the folder for temporary files."""

    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace also files that vqgan did not write."""


@dataclass(kw_only=True)
class Decoding(Use):
    """How tokens are drawn."""

    temperature: Annotated[float, tyro.conf.arg(metavar="T")] = 1.0
    """Above 1 is bolder, below 1 safer, 0 always takes the most probable code."""

    top_k: Annotated[OptionalInteger, tyro.conf.arg(metavar="K", help_behavior_hint="")] = None
    """Draw from the K most probable codes only."""

    top_p: Annotated[OptionalNumber, tyro.conf.arg(metavar="P", help_behavior_hint="")] = None
    """Draw from the most probable codes that together have the probability P."""

    batch_size: Annotated[int, tyro.conf.arg(metavar="N")] = 16
    """Images that are computed together; it changes speed and memory, not the images."""

    jacobi: Annotated[OptionalInteger, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Guess N tokens ahead and read them at once: sooner where much is easy to guess. The same images in
    fp32, but for near-ties; in bf16 products of other shapes round differently, and about 1 token in 40 differs."""

    frames: Annotated[OptionalInteger, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Also write about N pictures of the first image as it grows, an animation and a page, in `frames/`."""

    def settings(self) -> dict[str, Any]:
        """The arguments of ``Synthesizer.sample`` and ``complete`` that these flags give.

        Raises:
            ConfigError: If ``--memory`` is out of range.
        """
        return {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "jacobi": self.jacobi,
            "memory": bytes_of(self.memory),
        }


def check_batch_size(size: int) -> None:
    """Raises ConfigError unless ``--batch-size`` is at least 1."""
    if size < 1:
        raise ConfigError(f"`--batch-size` is {size}, expected 1 or more")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Reads `96x80` (height x width) or `256` (a square).

    Raises:
        ConfigError: If the text is neither.

    Example:
        >>> parse_size("96x80"), parse_size("256"), parse_size(None)
        ((96, 80), (256, 256), None)
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(
            f"`{text}` is not a size", hint="write `HEIGHTxWIDTH`, for example `96x80`, or `256` for a square"
        )
    return int(parts[0]), int(parts[-1])


def bytes_of(gigabytes: float | None) -> int | None:
    """The bytes of ``--memory``.

    Raises:
        ConfigError: If it is out of range.

    Example:
        >>> bytes_of(0.5), bytes_of(None)
        (536870912, None)
    """
    if gigabytes is None:
        return None
    if not 0 < gigabytes < 2**20:
        raise ConfigError(
            f"`--memory` is {gigabytes}, expected a number above 0 and below {2**20}",
            hint="it counts GB of 2^30 bytes: `--memory 4`",
        )
    return max(1, int(gigabytes * 2**30))
