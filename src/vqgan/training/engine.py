"""Device, precision and processes; the only place that computes with accelerate."""

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, reduce
from torch import Tensor, nn

from vqgan.checkpoints.load import DTYPES, PRECISIONS, best_precision, pick_device
from vqgan.errors import ConfigError, closest

logger = logging.getLogger(__name__)


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
        self._state = PartialState(cpu=target.type == "cpu")
        self.rank, self.world = self._state.process_index, self._state.num_processes
        self.is_main = self._state.is_main_process
        self.device = self._state.device if self.world > 1 else target
        self.precision = precision
        if target.type == "cuda":  # for convolutions it is PyTorch's default
            torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"

    def autocast(self) -> AbstractContextManager[object]:
        """Computes in the run's precision inside the block; weights stay fp32."""
        if self.precision in ("fp32", "tf32"):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the processes; one exchange for all of them."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        flat = reduce(flat, reduction="mean")
        for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(piece.view_as(gradient))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes."""
        return tensor if self.world == 1 else reduce(tensor, reduction="sum")

    @torch.no_grad()
    def broadcast(self, tensor: Tensor) -> None:
        """Gives every process the values that the first has."""
        if self.world > 1:
            tensor.copy_(broadcast(tensor.detach()))

    def mean(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Scalars averaged over the processes, as numbers."""
        if not values:
            return {}
        stacked = torch.stack([value.detach().float().to(self.device) for value in values.values()])
        total = self.sum(stacked) / self.world
        return dict(zip(values, total.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all of them get the same answer."""
        return flag if self.world == 1 else bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def main_first(self) -> AbstractContextManager[None]:
        """The main process runs the block before the others: what it downloads they only read."""
        return self._state.main_process_first()

    def barrier(self) -> None:
        """Waits for all processes."""
        self._state.wait_for_everyone()
