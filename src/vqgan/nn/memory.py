"""How much memory may be used beside the weights."""

import torch

from vqgan.errors import ConfigError
from vqgan.types import is_number

DEFAULT_MEMORY = 4 * 2**30
"""Bytes on a CPU and on MPS. Fixed: what else runs on the machine must not change how images are batched."""


def memory_budget(given: int | None, device: torch.device) -> int:
    """Bytes: those that were given, else half of a CUDA device's memory, elsewhere 4 GiB."""
    if given is not None:
        if not is_number(given):
            raise ConfigError(
                f"`memory` is {given!r}, expected a number of bytes", hint="4 GB are `memory=4 * 2**30`"
            )
        return int(given)
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory // 2
    return DEFAULT_MEMORY
