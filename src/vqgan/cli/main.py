"""Finds the command, reads its flags, runs it, and turns errors into messages and exit codes."""

import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from vqgan.cli.processes import for_this_process, rank, world
from vqgan.errors import ConfigError, OutputError, Preempted, VqganError, closest, reason_of

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


COMMANDS = {
    "demo": ("vqgan.cli.train", "train both stages on embedded real images in minutes, and report"),
    "train tokenizer": ("vqgan.cli.train", "train the first stage on your images"),
    "train prior": ("vqgan.cli.train", "train the second stage on a tokenizer's codes"),
    "train classifier": ("vqgan.cli.train", "train a judge of drawn images on your images' classes"),
    "train denoiser": ("vqgan.cli.train", "train what a perceptual loss without downloads compares"),
    "compare": ("vqgan.cli.comparing", "runs beside each other: curves, settings, numbers, pictures"),
    "figure": ("vqgan.cli.figure", "an image, its reconstruction, and how it goes on, in one picture"),
    "evaluate": ("vqgan.cli.evaluating", "how good a model is: numbers, their conventions, one page"),
    "plan": ("vqgan.cli.planning", "what a training needs: memory, operations, time"),
    "reconstruct": ("vqgan.cli.coding", "images -> images, through the codes"),
    "encode": ("vqgan.cli.coding", "images -> codes"),
    "decode": ("vqgan.cli.coding", "codes -> images"),
    "sample": ("vqgan.cli.drawing", "new images"),
    "complete": ("vqgan.cli.drawing", "the rest of given images"),
    "dream": ("vqgan.cli.dreaming", "the next frames of a game, from frames and actions"),
    "imagine": ("vqgan.cli.imagining", "pictures of what words say, as a text-image model judges"),
    "score": ("vqgan.cli.scoring", "how probable each part of an image is"),
    "extract": ("vqgan.cli.extraction", "depth, labels, edges and other conditions of photographs"),
    "convert": ("vqgan.cli.convert", "published checkpoints -> one file of ours"),
    "models": ("vqgan.cli.lists", "list the published models, or show one"),
    "download": ("vqgan.cli.convert", "fetch and convert a published model"),
    "info": ("vqgan.cli.info", "what a file or run folder holds"),
    "presets": ("vqgan.cli.lists", "list the named runs, or print one as YAML"),
    "doctor": ("vqgan.cli.doctor", "check the environment"),
}
"""For each command the module with its function, and its line in the overview."""


def flags_of(name: str) -> type[Any]:
    """The flags of a command: ``train prior`` has those of ``training_commands.TrainPrior``."""
    from vqgan.cli import commands, imagine_flags, training_commands

    trained = ("train", "demo", "encode", "compare", "evaluate", "figure", "plan")
    modules = {**dict.fromkeys(trained, training_commands), "imagine": imagine_flags}
    module = modules.get(name.partition(" ")[0], commands)
    return getattr(module, name.title().replace(" ", ""))


def function_of(name: str) -> Callable[[Any], None]:
    """The function that takes the flags of a command: ``train.train`` for ``train prior``."""
    return getattr(importlib.import_module(COMMANDS[name][0]), name.partition(" ")[0])


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
        # The reader of our output has left (`| head`). What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (VqganError, KeyboardInterrupt, MemoryError, OSError, RuntimeError) as error:
        explained = _explain(error)
        if explained is None:
            raise
        if debug:
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
        hint = "check the path, its rights and the disk"
        return OutputError.exit_code, f"cannot use{place}: {reason_of(error)}\nhint: {hint}"
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if "by peer" in reason and world() > 1:
        return Preempted.exit_code, f"another process has ended: {reason}\nhint: its message says why"
    if isinstance(error, MemoryError) or "out of memory" in reason or "can't allocate memory" in reason:
        hint = "lower `--batch-size`, `--memory` or the size of the images"
        more = "`train` also knows `--set training.accumulate=2`"
        return ConfigError.exit_code, f"out of memory: {reason}\nhint: {hint}; {more}"
    return None


