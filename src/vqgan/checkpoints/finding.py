"""Finds the file that a path refers to: in run folders, in published folders, and configurations beside checkpoints."""

from pathlib import Path

from vqgan.checkpoints.diffusers import is_diffusers, is_part, pipeline_tokenizer
from vqgan.checkpoints.original_config import is_original
from vqgan.checkpoints.pickles import is_pickle
from vqgan.checkpoints.run_folder import find_weights
from vqgan.checkpoints.tensors import COPY_AGAIN, is_safetensors, refuse_pointer
from vqgan.config import read_yaml
from vqgan.errors import CheckpointError, ConfigError, printable, reason_of

_ENDINGS = ((".ckpt", ".pt", ".pth"), (".safetensors",))


def find_file(path: Path) -> Path:
    """The weights file that a path refers to.

    Raises:
        CheckpointError: If there is none; the message lists what was tried.
    """
    try:
        path.stat()
    except OSError as error:  # absent, forbidden, or a name too long for the file system
        raise CheckpointError(
            f"`{printable(path)}` cannot be read: {reason_of(error)}",
            hint="check the path",
        ) from None
    if path.is_dir():
        found = find_weights(path) or pipeline_tokenizer(path)
        if found is not None:
            return found
        found = find_checkpoint(path)
        if is_diffusers(path) and (found is None or found.suffix == ".safetensors"):
            return path
        if found is None:
            raise CheckpointError(
                f"`{path}` holds no model: tried `prior.safetensors`, `tokenizer.safetensors`, "
                "`classifier.safetensors` and `denoiser.safetensors` in it, in `prior/` and in `tokenizer/`, an "
                "original checkpoint in it and in `checkpoints/`, and diffusers' `config.json` and `model_index.json`",
                hint="give a run folder that has saved at least once, or name the file",
            )
        path = found
    if is_part(path):
        raise CheckpointError(
            f"`{path}` is a part of a diffusers folder", hint=f"give the folder, `{path.parent}`"
        )
    if not is_safetensors(path) and not is_pickle(path):
        raise _no_model(path)
    return path


def _no_model(path: Path) -> CheckpointError:
    """Why a file holds no model, judged by its first bytes. Only regular files are opened: a pipe would block."""
    start = b"-"
    try:
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(1000).lstrip().lower()
            refuse_pointer(path)
    except OSError as error:
        return CheckpointError(
            f"`{path}` cannot be read: {reason_of(error)}", hint="check its rights and the disk"
        )
    if not start:
        return CheckpointError(f"`{path}` is empty", hint=COPY_AGAIN)
    if start.startswith((b"<!doc", b"<html")):
        return CheckpointError(
            f"`{path}` looks like a web page, not a checkpoint: the download failed",
            hint="download the file itself",
        )
    return CheckpointError(
        f"`{path}` holds no model that can be read: it is neither a safetensors file nor a PyTorch checkpoint",
        hint="give a run folder, a `.safetensors` file that vqgan wrote, or a published checkpoint",
    )


def find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint in a folder of the published layout: ``checkpoints/last.ckpt``, or the only one there is."""
    for place in (folder / "checkpoints", folder):
        last = place / "last.ckpt"
        if last.is_file():
            return last
        for endings in _ENDINGS:
            found = [path for path in _entries(place) if path.suffix in endings and path.is_file()]
            if len(found) == 1:
                return found[0]
    return None


def find_config(path: Path) -> Path | None:
    """The configuration that was published with a checkpoint.

    The search order is: a file of the checkpoint's own name beside it; ``model.yaml``, ``config.yaml`` or the
    only YAML file beside it; the same in ``configs/`` beside it and beside its folder, where
    ``...-project.yaml`` comes first, the newest of several.

    Returns:
        Its path; None if there is no YAML file at all.

    Raises:
        CheckpointError: If the candidates cannot be read, or there are several.
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
        if best := projects[-1:] or named[:1] or (found if len(found) == 1 else []):
            return best[0]
        if found:
            names = ", ".join(f"`{file.name}`" for file in found[:5])
            raise CheckpointError(
                f"several configurations could belong to `{path}`: {names}", hint="name one with `config=`"
            )
    if broken:
        reasons = "; ".join(broken[:3])
        raise CheckpointError(
            f"`{path}` needs the configuration that it was published with; what was found cannot be used: {reasons}",
            hint='download that file again, or give another with `config="model.yaml"`',
        )
    return None


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder, sorted; empty if it cannot be listed."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _why_not(file: Path) -> str:
    """Why a file is not a configuration of the original; empty if it is one."""
    try:
        return "" if is_original(read_yaml(file)) else f"`{file}` has no `model` with a `target`"
    except ConfigError as error:
        return printable(error.message)
