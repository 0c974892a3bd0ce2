"""Finds the command, reads its flags, runs it, and turns errors into messages and exit codes."""

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vqgan.errors import ConfigError, OutputError, VqganError, closest

if TYPE_CHECKING:
    from vqgan.cli.flags import Command

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

COMMANDS: dict[str, str] = {
    "demo": "train both stages on embedded real images in minutes, and report",
    "train tokenizer": "train the first stage on your images",
    "train prior": "train the second stage on a tokenizer's codes",
    "reconstruct": "images -> images, through the codes",
    "encode": "images -> codes",
    "decode": "codes -> images",
    "sample": "new images",
    "complete": "the rest of given images",
    "convert": "published checkpoints -> one file of ours",
    "models": "list the published models, or show one",
    "download": "fetch and convert a published model",
    "info": "what a file or run folder holds",
    "presets": "list the named runs, or print one as YAML",
    "doctor": "check the environment",
}
"""Commands, each with its line in the overview."""


def command_class(name: str) -> "type[Command]":
    """The class of a command; imported when needed, so that help is quick."""
    match name:
        case "demo":
            from vqgan.cli.demo import Demo

            return Demo
        case "train tokenizer" | "train prior":
            from vqgan.cli.train import TrainPrior, TrainTokenizer

            return TrainTokenizer if name == "train tokenizer" else TrainPrior
        case "reconstruct":
            from vqgan.cli.reconstruct import Reconstruct

            return Reconstruct
        case "encode":
            from vqgan.cli.encode import Encode

            return Encode
        case "decode":
            from vqgan.cli.decode import Decode

            return Decode
        case "sample":
            from vqgan.cli.sample import Sample

            return Sample
        case "complete":
            from vqgan.cli.complete import Complete

            return Complete
        case "convert":
            from vqgan.cli.convert import Convert

            return Convert
        case "models":
            from vqgan.cli.models import Models

            return Models
        case "download":
            from vqgan.cli.download import Download

            return Download
        case "info":
            from vqgan.cli.info import Info

            return Info
        case "presets":
            from vqgan.cli.presets import Presets

            return Presets
        case "doctor":
            from vqgan.cli.doctor import Doctor

            return Doctor
        case _:
            raise ConfigError(f"unknown command `{name}`", hint=closest(name, COMMANDS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see :mod:`vqgan.errors`)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        _dispatch([word for word in words if word != "--debug"])
        sys.stdout.flush()
        return 0
    except SystemExit as end:
        return int(end.code or 0)
    except BrokenPipeError:
        # Who read our output has left (`| head`). What is still buffered must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (VqganError, KeyboardInterrupt, MemoryError, OSError, RuntimeError) as error:
        explained = _explain(error)
        if explained is None:
            raise
        if debug:
            import traceback

            traceback.print_exc()
        code, message = explained
        sys.stderr.write(f"vqgan: {message}\n")
        return code


def _explain(error: BaseException) -> tuple[int, str] | None:
    """Exit code and message of an error that a user can act on; None for a bug, which shows its traceback."""
    if isinstance(error, VqganError):
        return error.exit_code, as_flags(str(error))
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, str(error) or "interrupted"
    if isinstance(error, OSError):
        place = f" `{error.filename}`" if error.filename else ""
        reason = (error.strerror or str(error)).lower()
        return (
            OutputError.exit_code,
            f"cannot use{place}: {reason}\nhint: check the path, its rights and the disk",
        )
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, MemoryError) or "out of memory" in reason or "can't allocate memory" in reason:
        hint = (
            "lower `--batch-size`, `--memory` or the size of the images; "
            "`train` also knows `--set training.accumulate=2`"
        )
        return ConfigError.exit_code, f"out of memory: {reason}\nhint: {hint}"
    return None


def as_flags(text: str) -> str:
    """Text of the library, which names Python's arguments, with the flags that give them.

    Example:
        >>> as_flags('use `device="cpu"`, omit `eval_data=`, or give `overrides=["a.b=1"]`')
        'use `--device cpu`, omit `--eval-data`, or give `--set a.b=1`'
    """

    def flag(found: re.Match[str]) -> str:
        name, value = found.groups()
        name = {"overrides": "set", "start_from": "from"}.get(name, name.replace("_", "-"))
        return f"`--{name} {value}`" if value else f"`--{name}`"

    return re.sub(r'`([a-z_]+)=(?:\[?"([^"`]+)"\]?)?`', flag, text)


class _AsFlags(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return as_flags(super().format(record))


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        _overview("vqgan COMMAND [FLAGS]", COMMANDS, asked=bool(words))
        return
    if words[0] == "--version":
        from vqgan.version import __version__

        print(f"vqgan {__version__}")
        return
    name, rest = words[0], words[1:]
    below = {key: line for key, line in COMMANDS.items() if key.startswith(f"{name} ")}
    if below and (not rest or rest[0] in ("-h", "--help")):
        _overview(f"vqgan {name} STAGE [FLAGS]", below, asked=bool(rest))
        return
    if below:
        name, rest = f"{name} {rest[0]}", rest[1:]
    command = command_class(name)
    from vqgan.cli.flags import read_flags

    flags = read_flags(command, rest, program=f"vqgan {name}")
    from vqgan.cli.outputs import no_empty_folders

    with _log_to_stderr(), no_empty_folders(getattr(flags, "out", None)):
        flags.run()


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """What this package logs, and the warnings of others, go to stderr as plain lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsFlags())
    handler.addFilter(lambda record: record.name.startswith("vqgan") or record.levelno >= logging.WARNING)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _overview(usage: str, commands: Mapping[str, str], *, asked: bool) -> None:
    """Prints the commands; without having been asked for it, that is a mistake."""
    width = max(len(name) for name in commands)
    rows = [
        f"usage: {usage}",
        "",
        "Images to a grid of codes and back, and a transformer that draws new grids.",
        "",
        "commands:",
        *(f"  {name:<{width}}  {line}" for name, line in commands.items()),
        "",
        "  --help      after a command shows its flags",
        "  --version   shows the version",
        "  --debug     shows the traceback of an error",
    ]
    if not asked:
        sys.stderr.write("\n".join(rows) + "\n")
        raise SystemExit(ConfigError.exit_code)
    print("\n".join(rows))
