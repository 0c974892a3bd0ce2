"""Where images come from. A new kind is one file, one word in the union and one case in ``open_source``."""

import re
from pathlib import Path
from typing import assert_never

from vqgan.data.atari import AtariConfig, AtariSource, open_atari
from vqgan.data.base import Item, Source, Split, split_source
from vqgan.data.digits import DigitsConfig, open_digits
from vqgan.data.files import WhichFrames
from vqgan.data.idx import IdxConfig, find_test_images, open_idx
from vqgan.data.image_folder import FolderConfig, open_folder, read_layout
from vqgan.data.image_list import ListConfig, open_list
from vqgan.data.memory import Items, MemoryConfig, given_source
from vqgan.errors import ConfigError, closest
from vqgan.types import OnProgress

SourceConfig = FolderConfig | ListConfig | AtariConfig | DigitsConfig | IdxConfig
Data = str | Path | SourceConfig | Source | Items | None
"""What says where images come from: a source's name or configuration, or the images themselves."""


def parse_source(text: str) -> SourceConfig:
    """The source that ``--data`` names.

    ``atari:GAME`` (several with commas), ``digits``, ``folder:PATH``, ``list:PATH`` and ``idx:PATH`` say what
    they are. Any other text is a path: of IDX files if its name says so, of a list if it is a file or ends in
    ``.txt``, else of a folder.

    Raises:
        ConfigError: If the text begins with an unknown kind, or is empty.

    Example:
        >>> parse_source("idx:mnist").path
        'mnist'
        >>> type(parse_source("photos")).__name__
        'FolderConfig'
    """
    kind, colon, rest = text.partition(":")
    path = Path(text).expanduser()
    match kind:
        case "atari" if rest:
            return AtariConfig(games=tuple(game.strip() for game in rest.split(",")))
        case "digits" if not colon:
            return DigitsConfig()
        case "folder" if rest:
            return FolderConfig(path=rest)
        case "list" if rest:
            return ListConfig(path=rest)
        case "idx" if rest:
            return IdxConfig(path=rest)
    if not text or (colon and not path.exists() and re.fullmatch(r"[a-z]{2,}", kind)):
        hint = closest(kind, ("atari", "digits", "folder", "idx", "list"))
        raise ConfigError(
            f"unknown data source `{text}`", hint=f"{hint}; or give a folder or a text file of paths"
        )
    if re.search(r"idx[13]-ubyte(\.gz)?$", path.name):
        return IdxConfig(path=text)
    if path.is_file() or path.suffix.lower() in (".txt", ".tsv", ".lst"):
        return ListConfig(path=text)
    return FolderConfig(path=text)


def source_of(data: Data) -> SourceConfig | Source | None:
    """The source that is named, or the images themselves that are given in Python.

    Raises:
        ConfigError: If the data is of no known kind.
        DataError: If it holds no images.
    """
    if data is None or isinstance(data, Source | SourceConfig):
        return data
    return parse_source(str(data)) if isinstance(data, str | Path) else given_source(data)


def open_source(
    config: SourceConfig | MemoryConfig | Source,
    split: Split,
    on_progress: OnProgress | None = None,
    *,
    frames: WhichFrames = "first",
) -> Source:
    """The images of a source: those to train on, those held out, or all.

    Args:
        config: The source, or the whole of its images.
        split: Which part of it.
        on_progress: Told about sources that must be made first (games are played); others open at once.
        frames: Of animated files: the first, or all as images of their own.

    Raises:
        ConfigError: If the source needs a package that is not installed, or was given in Python.
        DataError: If it cannot be read or holds no images.
    """
    match config:
        case FolderConfig():
            return open_folder(config, split, frames)
        case ListConfig():
            return open_list(config, split, frames)
        case AtariConfig():
            return open_atari(config, split, on_progress)
        case DigitsConfig():
            return open_digits(config, split)
        case IdxConfig():
            return open_idx(config, split)
        case Source():
            return split_source(config, split)
        case MemoryConfig():
            hint = "go on in Python, with the same images: `vqgan.train(None, resume=RUN, data=...)`"
            raise ConfigError(
                "the images of this run were given in Python (`data` or `eval_data`)", hint=hint
            )
        case _:
            assert_never(config)


def brings_heldout(config: SourceConfig | MemoryConfig | Source) -> bool:
    """Whether the held-out images are the source's own (other files, other games) and no share of its images.

    Raises:
        DataError: If the source cannot be read.
    """
    match config:
        case AtariConfig():
            return True
        case IdxConfig():
            return find_test_images(config) is not None
        case FolderConfig():
            return bool(read_layout(config).held_out)
        case ListConfig() | DigitsConfig() | MemoryConfig() | Source():
            return False
        case _:
            assert_never(config)


__all__ = [
    "AtariConfig",
    "AtariSource",
    "Data",
    "DigitsConfig",
    "FolderConfig",
    "IdxConfig",
    "Item",
    "ListConfig",
    "MemoryConfig",
    "Source",
    "SourceConfig",
    "Split",
    "WhichFrames",
    "brings_heldout",
    "open_source",
    "parse_source",
    "source_of",
]
