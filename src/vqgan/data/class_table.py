"""Classes in a table: a text file with the path of an image and its class in each line."""

import csv
from pathlib import Path

from vqgan.data.condition_reader import InMemory, key_of, read_lines
from vqgan.errors import DataError, printable
from vqgan.images.paths import natural


class ClassTable(InMemory):
    """A file of comma-separated values: ``file,class``.

    A first line that says just that is skipped, also in other words: its file has no ending, that of the second has.

    Args:
        path: The file.

    Raises:
        DataError: If it cannot be read, is empty, a line has not two values, or an image has two classes.
    """

    def __init__(self, path: str) -> None:
        name, self._found = printable(path), dict[str, str]()
        try:
            rows = list(csv.reader(read_lines(Path(path), "classes")))
        except csv.Error as error:
            raise DataError(f"cannot read the classes `{name}`: {error}", hint="check the path") from None
        hint = 'write `photos/0.jpg,cat`; a comma inside a name needs quotes: `"a,b.jpg",cat`'
        has_header = [bool(Path(row[0]).suffix) for row in rows[:2] if row] == [False, True]
        for number, row in enumerate(rows, start=1):
            values = [each.strip() for each in row]
            if not row or (number == 1 and (has_header or values == ["file", "class"])):
                continue
            if len(values) != 2 or not all(values):
                what = f"line {number} of `{name}` has {len(values)} values, expected a file and a class"
                raise DataError(what, hint=hint)
            key = key_of(Path(values[0]).as_posix())
            if self._found.setdefault(key, values[1]) != values[1]:
                what = f"line {number} of `{name}` gives `{printable(values[0])}` a second class"
                raise DataError(what, hint="an image has one; the file stands first, then the class")
        if not self._found:
            raise DataError(f"`{name}` has no classes", hint=hint)
        self.keys = frozenset(self._found)
        self.class_names = tuple(sorted(set(self._found.values()), key=natural))

    def read(self, key: str) -> int:
        """The number of the class: its place among the names, in natural order."""
        return self.class_names.index(self._found[key])
