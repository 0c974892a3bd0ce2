"""Where images come from. A new kind is one file, one word in the union and one case in ``open_source``."""

import re
from pathlib import Path
from typing import assert_never

from vqgan.data.atari import AtariConfig, open_atari
from vqgan.data.codes import CodesConfig, CodesSource
from vqgan.data.datasets import DATASETS, DatasetConfig, open_dataset
from vqgan.data.digits import DigitsConfig, open_digits
from vqgan.data.given import Items, MemoryConfig, given_source
from vqgan.data.grand_challenge import GrandChallengeConfig, open_grand_challenge
from vqgan.data.hub import HubConfig, open_hub
from vqgan.data.idx import IdxConfig, open_idx
from vqgan.data.image_files import FolderConfig, ListConfig, WhichFrames, open_folder, open_list
from vqgan.data.sample import SampleConfig, open_sample
from vqgan.data.shards import ShardsConfig, open_shards
from vqgan.data.source import Source
from vqgan.errors import ConfigError, closest
from vqgan.types import OnProgress

PathConfig = (
    FolderConfig | GrandChallengeConfig | HubConfig | IdxConfig | ListConfig | ShardsConfig | CodesConfig
)
PATH_KINDS: dict[str, type[PathConfig]] = {
    "agc": GrandChallengeConfig,
    "codes": CodesConfig,
    "folder": FolderConfig,
    "hf": HubConfig,
    "list": ListConfig,
    "idx": IdxConfig,
    "shards": ShardsConfig,
}
SourceConfig = PathConfig | AtariConfig | DatasetConfig | DigitsConfig | SampleConfig
Data = str | Path | SourceConfig | Source | Items | None
"""What says where images come from: a source's name or configuration, or the images themselves."""


def parse_source(text: str) -> SourceConfig:
    """The source that ``--data`` names.

    ``atari:GAME`` and ``sample:NAME`` (several with commas), ``digits``, ``folder:PATH``, ``list:PATH``,
    ``idx:PATH``, ``shards:PATTERN`` (tar files), ``hf:NAME`` (Hugging Face), ``agc:PATH`` (Atari Grand Challenge) and
    ``codes:PATH`` say what they are, as does the name of a data set: ``coco:PATH``, or ``coco.segmentation:PATH`` for
    its maps. ``atari:GAME@UP,1`` are frames after these actions. Any other text is a path: of IDX files or shards if
    its name says so, of a list if it is a file or ends in ``.txt``, else of a folder.

    Raises:
        ConfigError: If the text begins with an unknown kind, names an unknown picture, or is empty.

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
            games, at, actions = rest.partition("@")
            return AtariConfig(games=_words(games), actions=_words(actions) if at else ())
        case "sample" if rest:
            return SampleConfig(names=_words(rest))
        case "digits" if not colon:
            return DigitsConfig()
        case _ if rest and kind in PATH_KINDS:
            return PATH_KINDS[kind](path=rest)
        case _ if rest and kind.partition(".")[0] in DATASETS:
            return DatasetConfig(name=kind.partition(".")[0], path=rest, maps=kind.partition(".")[2])
    if not text or (colon and not path.exists() and re.fullmatch(r"[a-z][a-z0-9._]+", kind)):
        hint = closest(kind, ("atari", "digits", "sample", *PATH_KINDS, *DATASETS))
        raise ConfigError(
            f"unknown data source `{text}`", hint=f"{hint}; or give a folder or a text file of paths"
        )
    if re.search(r"idx[13]-ubyte(\.gz)?$", path.name):
        return IdxConfig(path=text)
    if path.suffix.lower() == ".tar":
        return ShardsConfig(path=text)
    if path.is_file() or path.suffix.lower() in (".txt", ".tsv", ".lst"):
        return ListConfig(path=text)
    return FolderConfig(path=text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


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
    on_progress: OnProgress | None = None,
    *,
    frames: WhichFrames = "first",
    consecutive: bool = False,
) -> Source:
    """All images of a source; :meth:`Source.part` gives those to train on or those held out.

    Args:
        config: The source, or the images themselves.
        on_progress: Told about sources that must be made first (games are played); others open immediately.
        frames: Of animated files: the first, or all as images of their own.
        consecutive: Whether frames of games are to follow each other; otherwise they are as different as possible.

    Raises:
        ConfigError: If the source needs a package that is not installed, or was given in Python.
        DataError: If it cannot be read or holds no images.
    """
    match config:
        case FolderConfig():
            return open_folder(config, frames)
        case ListConfig():
            return open_list(config, frames)
        case AtariConfig():
            return open_atari(config, on_progress, consecutive=consecutive)
        case CodesConfig():
            return CodesSource(Path(config.path).expanduser())
        case DatasetConfig():
            return open_dataset(config)
        case DigitsConfig():
            return open_digits()
        case GrandChallengeConfig():
            return open_grand_challenge(config)
        case HubConfig():
            return open_hub(config)
        case IdxConfig():
            return open_idx(config)
        case SampleConfig():
            return open_sample(config)
        case ShardsConfig():
            return open_shards(config)
        case Source():
            return config
        case MemoryConfig():
            raise ConfigError(
                "the images of this run were given in Python (`data` or `eval_data`)",
                hint="continue in Python, with the same images: `vqgan.train(None, resume=RUN, data=...)`",
            )
        case _:
            assert_never(config)
