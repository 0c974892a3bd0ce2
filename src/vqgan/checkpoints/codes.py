"""Codes on disk: ``codes.npy`` (images, rows, columns) and ``codes.json`` with names and the tokenizer's digest."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from jaxtyping import Integer

from vqgan.checkpoints.format import digest_of
from vqgan.errors import ConfigError, DataError
from vqgan.output_files import output_errors, replace_file, write_json
from vqgan.tokenizer import Tokenizer

Codes = Integer[np.ndarray, "b h w"]


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """Names a tokenizer by its weights, wherever they are stored; take it before they are cast from fp32."""
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
        codes: What is written.
        names: One for each image.
        tokenizer: What made them, in any precision.
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
        folder.mkdir(parents=True, exist_ok=True)
        # Written last: codes without it, or with those of another array, are never taken for complete.
        (folder / "codes.json").unlink(missing_ok=True)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, codes.astype(dtype), allow_pickle=False)

    replace_file(path, write)
    description = {
        "names": list(names),
        "tokenizer": digest,
        "codebook_size": tokenizer.codebook_size,
        "downsample_factor": tokenizer.downsample_factor,
    } | ({"sizes": [list(size) for size in sizes]} if sizes else {})
    write_json(folder / "codes.json", description)
    return path


def load_codes(folder: Path, *, digest: str) -> tuple[Codes, list[str], list[tuple[int, int]]]:
    """Reads codes, the names of their images, and their sizes; without sizes, nothing was padded.

    Args:
        folder: Where the two files are.
        digest: The :func:`tokenizer_digest` of the tokenizer that will decode them.

    Raises:
        DataError: If the files are missing, empty or damaged, or another tokenizer made the codes.
    """
    if (folder / "codes.npy").exists() and not (folder / "codes.json").exists():
        raise DataError(
            f"`{folder}` has `codes.npy` but no `codes.json`, which names the images and their tokenizer",
            hint="copy both files that `vqgan encode` wrote; from Python, `tokenizer.decode` takes codes alone",
        )
    if folder.is_file():
        what = "is a file, expected the folder with `codes.npy` and `codes.json`"
        raise DataError(f"`{folder}` {what}", hint=f"give its folder, `{folder.parent}`")
    try:
        description = json.loads((folder / "codes.json").read_text(encoding="utf-8"))
        names, made_by = [str(name) for name in description["names"]], str(description["tokenizer"])
        sizes = [(int(height), int(width)) for height, width in description.get("sizes", ())]
        # Mapped first: a header that announces more than the file holds costs no memory.
        mapped = np.lib.format.open_memmap(folder / "codes.npy", mode="r")
    except OSError as error:
        raise DataError(
            f"cannot read codes from `{folder}`: {(error.strerror or str(error)).lower()}",
            hint="give a folder that `vqgan encode` wrote",
        ) from None
    except (ValueError, KeyError, TypeError, EOFError, OverflowError, RecursionError) as error:
        raise DataError(f"the codes in `{folder}` are damaged: {type(error).__name__} {error}") from None
    if made_by != digest:
        raise DataError(
            f"the codes in `{folder}` were made by another tokenizer ({made_by[:12]})",
            hint="decode with the tokenizer that encoded them",
        )
    if mapped.ndim != 3 or mapped.dtype.kind not in "iu":
        raise DataError(f"`{folder / 'codes.npy'}` is no array (images, rows, columns) of integers")
    if 0 in mapped.shape:
        raise DataError(
            f"`{folder / 'codes.npy'}` holds no codes: its shape is {mapped.shape}",
            hint="give a folder that `vqgan encode` wrote",
        )
    if len(mapped) != len(names):
        raise DataError(f"`{folder}` holds codes of {len(mapped)} images and {len(names)} names")
    if len(sizes) not in (0, len(names)) or any(not 0 < side < 1 << 31 for size in sizes for side in size):
        raise DataError(f"the sizes in `{folder}/codes.json` are not one of each image")
    for name in names:
        if _leads_out(name):
            raise DataError(f"the name `{name}` in `{folder}/codes.json` leads out of the folder")
    return np.array(mapped), names, sizes


def _leads_out(name: str) -> bool:
    """Whether a name from a file must not become a path, on any system."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return not name or "\0" in name or any(path.anchor or ".." in path.parts for path in paths)
