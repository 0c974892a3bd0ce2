"""Where downloads and collected data are kept."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """``$VQGAN_CACHE``, else the folder ``vqgan`` in the platform's cache folder; it need not exist yet."""
    given = os.environ.get("VQGAN_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vqgan"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "vqgan" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqgan"
