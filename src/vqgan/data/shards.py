"""Images in tar files, as WebDataset packs them: read where they lie, in any order, without unpacking.

Files that share a key are one sample: ``cats/7.jpg``, ``cats/7.txt`` and ``cats/7.cls`` have the key ``cats/7``. Where
each image begins is found once, by the headers, and kept in the cache; so a run's order is that of a folder's images.
"""

import glob
import hashlib
import io
import logging
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from vqgan.cache import cache_folder
from vqgan.config import Config
from vqgan.data.image_files import PackedSource
from vqgan.errors import DataError, OutputError, printable
from vqgan.images.paths import ENDINGS, natural
from vqgan.images.reading import MAX_FILE_BYTES, Embedded
from vqgan.output_files import replace_file

logger = logging.getLogger(__name__)

MAX_TEXT_BYTES = 1 << 16
"""Longer captions are not read."""

_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)


class ShardsConfig(Config, frozen=True, tag_field="kind", tag="shards"):
    """Images in uncompressed tar files on this machine.

    Attributes:
        path: A tar file, a folder of such, or a pattern: ``data-{0000..0127}.tar``, ``{cats,dogs}-*.tar``. Of each key
            the first image counts. ``.txt`` holds its captions, one a line, ``.cls`` its class, a name or a number.
    """

    path: str


class _Row(NamedTuple):
    """An image in a shard; a size of -1 is that of a link or of what else is no plain file."""

    name: str
    offset: int
    size: int
    class_name: str
    captions: tuple[str, ...]


class ShardSource(PackedSource):
    """Images in tar files. An image's key, for conditions and for what is held out, is that in its shard.

    Args:
        name: What the source is.
        shards: The files.
        found: What each holds.
    """

    def __init__(self, *, name: str, shards: Sequence[Path], found: Sequence[list[_Row]]) -> None:
        rows = [(number, *row) for number, each in enumerate(found) for row in each]
        which, keys, offsets, sizes, classes, captions = zip(*rows, strict=True)
        super().__init__(name=name, keys=keys, classes=classes, captions=captions)
        self._shards, self._places = shards, np.array([which, offsets, sizes])

    def _open(self, index: int) -> Embedded:
        which, offset, size = self._places[:, index].tolist()
        if size < 0:
            raise ValueError("not a regular file")
        with self._shards[which].open("rb") as file:
            file.seek(offset)
            return Embedded(self.label(index), file.read(min(size, MAX_FILE_BYTES + 1)))

    def label(self, index: int) -> str:
        """The path of the shard, and the name in it."""
        return printable(f"{self._shards[self._places[0, index]]}/{self._paths[index]}")


def open_shards(config: ShardsConfig) -> ShardSource:
    """Finds the shards and what they hold: by the cache, or by reading their headers.

    Raises:
        DataError: If a shard is missing or damaged, or there are no images.
    """
    shards, name = list_shards(config.path), printable(config.path)
    logger.info("`%s`: %d shards; the headers of new ones are read", name, len(shards))
    found = [_cached(each) for each in shards]
    if not any(found):
        hint = "an image is `KEY.jpg` or the like, and there is no dot in a key"
        raise DataError(f"the shards `{name}` hold no images", hint=hint)
    return ShardSource(name=name, shards=shards, found=found)


def list_shards(pattern: str) -> list[Path]:
    """The files that a path or a pattern stands for. Raises DataError if one is missing."""
    path, shards = Path(pattern).expanduser(), list[Path]()
    folder = f"{glob.escape(str(path))}/*.tar"
    for each in [folder] if path.is_dir() else [str(path)] if path.exists() else expand(str(path)):
        matches = [each] if Path(each).exists() else sorted(glob.glob(each, recursive=True), key=natural)
        files = [file for one in matches if (file := Path(one)).is_file()]
        if not files:
            hint = "check the path, and the range in braces"
            raise DataError(f"there is no shard `{printable(each)}`", hint=hint)
        shards += files
    return shards


def expand(pattern: str) -> Iterator[str]:
    """The texts that braces stand for.

    Example:
        >>> [*expand("{a,b}-{08..10}.tar")]
        ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']
    """
    if (braces := re.search(r"\{([^{}]*)\}", pattern)) is None:
        yield pattern
        return
    words: Iterator[str] = iter(braces[1].split(","))
    if bounds := re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", braces[1]):
        words = (f"{n:0{len(bounds[1])}d}" for n in range(int(bounds[1]), int(bounds[2]) + 1))
    for word in words:
        yield from expand(pattern[: braces.start()] + word + pattern[braces.end() :])


def _cached(shard: Path) -> list[_Row]:
    """What a shard holds, from the cache if its size and time are those of then."""
    status = shard.stat()
    stamp = f"1 {status.st_size} {status.st_mtime_ns}"
    place = hashlib.sha256(str(shard.absolute()).encode("utf-8", "surrogateescape")).hexdigest()
    path = cache_folder() / "shards" / f"{place}.json"
    with suppress(OSError, ValueError):  # there is none, or it is damaged
        then, rows = msgspec.json.decode(path.read_bytes(), type=tuple[str, list[_Row]])
        if then == stamp:
            return rows
    try:
        with shard.open("rb") as file:
            rows = _scan(file)
    except Exception as error:  # damaged headers raise anything
        what = f"cannot read the shard `{printable(shard)}`: {printable(error)}"
        hint = "shards are uncompressed tar files: `gunzip` those in `.gz`; fetch a damaged one again"
        raise DataError(what, hint=hint) from None
    with suppress(OutputError):  # then it is read again next time
        data = msgspec.json.encode((stamp, rows))
        replace_file(path, lambda temporary: temporary.write_bytes(data), durable=False)
    return rows


def _scan(file: io.BufferedIOBase) -> list[_Row]:
    """Reads the headers of a shard, its classes and captions."""
    texts, images, end = dict[tuple[str, str], str](), dict[str, tuple[str, int, int]](), -1
    with tarfile.open(fileobj=file, mode="r:", errors="backslashreplace") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # would keep all of them
            if tar.offset <= end:
                raise ValueError("a header leads back")
            end, parts = tar.offset, _NAME.fullmatch(member.name)
            if member.isdir() or parts is None:
                continue
            key, ending = parts[1], parts[2].lower()
            is_plain = member.isreg() and not member.issparse()
            if f".{ending}" in ENDINGS:
                images.setdefault(key, (member.name, member.offset_data, member.size if is_plain else -1))
            elif ending in ("txt", "cls") and is_plain and 0 <= member.size <= MAX_TEXT_BYTES:
                file.seek(member.offset_data)
                text = file.read(member.size).decode("utf-8-sig", "replace")
                texts[key, ending] = text.strip() if "\ufffd" not in text else ""
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a damaged header for the end
            raise ValueError(f"a header is damaged, at byte {tar.offset:,}")
    said = {key: text.split("\n") for (key, ending), text in texts.items() if ending == "txt"}
    return [
        _Row(*place, texts.get((key, "cls"), ""), tuple(filter(None, map(str.strip, said.get(key, ())))))
        for key, place in images.items()
    ]
