"""Finds the command, reads its flags, runs it, and turns errors into messages and exit codes."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from vqgan.errors import ConfigError, VqganError, closest

INTERRUPTED = 130
"""Exit code after a second Ctrl-C, as shells have it."""


class Command(Protocol):
    """A dataclass of flags that can carry itself out."""

    def run(self) -> None:
        """Does the command's job; results go to stdout, everything else to stderr."""
        ...


def _demo() -> type[Command]:
    from vqgan.cli.demo import Demo

    return Demo


def _train_tokenizer() -> type[Command]:
    from vqgan.cli.train import TrainTokenizer

    return TrainTokenizer


def _train_prior() -> type[Command]:
    from vqgan.cli.train import TrainPrior

    return TrainPrior


def _reconstruct() -> type[Command]:
    from vqgan.cli.reconstruct import Reconstruct

    return Reconstruct


def _encode() -> type[Command]:
    from vqgan.cli.encode import Encode

    return Encode


def _decode() -> type[Command]:
    from vqgan.cli.decode import Decode

    return Decode


def _sample() -> type[Command]:
    from vqgan.cli.sample import Sample

    return Sample


def _complete() -> type[Command]:
    from vqgan.cli.complete import Complete

    return Complete


def _info() -> type[Command]:
    from vqgan.cli.info import Info

    return Info


def _presets() -> type[Command]:
    from vqgan.cli.presets import Presets

    return Presets


def _doctor() -> type[Command]:
    from vqgan.cli.doctor import Doctor

    return Doctor


COMMANDS: dict[str, tuple[Callable[[], type[Command]], str]] = {
    "demo": (_demo, "train both stages on embedded real images in minutes, and report"),
    "train tokenizer": (_train_tokenizer, "train the first stage on your images"),
    "train prior": (_train_prior, "train the second stage on a tokenizer's codes"),
    "reconstruct": (_reconstruct, "images -> images, through the codes"),
    "encode": (_encode, "images -> codes"),
    "decode": (_decode, "codes -> images"),
    "sample": (_sample, "new images"),
    "complete": (_complete, "the rest of given images"),
    "info": (_info, "what a file or run folder holds"),
    "presets": (_presets, "list the named runs"),
    "doctor": (_doctor, "check the environment"),
}
"""Command to its class (imported when needed, so that help is quick) and its line in the overview."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see :mod:`vqgan.errors`)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("httpx", "urllib3", "filelock", "tensorboard"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return _dispatch(words)
    except VqganError as error:
        if debug:
            raise
        sys.stderr.write(f"vqgan: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        sys.stderr.write("vqgan: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left (`| head`); nothing more can be said to it.
        sys.stderr.close()
        return 0
    except RuntimeError as error:
        if debug or "out of memory" not in str(error).lower():
            raise
        sys.stderr.write(
            f"vqgan: the device ran out of memory: {str(error).splitlines()[0]}\n"
            "hint: lower `--batch-size` or `--size`, use `--precision bf16`, or train with "
            "`--set training.accumulate=2`\n"
        )
        return ConfigError.exit_code


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview("vqgan", COMMANDS))
        return 0 if words else ConfigError.exit_code
    if words[0] == "--version":
        from vqgan.version import __version__

        print(f"vqgan {__version__}")
        return 0
    name, rest = words[0], words[1:]
    below = {key: entry for key, entry in COMMANDS.items() if key.startswith(f"{name} ")}
    if below:
        if not rest or rest[0] in ("-h", "--help"):
            print(_overview(f"vqgan {name}", below))
            return 0 if rest else ConfigError.exit_code
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name not in COMMANDS:
        raise ConfigError(f"unknown command `{name}`", hint=closest(name, COMMANDS) + "; see `vqgan --help`")
    command = COMMANDS[name][0]()
    import tyro

    flags = tyro.cli(command, args=rest, prog=f"vqgan {name}")
    flags.run()
    return 0


def _overview(program: str, commands: dict[str, tuple[Callable[[], type[Command]], str]]) -> str:
    width = max(len(name) for name in commands)
    rows = [f"  {name:<{width}}  {line}" for name, (_, line) in commands.items()]
    return "\n".join(
        [
            f"usage: {program} COMMAND [FLAGS]" if program == "vqgan" else f"usage: {program} STAGE [FLAGS]",
            "",
            "Images to a grid of codes and back, and a transformer that draws new grids.",
            "",
            "commands:",
            *rows,
            "",
            "  --help      of every command shows its flags",
            "  --version   the version",
            "  --debug     show the traceback of an error",
        ]
    )
