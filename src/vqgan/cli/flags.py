"""How flags are declared, read and explained: dataclasses on argparse; no torch, so that every ``--help`` is fast.

A command is a dataclass. Its docstring is what ``--help`` shows: the first part describes the command, and what stands
below ``Attributes:`` the flag of that name.
"""

import argparse
import contextlib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform, get_args

from vqgan.errors import ConfigError, closest, require

C = TypeVar("C")

Size = tuple[int, int]
"""Height and width in pixels."""


def argument(metavar: str, default: Any = MISSING) -> Any:
    """Declares a field of a command as a positional value.

    Args:
        metavar: Stands for the value in the help.
        default: Without it the value is required; with ``()`` any number of values may be given.
    """
    return field(default=default, metadata={"metavar": metavar, "is_flag": False})


def flag(metavar: str, default: Any = MISSING, *, minimum: int | None = None) -> Any:
    """Declares a field of a command as a flag; its annotation says which values are allowed.

    Args:
        metavar: Stands for the value in the help; not shown for a switch (``bool``).
        default: Without it the flag is required; with ``()`` it may be repeated.
        minimum: The lowest number allowed.
    """
    return field(default=default, metadata={"metavar": metavar, "is_flag": True, "minimum": minimum})


@dataclass_transform(kw_only_default=True, field_specifiers=(argument, flag))
def command(described: type[C]) -> type[C]:
    """Makes the class a dataclass of flags; comparing and printing would cost each start several milliseconds."""
    return dataclass(kw_only=True, eq=False, repr=False)(described)


def read_flags(command: type[C], words: Sequence[str], *, program: str) -> C:
    """The command, with its fields from the command line.

    Args:
        command: The dataclass.
        words: What follows the command's name; ``--top_k`` is read as ``--top-k``.
        program: The command's name, for help and messages.

    Raises:
        ConfigError: If the words do not fit.
        SystemExit: After printing the help, if the words ask for it.
    """
    see_help = f"`{program} --help` explains all flags"
    known = spellings(command)
    words = [re.sub(r"^--[\w-]+", lambda found: found[0].replace("_", "-"), word) for word in words]
    try:
        # Intermixed: flags may stand between positional values.
        found, unknown = _parser(command, known, program).parse_known_intermixed_args(words)
    except argparse.ArgumentError as error:
        raise ConfigError(f"`{error.argument_name}`: {error.message}", hint=see_help) from None
    if unknown:
        word, flags = unknown[0].partition("=")[0], (each for each in known if each.startswith("-"))
        near = f"{closest(word, flags)}; " if word.startswith("-") else ""
        raise ConfigError(f"unrecognized options: {', '.join(unknown)}", hint=near + see_help)
    given = vars(found)
    required = {spelling: each.name for spelling, each in known.items() if each.default is MISSING}
    missing = ", ".join(f"`{spelling}`" for spelling, name in required.items() if name not in given)
    require(not missing, f"missing from `{program}`: {missing}", hint=see_help)
    for spelling, each in known.items():
        if isinstance(given.get(each.name), str):
            given[each.name] = _value(spelling, each, given[each.name], see_help)
    return command(**given)


def spellings(command: type) -> dict[str, Field[Any]]:
    """The fields of a command by how a user writes them: ``--batch-size``, ``--class`` (``class_``) or ``MODEL``."""
    return {
        f"--{each.name.rstrip('_').replace('_', '-')}"
        if each.metadata["is_flag"]
        else each.metadata["metavar"]: each
        for each in fields(command)
    }


