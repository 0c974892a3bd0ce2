"""The budget of memory that is used when none is given."""

import torch

DEFAULT_MEMORY = 4 * 2**30
"""Bytes on a CPU and on MPS. Fixed: what else runs on the machine must not change how images are batched."""


def default_memory(device: torch.device) -> int:
    """Bytes beside the weights: half of a CUDA device's memory, elsewhere 4 GiB."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory // 2
    return DEFAULT_MEMORY
