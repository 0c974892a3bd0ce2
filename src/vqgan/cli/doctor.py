"""``vqgan doctor``: what this machine offers and what is missing."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class Doctor:
    """Checks versions, devices, optional packages, the cache and a small computation."""

    def run(self) -> None:
        """Prints a line for each check.

        Raises:
            ConfigError: If something does not work.
        """
        import importlib.metadata
        import os
        import platform
        import shutil

        import torch

        from vqgan.cache import cache_folder
        from vqgan.checkpoints.load import pick_device
        from vqgan.version import __version__

        print(f"{'vqgan':<14}{__version__}")
        print(f"{'python':<14}{platform.python_version()} on {platform.platform()}")
        print(f"{'processors':<14}{os.cpu_count()}, {torch.get_num_threads()} threads in use")
        for package in ("torch", "numpy", "pillow", "safetensors", "accelerate"):
            print(f"{package:<14}{importlib.metadata.version(package)}")
        for package, extra in (("ale-py", "demo"), ("scikit-learn", "demo"), ("tensorboard", "log")):
            try:
                line = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                line = f"not installed: `pip install vqgan[{extra}]`"
            print(f"{package:<14}{line}")
        device = pick_device("auto")
        result = torch.nn.functional.conv2d(
            torch.ones(1, 1, 3, 3, device=device), torch.ones(1, 1, 3, 3, device=device)
        )
        print(f"{'device':<14}{device}: computes {'right' if float(result) == 9 else 'WRONG'}")
        if device.type == "cuda":
            name, memory = (
                torch.cuda.get_device_name(device),
                torch.cuda.get_device_properties(device).total_memory,
            )
            print(f"{'':<14}{name}, {memory / 1e9:.0f} GB")
        cache = cache_folder()
        place = next(folder for folder in (cache, *cache.parents) if folder.exists())
        state = "exists" if cache.exists() else "will be made when needed"
        print(f"{'cache':<14}{cache} ({state}, {shutil.disk_usage(place).free / 1e9:.0f} GB free)")
