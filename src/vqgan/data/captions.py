"""Captions: in a table, in lines of JSON, in a file like COCO's, or in a text file for each image."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vqgan.data.condition_reader import InMemory, key_of, read_lines
from vqgan.errors import DataError, printable

_HEAD = {"file", "file_name", "text", "caption"}


class Captions(InMemory):
    """One or more captions for each image.

    Args:
        path: A folder of text files, with a caption in each line; or, by its ending, COCO's captions (``.json``), lines
            of JSON (``.jsonl``) with ``file`` and ``text``, a text or a list, else a table: ``file,text``. A first line
            there that says just that is skipped. ``file_name`` and ``caption`` are read likewise. An empty caption
            is none.

    Raises:
        DataError: If it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._found = dict[str, tuple[str, ...]]()
        try:
            for file, text in _rows(Path(path).expanduser()):
                key = key_of(Path(file).as_posix())
                if said := text.strip():
                    self._found[key] = (*self._found.get(key, ()), said)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, csv.Error) as error:
            reason = f"there is no {error}" if isinstance(error, KeyError) else printable(error)
            if isinstance(error, AttributeError | TypeError):
                reason = "what should be an object with a file and a text is something else"
            hint = "write a file and a caption in each line, `file` and `text`, or what COCO's captions have"
            what = f"cannot read the captions `{printable(path)}`: {reason}"
            raise DataError(what, hint=hint) from None
        self.keys = frozenset(self._found)


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Each image's file with each of its captions."""
    kind, what = path.suffix.lower(), "captions"
    if path.is_dir():
        for each in sorted(path.rglob("*.txt")):
            yield from ((each.relative_to(path).as_posix(), text) for text in read_lines(each, what))
    elif kind == ".json":
        whole = json.loads("".join(read_lines(path, what)))
        files = {each["id"]: each["file_name"] for each in whole["images"]}
        yield from ((files[each["image_id"]], each["caption"]) for each in whole["annotations"])
    elif kind == ".jsonl":
        for row in map(json.loads, filter(str.strip, read_lines(path, what))):
            file, texts = (row[b if b in row else a] for a, b in (("file", "file_name"), ("text", "caption")))
            yield from ((file, text) for text in (texts if isinstance(texts, list) else [texts]))
    else:
        for number, row in enumerate(csv.reader(read_lines(path, what)), start=1):
            if len(row) not in (0, 2):
                raise ValueError(f"line {number} has {len(row)} values; one with a comma needs quotes")
            if row and not (number == 1 and {each.strip() for each in row} <= _HEAD):
                yield row[0].strip(), row[1]
