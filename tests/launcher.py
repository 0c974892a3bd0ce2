"""Runs command lines of ``vqgan`` in processes of their own, with one import for all of them.

Standard input: JSON, name to arguments. Each process has a session of its own and writes to ``NAME.log`` in
the working folder. Output: a line with the ids of the processes by name; at the end one with their exit codes.

Where the arguments are an object, ``{"arguments": ..., "signal": "SIGTERM", "during": "module:function", "call": 2}``, the
process sends itself the signal as that call of the function begins; such processes run one after the other.
"""

import functools
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqgan.cli.main import main

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Of processes that compute beside others."""


@contextmanager
def launched(folder: Path, requests: dict[str, Any]) -> Iterator[Callable[[], dict[str, int]]]:
    """Starts this script in a folder; gives what reads its next line."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, __file__], cwd=folder, env=ENVIRONMENT, **pipes) as launcher:
        launcher.stdin.write(json.dumps(requests))
        launcher.stdin.close()
        yield lambda: json.loads(launcher.stdout.readline())


@contextmanager
def locked_elsewhere(path: Path) -> Iterator[None]:
    """Inside the block another process holds the lock of a folder, a new file ``path``."""
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, path], **pipes) as owner:
        owner.stdout.readline()
        yield
        owner.communicate("\n")


def signalled(during: str, call: int, number: int) -> None:
    """Has this process send itself a signal as a function or method is called for the ``call``-th time."""
    module, _, path = during.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    real, calls = getattr(owner, name), itertools.count(1)

    def calling(*arguments: object, **keywords: object) -> object:
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return real(*arguments, **keywords)

    setattr(owner, name, calling)


def begin(name: str, arguments: list[str] | dict[str, Any]) -> int:
    """Starts one process; returns its id."""
    number = os.fork()
    if number:
        return number
    os.setsid()
    log = os.open(f"{name}.log", os.O_CREAT | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(log, stream)
    code = 1
    try:
        if isinstance(arguments, dict):
            signalled(arguments["during"], arguments["call"], getattr(signal, arguments["signal"]))
            arguments = arguments["arguments"]
        code = main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    # What takes long to import is paid for once, before the processes part.
    import torch._dynamo
    import torch.utils.tensorboard  # noqa: F401

    import vqgan.runs  # noqa: F401

    started = {}
    for name, arguments in json.load(sys.stdin).items():
        started[name] = begin(name, arguments)
        if isinstance(arguments, dict):
            os.waitid(os.P_PID, started[name], os.WEXITED | os.WNOWAIT)
    sys.stdout.write(json.dumps(started) + "\n")
    sys.stdout.flush()
    codes = {name: os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for name, number in started.items()}
    sys.stdout.write(json.dumps(codes) + "\n")
