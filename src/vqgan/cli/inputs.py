"""Models and images that the commands are given."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vqgan.checkpoints.format import Header
from vqgan.checkpoints.load import load_with_header
from vqgan.data.files import ENDINGS, natural
from vqgan.errors import CheckpointError, DataError
from vqgan.images import printable, read_images
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Named:
    """An image with the name that its result will have: its path below the folder it was found in, without ending."""

    name: str
    path: Path
    images: Tensor


def load_tokenizer(path: str, *, device: str, precision: str) -> tuple[Tokenizer, Header]:
    """The tokenizer of a file or run; a synthesizer lends its own."""
    model, header = load_with_header(Path(path), device=device, precision=precision)
    return (model.tokenizer if isinstance(model, Synthesizer) else model), header


def load_synthesizer(path: str, *, device: str, precision: str) -> tuple[Synthesizer, Header]:
    """The synthesizer of a file or run.

    Raises:
        CheckpointError: If there is only a tokenizer.
    """
    model, header = load_with_header(Path(path), device=device, precision=precision)
    if not isinstance(model, Synthesizer):
        raise CheckpointError(
            f"`{path}` holds a tokenizer; new images need a prior",
            hint="train one with `vqgan train prior --tokenizer ...`",
        )
    return model, header


def find_images(paths: Sequence[str]) -> list[tuple[str, Path]]:
    """The image files of the given files and folders (recursively), each with its name.

    Raises:
        DataError: If a path does not exist or a folder holds no images.
    """
    found: list[tuple[str, Path]] = []
    for given in map(Path, paths):
        if given.is_dir():
            below = [p for p in given.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file()]
            relative = sorted((p.relative_to(given) for p in below), key=lambda p: natural(p.as_posix()))
            found += [(p.with_suffix("").as_posix(), given / p) for p in relative]
            if not below:
                raise DataError(
                    f"`{given}` holds no images", hint="give a folder with image files, or the files"
                )
        elif given.exists():
            found.append((given.stem, given))
        else:
            raise DataError(f"`{given}` does not exist", hint="check the path")
    return found


def read_named(
    found: Sequence[tuple[str, Path]], *, size: tuple[int, int] | None, channels: int
) -> Iterator[Named]:
    """Reads image after image; one that cannot be read is named on stderr and left out.

    Raises:
        DataError: If none can be read.
    """
    good = 0
    for name, path in found:
        try:
            images = read_images(path, size, channels=channels)
        except DataError as error:
            logger.warning("skipped `%s`: %s", printable(path), error.message)
            continue
        good += 1
        yield Named(name, path, images)
    if not good:
        raise DataError(f"none of {len(found)} images can be read", hint="the reasons stand above")


def known_tokens(spec: str, grid: tuple[int, int]) -> Tensor:
    """The mask (h, w) of ``--keep``: ``top=0.5``, ``bottom``, ``left``, ``right`` with a share, or a picture.

    In a picture, a token is kept where the mean of its square is lighter than middle grey.

    Raises:
        ConfigError: If it is neither.
    """
    import torch

    from vqgan.errors import ConfigError

    rows, columns = grid
    side, equals, share = spec.partition("=")
    mask = torch.zeros(grid, dtype=torch.bool)
    if not equals:
        if not Path(spec).is_file():
            raise ConfigError(
                f"`{spec}` is no part of an image", hint="write `top=0.5`, `left=0.5`, or give a picture"
            )
        return read_images(spec, grid, channels=1)[0, 0] > 0
    try:
        part = float(share)
    except ValueError:
        part = -1.0
    if side not in ("top", "bottom", "left", "right") or not 0 <= part <= 1:
        raise ConfigError(
            f"`{spec}` is no part of an image",
            hint="write `top=0.5`, `bottom`, `left` or `right`, with 0 to 1",
        )
    high, wide = round(rows * part), round(columns * part)
    match side:
        case "top":
            mask[:high] = True
        case "bottom":
            mask[rows - high :] = True
        case "left":
            mask[:, :wide] = True
        case _:
            mask[:, columns - wide :] = True
    return mask
