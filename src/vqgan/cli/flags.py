"""From words to a command with its flags; mistakes in them become our errors."""

import ast
import contextlib
import io
import os
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Protocol, TypeVar, runtime_checkable

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
    paragraphs = (command.__doc__ or "").split("\n\n")
    description = "\n\n".join(" ".join(text.split()) for text in paragraphs)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(_explained(command), args=words, prog=program, description=description)
    except SystemExit as end:
        if not end.code:
            raise
    message, hint = (
        _about_value(plain_text(complaint.getvalue()), words),
        f"`{program} --help` explains all flags",
    )
    raise ConfigError(message, hint=hint)


def _about_value(message: str, words: list[str]) -> str:
    """Tyro's message about the value of a flag, in our words; others as they are."""
    found = re.match(r"(?:error parsing|invalid choice .* for argument) '?(--[\w-]+)", message, re.DOTALL)
    if found is None:
        return message
    flag = found[1]
    pairs = ((word.partition("="), after) for word, after in pairwise([*words, ""]))
    given = [
        text if equals else after for (name, equals, text), after in pairs if name.replace("_", "-") == flag
    ]
    choices = re.findall(r"'([^']*)'", message.partition("Expected one of")[2])
    expected = "a whole number" if re.search(r"\bint\(\)|\bINT\b", message) else "a number"
    expected = ", ".join(f"`{choice}`" for choice in choices) or expected
    return f"`{flag}` is `{' '.join(given)}`, expected {expected}"


def _explained(command: type[C]) -> type[C]:
    """The command, the docstring of each flag attached to it as its help.

    tyro would find them too, but by tokenizing the sources, which takes as long as a third of its own import.
    """
    for part in command.__mro__:
        own = vars(part).get("__annotations__", {})
        for name, text in _flag_docstrings(part).items() if own else ():
            own[name] = Annotated[own[name], tyro.conf.arg(help=text)]
    return command


def _flag_docstrings(part: type) -> dict[str, str]:
    """The docstring below each annotated attribute in the source of a class."""
    tree = ast.parse(Path(str(sys.modules[part.__module__].__file__)).read_bytes())
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == part.__name__:
            for line, after in pairwise(node.body):
                match line, after:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                        value=ast.Constant(value=str(text))
                    ):
                        found[name] = " ".join(text.split())
    return found


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
