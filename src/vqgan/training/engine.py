"""Device, precision and processes; the only place that computes with accelerate."""

import atexit
import logging
import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather, reduce
from torch import Tensor

from vqgan.checkpoints.load import DTYPES, PRECISIONS, best_precision, pick_device
from vqgan.errors import ConfigError, closest

logger = logging.getLogger(__name__)

PATIENCE = timedelta(days=1)
"""How long processes wait for the first, which evaluates, draws and saves alone; a launcher knows if one has died."""


class Engine:
    """Where and how a run computes.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``; with several processes each takes its own.
        precision: ``"fp32"``; ``"bf16"``; ``"fp16"``, whose losses are scaled (see :class:`TrainingState`); ``"tf32"``:
            products of fp32 numbers on the tensor cores of NVIDIA's cards, which read 11 bits of each factor; or
            ``"auto"``: bf16 on devices and processors that compute in it, fp16 on other CUDA cards, else fp32
            (emulated, bf16 is an order of magnitude slower).

    Attributes:
        rank: Number of this process.
        world: How many processes train together.
        is_main: Whether this process writes the files.
        device: Where this process computes.
        precision: ``"fp32"``, ``"tf32"``, ``"bf16"`` or ``"fp16"``.

    Raises:
        ConfigError: If the device is absent or the precision cannot be trained with.
    """

    def __init__(self, device: str = "auto", precision: str = "fp32") -> None:
        target = pick_device(device)
        if precision not in (names := (*PRECISIONS, "tf32")):
            raise ConfigError(f"unknown precision `{precision}`", hint=closest(precision, names))
        if precision == "tf32" and target.type != "cuda":
            raise ConfigError(
                f"`{target.type}` does not compute in `tf32`, a CUDA card would", hint="use `fp32` or `bf16`"
            )
        if precision == "auto":
            best = best_precision(target)
            precision = best if best == "bf16" or target.type == "cuda" else "fp32"
            logger.info("precision `auto` is `%s` here", precision)
        self._state = PartialState(cpu=target.type == "cpu", **where_to_meet())
        self.rank, self.world = self._state.process_index, self._state.num_processes
        self.is_main = self._state.is_main_process
        self.device = self._state.device if self.world > 1 else target
        self.precision = precision
        if self.world > 1:  # a group that is left open may crash at the end
            atexit.register(self._state.destroy_process_group)
            self._beside = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
        if target.type == "cuda":  # for convolutions it is PyTorch's default
            torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"

    def autocast(self) -> AbstractContextManager[object]:
        """Computes in the run's precision inside the block; weights stay fp32."""
        if self.precision in ("fp32", "tf32"):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes."""
        return tensor if self.world == 1 else reduce(tensor, reduction="sum")

    def average(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        return tensor if self.world == 1 else reduce(tensor, reduction="mean")

    def gather(self, rows: Tensor, parts: int) -> Tensor:
        """The rows of a step of ``parts`` micro-batches of all processes, in the order in which one would have them."""
        if self.world == 1:
            return rows
        return gather(rows).unflatten(0, (self.world, parts, -1)).transpose(0, 1).flatten(0, 2)

    def mean(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Scalars averaged over the processes, as numbers."""
        if not values:
            return {}
        kind = torch.promote_types(torch.get_default_dtype(), torch.float32)
        stacked = torch.stack([value.detach().to(self.device, kind) for value in values.values()])
        return dict(zip(values, self.average(stacked).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all of them get the same answer, without waiting for the device."""
        if self.world == 1:
            return flag
        torch.distributed.all_reduce(count := torch.tensor(int(flag)), group=self._beside)
        return bool(count)

    def main_first(self) -> AbstractContextManager[None]:
        """The main process runs the block before the others: what it downloads they only read."""
        return self._state.main_process_first()

    def barrier(self) -> None:
        """Waits for all processes."""
        self._state.wait_for_everyone()


def put(values: Tensor, device: torch.device) -> Tensor:
    """The values on a device. A CUDA card is not waited for: it copies from pinned memory when it comes to it."""
    is_read_later = device.type == "cuda" and not values.is_cuda
    return (values.pin_memory() if is_read_later else values).to(device, non_blocking=is_read_later)


def is_restarted() -> bool:
    """Whether a launcher (``torchrun --max-restarts``) started this process again after one of them ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def where_to_meet() -> dict[str, Any]:
    """Arguments of ``init_process_group``, by which also processes that were started again find each other.

    The launcher's store still holds the addresses of those before them.
    """
    if not is_restarted():
        return {"timeout": PATIENCE}
    from torch.distributed.rendezvous import rendezvous

    store, rank, world = next(rendezvous("env://"))
    prefix = os.environ["TORCHELASTIC_RESTART_COUNT"]
    own = torch.distributed.PrefixStore(prefix, store)  # type: ignore[attr-defined]
    return {"timeout": PATIENCE, "store": own, "rank": rank, "world_size": world}
