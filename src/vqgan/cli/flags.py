"""From words to a command with its flags; mistakes in them become our errors."""

import contextlib
import io
import os
import re
from typing import Protocol, TypeVar, runtime_checkable

import tyro

from vqgan.errors import ConfigError


@runtime_checkable
class Command(Protocol):
    """A dataclass of flags that can carry itself out."""

    def run(self) -> None:
        """Does the command's job; results go to stdout, everything else to stderr."""
        ...


C = TypeVar("C", bound=Command)


def read_flags(command: type[C], words: list[str], *, program: str) -> C:
    """The command with its flags.

    Args:
        command: The dataclass.
        words: What stands after the command's name.
        program: The command's name, for help and messages.

    Raises:
        ConfigError: If the words do not fit.
        SystemExit: After printing the help that the words ask for.
    """
    if os.environ.get("NO_COLOR"):
        tyro._experimental_options["ansi_codes"] = False
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(command, args=words, prog=program)
    except SystemExit as end:
        if not end.code:
            raise
    message, hint = plain_text(complaint.getvalue()), f"`{program} --help` explains all flags"
    raise ConfigError(message, hint=hint)


def plain_text(box: str) -> str:
    """Tyro's framed message without frame, title, colours and the closing line that names ``--help``.

    Example:
        >>> print(plain_text("╭─ T ──────╮\\n│ Wrong: x │\\n│ ──────── │\\n│ Perhaps: │\\n│   --y    │\\n╰──────────╯"))
        wrong: x
        Perhaps:
          --y
    """
    # The first row is the title; every row begins with two columns of frame.
    rows = [row[2:].rstrip("│ ") for row in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]]
    texts = []
    for row in rows:
        if row.startswith("For full helptext"):
            break
        if row.strip("─-╯ "):
            texts.append(row)
    text = "\n".join(texts) or "the flags cannot be read"
    return text[:1].lower() + text[1:]
