"""Under a launcher, the processes of a command share its images; noise knows only numbers of images, not processes."""

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from vqgan.errors import require

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_SHARING = ("reconstruct", "encode", "decode", "sample", "complete", "score", "extract")


def rank() -> int:
    """The number of this process; the first writes and says what concerns all."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def for_this_process(name: str, flags: Any) -> Any:
    """The flags of a command, with a card of this process's own.

    Raises:
        ConfigError: If there are several processes, and the command has nothing that they could share.
    """
    if world() == 1 or name.startswith("train"):  # training knows its processes
        return flags
    if name not in _SHARING:
        require_alone(name)
    import torch

    own = flags.device == "cuda" or (flags.device == "auto" and torch.cuda.is_available())
    return replace(flags, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}") if own else flags


def require_alone(command: str) -> None:
    """Raises ConfigError if there are several processes."""
    what = f"`vqgan {command}` works in one process, but {world()} were started"
    require(world() == 1, what, hint="start it without `torchrun` or `accelerate launch`")


def own(values: Sequence[Value]) -> Sequence[Value]:
    """Those of the values that are this process's to work on."""
    return values[rank() :: world()]


def at_once(size: int, count: int) -> int:
    """Images of a batch: at most ``size``, and so few of ``count`` that there are some for every process."""
    return min(size, max(1, -(-count // world())))


def together(mine: Mapping[Key, Value], order: Iterable[Key]) -> dict[Key, Value]:
    """What all processes have found, in this order; waits for them. What none has found is left out."""
    every: list[Any] = [mine]
    if world() > 1:
        import torch.distributed as dist

        from vqgan.training.engine import where_to_meet

        if not dist.is_initialized():
            dist.init_process_group("gloo", **where_to_meet())
        every = [None] * world()
        dist.all_gather_object(every, mine)
    found = {key: value for each in every for key, value in each.items()}
    return {key: found[key] for key in order if key in found}
