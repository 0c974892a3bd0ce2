"""The package's version, read from its installed metadata."""

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("vqgan")
    except PackageNotFoundError:
        return "0+unknown"


__version__ = _installed()