def as_flags(text: str) -> str:
    """Text of the library, which names Python's arguments, with the flags that give them.

    Example:
        >>> as_flags('use `device="cpu"`, omit `eval_data=`, or give `overrides=["a.b=1"]`')
        'use `--device cpu`, omit `--eval-data`, or give `--set a.b=1`'
    """

    def flag(found: re.Match[str]) -> str:
        name, value = found.groups()
        names = {"overrides": "--set", "start_from": "--from", "run": "PRESET"}
        names |= {"conditions": "--condition", "condition_tokenizers": "--condition-tokenizer"}
        name = names.get(name, "--" + name.replace("_", "-"))
        return f"`{name} {value}`" if value else f"`{name}`"

    return re.sub(r'`([a-z_]+)=(?:\[?"([^"`]+)"\]?)?`', flag, text)


class _AsFlags(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return as_flags(super().format(record))


def _dispatch(words: list[str]) -> None:
    group = "train" if words[:1] == ["train"] else ""
    rest = words[1:] if group else words
    if not rest or rest[0] in ("-h", "--help"):
        _overview(group, asked=bool(rest))
    elif words[0] == "--version":
        from vqgan.version import __version__

        print(f"vqgan {__version__}")
    elif words[0] == "--completion":
        print(_completion())
    else:
        name = f"{group} {rest[0]}".strip()
        if name not in COMMANDS:
            raise ConfigError(f"unknown command `{name}`", hint=closest(name, COMMANDS))
        from vqgan.cli.flags import read_flags
        from vqgan.output_files import no_empty_folders
        from vqgan.stopping import stop_on_signals

        flags: Any = read_flags(flags_of(name), rest[1:], program=f"vqgan {name}")
        flags = for_this_process(name, flags)
        # A run that is asked to stop while it starts shall be one that can go on.
        stopping = stop_on_signals() if group else nullcontext()
        with stopping, _log_to_stderr(), no_empty_folders(getattr(flags, "out", None)):
            function_of(name)(flags)  # imported only now: help needs no torch


def _completion() -> str:
    """A script for bash: it completes commands, flags after a dash, and otherwise files."""
    from vqgan.cli.flags import spellings

    first, cases = " ".join(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS)), ""
    for name in COMMANDS:
        flags = " ".join(word for word in spellings(flags_of(name)) if word.startswith("-"))
        cases += f'    "{name}"*) [[ $2 == -* ]] && words="{flags} --help --debug" ;;\n'
    return f"""\
_vqgan() {{
  local words=
  case "${{COMP_WORDS[*]:1:COMP_CWORD-1}}" in
    "") words="{first} --help --version --completion" ;;
    train) words="tokenizer prior classifier denoiser --help" ;;
{cases}  esac
  COMPREPLY=($(compgen -W "$words" -- "$2"))
}}
complete -o default -F _vqgan vqgan"""


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """What this package logs, and the warnings of others, go to stderr as plain lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsFlags())
    handler.addFilter(lambda record: record.name.startswith("vqgan") or record.levelno >= logging.WARNING)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.WARNING if rank() else logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _overview(group: str, *, asked: bool) -> None:
    """Prints the commands, or those of a group; if nobody asked for them, a command is missing."""
    shown = {name: summary for name, (_, summary) in COMMANDS.items() if name.startswith(group)}
    width = max(map(len, shown))
    lines = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in shown.items())
    text = f"""\
usage: vqgan {f"{group} STAGE" if group else "COMMAND"} [FLAGS]

Images to a grid of codes and back, and a transformer that draws new grids.

commands:
{lines}

  --help        after a command shows its flags
  --version     shows the version
  --debug       shows the traceback of an error
  --completion  completes commands and flags in bash: eval "$(vqgan --completion)"
"""
    if not asked:
        sys.stderr.write(text)
        raise SystemExit(ConfigError.exit_code)
    print(text, end="")
