"""Models and images that the commands are given."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vqgan.checkpoints.codes import tokenizer_digest
from vqgan.checkpoints.format import Header, tokenizer_of
from vqgan.checkpoints.load import load_with_header, pick_device, place, precision_of
from vqgan.cli.commands import Use
from vqgan.cli.flags import Size
from vqgan.cli.processes import rank, together, world
from vqgan.errors import CheckpointError, ConfigError, DataError, require
from vqgan.images import (
    fit,
    fit_map,
    list_images,
    map_pixels,
    one_hot,
    printable,
    read_images,
    read_map,
    read_pixels,
    to_float,
    with_channels,
)
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer, crop_to_multiple, memory_budget, pad_to_multiple
from vqgan.types import Images

logger = logging.getLogger(__name__)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Named:
    """An image in a size that the tokenizer takes, its own height and width, and the name that its result will have."""

    name: str
    path: Path
    images: Images
    size: Size


def load_tokenizer(flags: Use) -> tuple[Tokenizer, Header, str, int]:
    """The tokenizer of a file or run (also of a prior's), its header, its digest in codes, and the memory to use.

    The digest is that of the weights as they are stored: in every precision it is the same tokenizer. The memory is
    that beside the weights, in bytes.
    """
    target = pick_device(flags.device)  # before the weights are read
    model, header = load_with_header(Path(flags.model), flags.config, flags.set, device="cpu")
    tokenizer = tokenizer_of(model, flags.model)
    digest = tokenizer_digest(tokenizer)
    tokenizer = place(tokenizer, target, flags.precision)
    logger.info("the tokenizer computes on %s in %s", target, precision_of(tokenizer))
    return tokenizer, header, digest, memory_of(flags, tokenizer)


def load_synthesizer(flags: Use) -> tuple[Synthesizer, Header]:
    """The synthesizer of a file or run. Raises CheckpointError if there is no prior."""
    path, how = Path(flags.model), {"device": flags.device, "precision": flags.precision}
    model, header = load_with_header(path, flags.config, flags.set, **how)
    if not isinstance(model, Synthesizer):
        tokenizer = path if isinstance(model, Tokenizer) else "RUN"
        hint = f"train one: `vqgan train prior PRESET --tokenizer {tokenizer} ...`"
        raise CheckpointError(f"`{path}` holds a {header.kind}; new images need a prior", hint=hint)
    return model, header


def memory_of(flags: Use, tokenizer: Tokenizer) -> int:
    """The bytes beside the weights that a command may use."""
    return memory_budget(flags.memory_bytes, tokenizer.weight.device)


def find_images(paths: Sequence[str]) -> list[tuple[str, Path]]:
    """The image files of the given files and folders (read with their sub-folders), each with its result's name.

    The name is the path below the given folder, without its ending; a second one of a name is called ``name-2``.

    Raises:
        ConfigError: If no path is given.
        DataError: If a path does not exist or a folder holds no images.
    """
    hint = "name image files, or folders of them"
    require(bool(paths), "no images were given", hint=hint)
    found: list[tuple[str, Path]] = []
    for given in map(Path, paths):
        if given.is_dir():
            found += [(Path(path).with_suffix("").as_posix(), given / path) for path in list_images(given)]
        elif given.exists():
            found.append((given.stem, given))
        else:
            raise DataError(f"`{printable(given)}` does not exist", hint="check the path")
    names = different([name for name, _ in found])
    return [(name, path) for name, (_, path) in zip(names, found, strict=True)]


def different(names: Sequence[str]) -> list[str]:
    """The names, numbered where one came before; in capitals or not, as some file systems cannot tell."""
    taken: dict[str, str] = {}
    for name in names:
        numbered = chain([name], (f"{name}-{number}" for number in count(2)))
        free = next(each for each in numbered if each.casefold() not in taken)
        taken[free.casefold()] = free
    return list(taken.values())


def read_named(
    found: Sequence[tuple[str, Path]], size: Size | None, tokenizer: Tokenizer, fit: str = "exact"
) -> Iterator[Named]:
    """Reads image after image; one that cannot be read is named on stderr and skipped.

    Args:
        found: Files, each with its result's name.
        size: To which images are resized and cropped first; None keeps theirs.
        tokenizer: Takes images of multiples of its factor.
        fit: How they get there: ``pad`` at the right and below, ``crop`` to the centre, or ``exact`` as they are.

    Raises:
        ConfigError: If the factor does not divide an image's size, and ``fit`` does not help.
        DataError: If none can be read.
    """
    for name, path, images in readable(found, lambda path: _read(path, size, tokenizer)):
        height, width = images.shape[2:]
        yield Named(name, path, _fitted(images, path, fit, tokenizer.downsample_factor), (height, width))


def readable(
    found: Sequence[tuple[str, Path]], read: Callable[[Path], Value]
) -> Iterator[tuple[str, Path, Value]]:
    """Each file with its result's name and what is read; skips what cannot be. Raises DataError if no process can."""
    can_read = False
    for name, path in found:
        try:
            value = read(path)
        except (DataError, ConfigError, CheckpointError) as error:
            logger.warning("skipped `%s`: %s", printable(path), error)
            continue
        can_read = True
        yield name, path, value
    if not any(together({rank(): can_read}, range(world())).values()):
        problem = f"none of the {len(found)} images can be read"
        raise DataError(problem, hint="the reasons are in the lines above")


def _read(path: Path, size: Size | None, tokenizer: Tokenizer) -> Images:
    """An image as a batch of one; of a tokenizer of label maps, a label map."""
    labels = len(tokenizer.config.label_names)
    if not labels:
        return read_images(path, size, channels=tokenizer.image_channels)
    values = read_map(path, 1, labels)
    pixels = map_pixels(values if size is None else fit_map(values, size), labels)
    return one_hot(to_float(pixels)[None], labels)


def _fitted(images: Images, path: Path, fit: str, factor: int) -> Float[Tensor, "b c H2 W2"]:
    if fit == "pad":
        return pad_to_multiple(images, factor)[0]
    height, width = images.shape[2:]
    fits = height % factor == 0 and width % factor == 0
    require(
        fits or (fit == "crop" and min(height, width) >= factor),
        f"`{printable(path)}` has {height}x{width} pixels; height and width must be multiples of {factor}",
        hint=f"omit `--fit {fit}`: the image is then padded, and cut back; or give `--size HEIGHTxWIDTH`",
    )
    return crop_to_multiple(images, factor)


SIDES = "top", "bottom", "left", "right"


def kept_pixels(spec: str, size: Size) -> Bool[Tensor, "H W"]:
    """The mask of ``--keep``: ``top=0.5``, ``bottom``, ``left``, ``right`` with a share, or a picture.

    In a picture, a pixel is kept where it is lighter than middle grey. What is transparent is drawn; another size or
    shape is fitted as the images are.

    Args:
        spec: The value of the flag.
        size: Height and width of the images.

    Raises:
        ConfigError: If it is neither.
        DataError: If the picture is missing or cannot be read.
    """
    if Path(spec).is_file():
        pixels = read_pixels(spec, 4)
        light = with_channels(pixels[:, :, :3], 1) * (pixels[:, :, 3:] / 255)  # over black
        picture = np.rint(light).astype(np.uint8)
        if picture.shape[:2] != size:
            what = "the mask `%s` has %dx%d pixels: resized to %dx%d, the centre of another shape"
            logger.info(what, printable(spec), *picture.shape[:2], *size)
        mask = torch.from_numpy(fit(picture, size)[:, :, 0] >= 128)
    else:
        mask = _kept_part(spec, size)
    if mask.all():
        hint = "in a mask, black or transparent is what is drawn"
        logger.warning("`--keep %s` keeps everything: nothing is left to draw; %s", printable(spec), hint)
    if not mask.any():
        logger.warning("`--keep %s` keeps nothing: all is drawn, as by `vqgan sample`", printable(spec))
    return mask


def _kept_part(spec: str, size: Size) -> Bool[Tensor, "H W"]:
    side, _, share = spec.partition("=")
    if side not in SIDES and Path(spec).suffix[1:].isalpha():
        raise DataError(f"the mask `{printable(spec)}` does not exist", hint="check the path")
    try:
        part = float(share)
    except ValueError:
        part = -1.0
    require(
        side in SIDES and 0 <= part <= 1,
        f"`{spec}` is neither a part of an image nor a picture",
        hint="write `--keep top=0.5` (or `bottom`, `left`, `right`, with 0 to 1), or give a mask's file",
    )
    mask = torch.zeros(size, dtype=torch.bool)
    lines = mask if side in ("top", "bottom") else mask.T
    count = round(len(lines) * part)
    lines[slice(count) if side in ("top", "left") else slice(len(lines) - count, None)] = True
    return mask
