"""Names of labels in a file."""

import re
from pathlib import Path

from vqgan.data.condition_reader import read_lines
from vqgan.errors import DataError, printable

_NUMBERED = re.compile(r"\s*(\d+)\s*[,;:\t]\s*(.*\S)\s*")


def read_label_names(path: str, count: int) -> tuple[str, ...]:
    """The names of labels 0 to ``count - 1``.

    Args:
        path: A text file with one name a line, in the order of the labels; or with a number, a comma (or ``;``, ``:``,
            a tab) and a name in each line, perhaps below a title: labels without a name are then called by number.
        count: How many labels there are.

    Raises:
        DataError: If the file cannot be read, has another number of names, or names a label that does not exist.
    """
    name, text = printable(path), read_lines(Path(path), "label names")
    lines = [line.strip() for line in text if line.strip()]
    pairs = [_NUMBERED.fullmatch(line) for line in lines]
    if any(pairs) and all(pairs[1:]):
        numbered = {int(pair[1]): pair[2] for pair in pairs if pair}
        if max(numbered) >= count:
            raise DataError(f"`{name}` names the label {max(numbered)}, expected 0 to {count - 1}")
        return tuple(numbered.get(number, str(number)) for number in range(count))
    if len(lines) != count:
        raise DataError(
            f"`{name}` has {len(lines)} names for {count} labels",
            hint="write one name a line, in the order of the labels, or `number,name`",
        )
    return tuple(lines)
