"""``vqgan doctor``: what this machine offers and what is missing."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator

import torch

from vqgan.cache import cache_folder
from vqgan.checkpoints.load import best_precision, pick_device
from vqgan.cli import commands
from vqgan.errors import require
from vqgan.version import __version__

CORE = ("torch", "numpy", "pillow", "safetensors", "pyyaml", "msgspec", "accelerate", "jaxtyping")
EXTRAS = {"ale-py": "demo", "scikit-learn": "demo", "tensorboard": "log", "transformers": "extract"}
"""Optional packages, and the extra that installs each."""


def doctor(flags: commands.Doctor) -> None:
    """Prints a line for each check. Raises ConfigError if something does not work."""
    problems = []
    for name, text, works in _checks():
        print(f"{name:<14}{text}")
        problems += [] if works else [name]
    hint = "reinstall the package in a new environment"
    require(not problems, f"not in order: {', '.join(problems)}", hint=hint)


def _checks() -> Iterator[tuple[str, str, bool]]:
    """Name, finding, and whether it is in order."""
    yield "vqgan", __version__, True
    yield "python", f"{platform.python_version()} on {platform.platform()}", True
    yield "processors", f"{os.cpu_count()}, {torch.get_num_threads()} threads in use", True
    for package in (*CORE, *EXTRAS):
        try:
            yield package, importlib.metadata.version(package), True
        except importlib.metadata.PackageNotFoundError:
            how = f': pip install "vqgan[{EXTRAS[package]}]"' if package in EXTRAS else ""
            yield package, f"not installed{how}", package in EXTRAS
    device = pick_device("auto")
    ones = torch.ones(1, 1, 3, 3, device=device)
    right = float(torch.nn.functional.conv2d(ones, ones)) == 9.0
    text = f"{device}: computes {'right' if right else 'WRONG'}, fastest in {best_precision(device)}"
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        text += f", {torch.cuda.get_device_name(device)}, {memory / 1e9:.0f} GB"
    yield "device", text, right
    cache = cache_folder()
    place = next(folder for folder in (cache, *cache.parents) if folder.exists())
    state, writable = "exists" if cache.exists() else "will be made when needed", os.access(place, os.W_OK)
    free = f"{shutil.disk_usage(place).free / 1e9:.0f} GB free" if writable else "cannot be written"
    yield "cache", f"{cache} ({state}, {free})", writable
