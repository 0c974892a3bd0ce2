"""Codes on disk: ``codes.npy`` (images, rows, columns) and ``codes.json`` with names and the tokenizer's digest."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated

import msgspec
import numpy as np
from jaxtyping import Integer

from vqgan.checkpoints.format import digest_of
from vqgan.errors import ConfigError, DataError, printable, reason_of
from vqgan.output_files import output_errors, replace_file, write_json
from vqgan.tokenizer import Tokenizer

Codes = Integer[np.ndarray, "b h w"]

_Side = Annotated[int, msgspec.Meta(gt=0, lt=1 << 31)]


class _Description(msgspec.Struct, omit_defaults=True):
    """What ``codes.json`` holds."""

    names: list[str]
    tokenizer: str
    codebook_size: int = 0
    downsample_factor: int = 0
    sizes: list[tuple[_Side, _Side]] = []


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """Identifies a tokenizer by its weights in fp32, wherever they are stored."""
    return digest_of(tokenizer.state_dict())


def save_codes(
    folder: Path,
    codes: Codes,
    names: Sequence[str],
    tokenizer: Tokenizer,
    *,
    digest: str,
    sizes: Sequence[tuple[int, int]] = (),
) -> Path:
    """Writes codes, in 16 bits where the codebook allows.

    Args:
        folder: Where the two files go.
        codes: The codes of all images.
        names: One for each image.
        tokenizer: The tokenizer that made them, in any precision.
        digest: Its :func:`tokenizer_digest`.
        sizes: Rows and columns of each image, where it was padded to what the tokenizer's factor divides.

    Returns:
        The path of the array.

    Raises:
        ConfigError: If there is not one name for each image.
        OutputError: If the disk refuses.
    """
    if len(names) != len(codes):
        raise ConfigError(f"{len(codes)} images have {len(names)} names, expected one for each")
    dtype = np.uint16 if tokenizer.codebook_size <= 1 << 16 else np.uint32
    path = folder / "codes.npy"
    with output_errors(folder):
        # Written last: without it, codes are incomplete.
        (folder / "codes.json").unlink(missing_ok=True)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, codes.astype(dtype), allow_pickle=False)

    replace_file(path, write)
    description = _Description(
        names=list(names),
        tokenizer=digest,
        codebook_size=tokenizer.codebook_size,
        downsample_factor=tokenizer.downsample_factor,
        sizes=[(height, width) for height, width in sizes],
    )
    write_json(folder / "codes.json", msgspec.to_builtins(description))
    return path


def load_codes(folder: Path, *, digest: str) -> tuple[Codes, list[str], list[tuple[int, int]]]:
    """Reads codes, the names of their images, and their sizes; without sizes, nothing was padded.

    Args:
        folder: Where the two files are.
        digest: The :func:`tokenizer_digest` of the tokenizer that will decode them.

    Raises:
        DataError: If the files are missing, empty or damaged, or another tokenizer made the codes.
    """
    array, table = folder / "codes.npy", folder / "codes.json"
    again = "give a folder that `vqgan encode` wrote"
    if folder.is_file():
        what = "is a file, expected the folder with `codes.npy` and `codes.json`"
        raise DataError(f"`{folder}` {what}", hint=f"give its folder, `{folder.parent}`")
    if array.exists() and not table.exists():
        raise DataError(
            f"`{folder}` has `codes.npy` but no `codes.json`, which names the images and their tokenizer",
            hint="copy both files that `vqgan encode` wrote; from Python, `tokenizer.decode` needs only codes",
        )
    try:
        # Not by `msgspec.json`, which refuses names that are not UTF-8.
        found = msgspec.convert(json.loads(table.read_bytes()), _Description)
        # Mapped first: a header that announces more than the file holds costs no memory.
        mapped = np.lib.format.open_memmap(array, mode="r")
    except OSError as error:
        raise DataError(f"cannot read codes from `{folder}`: {reason_of(error)}", hint=again) from None
    except (msgspec.ValidationError, ValueError, EOFError, OverflowError, RecursionError) as error:
        raise DataError(f"the codes in `{folder}` are damaged: {type(error).__name__} {error}") from None
    if found.tokenizer != digest:
        raise DataError(
            f"the codes in `{folder}` were made by another tokenizer ({printable(found.tokenizer[:12])})",
            hint="decode with the tokenizer that encoded them",
        )
    if mapped.ndim != 3 or mapped.dtype.kind not in "iu":
        raise DataError(f"`{array}` is not an array (images, rows, columns) of integers")
    if 0 in mapped.shape:
        raise DataError(f"`{array}` holds no codes: its shape is {mapped.shape}", hint=again)
    if len(mapped) != len(found.names):
        raise DataError(f"`{folder}` holds codes of {len(mapped)} images and {len(found.names)} names")
    if len(found.sizes) not in (0, len(found.names)):
        raise DataError(f"`{table}` holds {len(found.names)} names and {len(found.sizes)} sizes")
    for name in filter(_leads_out, found.names):
        raise DataError(f"the name `{printable(name)}` in `{table}` leads out of the folder")
    return np.array(mapped), found.names, found.sizes


def _leads_out(name: str) -> bool:
    """Whether a name from a file is unsafe as a path on any system."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return not name or "\0" in name or any(path.anchor or ".." in path.parts for path in paths)