def _parser(command: type, known: dict[str, Field[Any]], program: str) -> argparse.ArgumentParser:
    """Splits the words and prints the help; every value stays text, and what is not given is omitted."""
    text, texts = explanations(command)
    description, _, epilog = text.partition("\n\n")
    parser = argparse.ArgumentParser(
        usage=" ".join([program, "[FLAGS]", *(word for word in known if not word.startswith("-"))]),
        description=description,
        epilog=epilog,
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    title = "\x1b[1m{}\x1b[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else "{}"
    arguments, flags = (parser.add_argument_group(title.format(each)) for each in ("arguments", "flags"))
    for spelling, each in known.items():
        many, metavar, text = (
            each.default == (),
            each.metadata["metavar"],
            _help(each, texts.get(each.name, "")),
        )
        if not each.metadata["is_flag"]:
            arguments.add_argument(each.name, nargs="*" if many else "?", metavar=metavar, help=text)
        elif each.type is bool:
            flags.add_argument(spelling, dest=each.name, action="store_true", help=text)
        else:
            action = "append" if many else "store"
            flags.add_argument(spelling, dest=each.name, action=action, metavar=metavar, help=text)
    flags.add_argument("-h", "--help", action="help", help="Show this help.")
    return parser


def explanations(command: type) -> tuple[str, dict[str, str]]:
    """What the docstrings of a command and its bases say: the command's description, and the text of each field."""
    description = ""
    texts: dict[str, str] = {}
    for part in reversed(command.__mro__):
        description, _, attributes = (inspect.getdoc(part) or "").partition("\n\nAttributes:\n")
        found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE)
        texts |= {name: " ".join(text.split()) for name, text in found}
    return description, texts


def _help(each: Field[Any], text: str) -> str:
    if each.default is MISSING:
        text += " (required)"
    elif each.default == () and each.metadata["is_flag"]:
        text += " (repeatable)"
    elif each.type is not bool and isinstance(each.default, int | float | str):
        text += f" (default: {each.default})"
    return text.replace("%", "%%")  # argparse formats it


def _value(spelling: str, each: Field[Any], text: str, hint: str) -> Any:
    """What a text means as a value of the field's type."""
    kinds, minimum = get_args(each.type) or (each.type,), each.metadata.get("minimum")
    if str in kinds or text in kinds:
        return text
    if Size in kinds:
        return parse_size(text)
    expected = ", ".join(f"`{kind}`" for kind in kinds)
    for kind, name in ((int, "a whole number"), (float, "a number")):
        if kind in kinds:
            expected = name if minimum is None else f"{name} of at least {minimum}"
            with contextlib.suppress(ValueError):
                value = kind(text)
                if minimum is None or value >= minimum:
                    return value
    raise ConfigError(f"`{spelling}` is `{text}`, expected {expected}", hint=hint)


def parse_size(text: str) -> Size:
    """Reads `96x80` (height x width) or `256` (a square).

    Raises:
        ConfigError: If the text is neither.

    Example:
        >>> parse_size("96x80"), parse_size("256")
        ((96, 80), (256, 256))
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(
            f"`{text}` is not a size", hint="write `HEIGHTxWIDTH`, for example `96x80`, or `256` for a square"
        )
    return int(parts[0]), int(parts[-1])


def named_values(flag: str, texts: Sequence[str], *, is_needed: bool = True) -> dict[str, str]:
    """The values of a repeatable flag that names each: `NAME=VALUE`; or `NAME` if a value is not needed.

    Raises:
        ConfigError: If a text is not of that form, or a name stands twice.

    Example:
        >>> named_values("--condition", ["class=fox", "depth=a=b.png"])
        {'class': 'fox', 'depth': 'a=b.png'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        require(
            name != "" and (value != "" or not (is_needed or equals)),
            f"`{flag} {text}` is given, expected a name and a value",
            hint=f"write `{flag} NAME=VALUE`",
        )
        require(name not in found, f"`{flag}` names `{name}` twice", hint="omit one of the two")
        found[name] = value
    return found


def parse_scales(text: str) -> tuple[float, float]:
    """Reads the two numbers of `0:3`, or `3` as both.

    Raises:
        ConfigError: If the text is neither, or a number is below 0.

    Example:
        >>> parse_scales("0:3"), parse_scales("2.5")
        ((0.0, 3.0), (2.5, 2.5))
    """
    try:
        scales = [float(part) for part in text.split(":")]
    except ValueError:
        scales = []
    require(
        len(scales) in (1, 2) and all(0 <= scale < 2**20 for scale in scales),
        f"`--guidance` is `{text}`, expected one or two numbers of at least 0",
        hint="write `--guidance 3`, or `--guidance 0:3` for the first and the last token",
    )
    return scales[0], scales[-1]
