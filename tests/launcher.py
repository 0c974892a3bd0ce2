"""Runs command lines of ``vqgan`` in processes of their own, with one import for all of them.

Standard input: JSON, name to arguments. Each process has a session of its own and writes to ``NAME.log`` in
the working folder. Output: a line with the ids of the processes by name; at the end one with their exit codes.
"""

import json
import os
import sys
import traceback

# What takes long to import is paid for once, before the processes part.
import torch._dynamo
import torch.utils.tensorboard  # noqa: F401

import vqgan.runs  # noqa: F401
from vqgan.cli.main import main


def begin(name: str, arguments: list[str]) -> int:
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
        code = main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    started = {name: begin(name, arguments) for name, arguments in json.load(sys.stdin).items()}
    sys.stdout.write(json.dumps(started) + "\n")
    sys.stdout.flush()
    codes = {name: os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for name, number in started.items()}
    sys.stdout.write(json.dumps(codes) + "\n")
