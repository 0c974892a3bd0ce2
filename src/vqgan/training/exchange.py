"""Gradients averaged over the processes while the backward pass still computes others."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vqgan.training.sharding import is_sharded

BUCKET_BYTES = 25_000_000
"""Gradients that are sent together: few enough to send early, many enough that sending pays."""


class GradientExchange:
    """Averages gradients over the processes, bucket after bucket, each as soon as it is complete.

    A bucket holds parameters in the reverse of their order, which is about that in which a backward pass ends with them
    (Li et al. 2020). All processes send the buckets in the same order. Parameters that are sharded are left out.

    Args:
        parameters: What is trained, in the same order in every process.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._buckets: list[list[nn.Parameter]] = []
        self._number: dict[nn.Parameter, int] = {}
        room = 0
        for parameter in reversed([each for each in parameters if not is_sharded(each)]):
            room -= parameter.nbytes
            if room < 0:
                self._buckets.append([])
                room = BUCKET_BYTES - parameter.nbytes
            self._buckets[-1].append(parameter)
            self._number[parameter] = len(self._buckets) - 1
            parameter.register_post_accumulate_grad_hook(self._added)
        self.begin(1)

    def begin(self, parts: int) -> None:
        """Begins a step, whose gradients are complete after so many backward passes."""
        self._missing = [parts * len(bucket) for bucket in self._buckets]
        self._sent: list[tuple[list[Tensor], Tensor, dist.Work]] = []

    def _added(self, parameter: Tensor) -> None:
        self._missing[self._number[parameter]] -= 1  # type: ignore[index]  # only parameters have this hook
        while len(self._sent) < len(self._buckets) and self._missing[len(self._sent)] == 0:
            self._send()

    def _send(self) -> None:
        bucket = self._buckets[len(self._sent)]
        gradients = [p.grad for p in bucket if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients] or [bucket[0].new_zeros(1)])
        self._sent.append((gradients, flat, dist.all_reduce(flat, async_op=True)))

    @torch.no_grad()
    def finish(self) -> None:
        """Replaces every gradient by its mean, once all are there; parameters without one send nothing."""
        while len(self._sent) < len(self._buckets):
            self._send()
        for gradients, flat, work in self._sent:
            work.wait()
            pieces = flat.div_(dist.get_world_size()).split([each.numel() for each in gradients] or [1])
            for gradient, piece in zip(gradients, pieces, strict=False):
                gradient.copy_(piece.view_as(gradient))
