"""Where the original's checkpoints and their configurations lie: the folders in which they were published."""

from pathlib import Path

from vqgan.checkpoints.taming_run import is_original
from vqgan.config import read_yaml
from vqgan.errors import CheckpointError, ConfigError, printable

ENDINGS = ((".ckpt", ".pt", ".pth"), (".safetensors",))


def find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint in a folder of the published layout: ``checkpoints/last.ckpt``, or the only one there is."""
    for place in (folder / "checkpoints", folder):
        last = place / "last.ckpt"
        if last.is_file():
            return last
        for endings in ENDINGS:
            found = [path for path in _files(place) if path.suffix in endings]
            if len(found) == 1:
                return found[0]
    return None


def find_config(path: Path) -> Path | None:
    """The configuration that was published with a checkpoint.

    Looked for, in this order: a file of the checkpoint's own name beside it; ``model.yaml``, ``config.yaml`` or the
    only YAML file beside it; the same in ``configs/`` beside it and beside its folder, where
    ``...-project.yaml`` comes first, the newest of several.

    Returns:
        Its path; None if there is no YAML file at all.

    Raises:
        CheckpointError: If those that there are cannot be read, or several may be meant.
    """
    folder = path.parent
    own = path.with_suffix(".yaml")
    if own.is_file():
        return own
    places = (folder, folder / "configs", folder.parent / "configs")
    broken: list[str] = []
    for place in places:
        seen = {file: _why_not(file) for file in _entries(place) if file.suffix in (".yaml", ".yml")}
        broken += [reason for reason in seen.values() if reason]
        found = [file for file, reason in seen.items() if not reason]
        projects = [file for file in found if file.stem.endswith("-project")]
        named = [file for file in found if file.stem in ("model", "config")]
        for group in (projects[-1:], named[:1], found if len(found) == 1 else []):
            if group:
                return group[0]
        if found:
            names = ", ".join(f"`{file.name}`" for file in found[:5])
            raise CheckpointError(
                f"several configurations may belong to `{path}`: {names}", hint="name one with `config=`"
            )
    if broken:
        reasons = "; ".join(broken[:3])
        raise CheckpointError(
            f"`{path}` needs the configuration that it was published with; what was found is none: {reasons}",
            hint='download that file again, or give another with `config="model.yaml"`',
        )
    return None


def _files(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_file()]


def _entries(folder: Path) -> list[Path]:
    """Whatever lies in a folder, in order."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _why_not(file: Path) -> str:
    """Why a file is no configuration of the original; empty if it is one."""
    try:
        return "" if is_original(read_yaml(file)) else f"`{file}` has no `model` with a `target`"
    except ConfigError as error:
        return printable(error.message)
