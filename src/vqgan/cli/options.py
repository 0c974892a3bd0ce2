"""Flags that several commands share; no torch here, so that every ``--help`` is quick."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class Compute:
    """Where and how to compute."""

    device: str = "auto"
    """`auto` (CUDA, MPS, CPU in that order), `cpu`, `cuda`, `cuda:1` or `mps`."""

    precision: str = "fp32"
    """`fp32`, `bf16`, `fp16` or `auto`."""

    seed: int = 0
    """The same seed gives the same result."""


@dataclass(kw_only=True)
class Decoding(Compute):
    """How tokens are drawn."""

    temperature: float = 1.0
    """Above 1 is bolder, below 1 safer, 0 always takes the most probable code."""

    top_k: int | None = None
    """Draw from the k most probable codes only."""

    top_p: float | None = None
    """Draw from the most probable codes that together have this probability."""

    batch_size: int = 16
    """Images that are computed together; it changes speed and memory, not the images."""


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Reads `96x80` (height x width) or `256` (a square).

    Raises:
        ConfigError: If the text is neither.

    Example:
        >>> parse_size("96x80"), parse_size("256"), parse_size(None)
        ((96, 80), (256, 256), None)
    """
    from vqgan.errors import ConfigError

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(
            f"size `{text}` is not a size", hint="write `HEIGHTxWIDTH`, for example `96x80`, or `256`"
        )
    return int(parts[0]), int(parts[-1])
