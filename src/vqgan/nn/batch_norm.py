"""Batch normalisation over all processes that train together."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy 2015) whose batch is that of all processes, where several train.

    They must pass as many images at the same time, on any backend of ``torch.distributed``. It can be differentiated
    twice. In one process it is PyTorch's layer.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, input: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        """Normalises each channel."""
        is_alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
        if is_alone or not self.training:
            return super().forward(input)
        rank, world = dist.get_rank(), dist.get_world_size()
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        own = torch.stack([values.mean(dim=(0, 2, 3)), values.var(dim=(0, 2, 3), correction=0)])
        # A place for each process, which the others leave zero: no difference of large sums is taken.
        every: Tensor = _Sum.apply(F.pad(own[None], (0, 0, 0, 0, rank, world - 1 - rank)))  # type: ignore[no-untyped-call]
        means, variances = every.unbind(dim=1)
        mean, variance = means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, correction=0)
        count, share = world * values.numel() // values.shape[1], self.momentum or 0.0
        self.running_mean.lerp_(mean.detach(), share)
        self.running_var.lerp_(variance.detach() * count / (count - 1), share)
        self.num_batches_tracked.add_(1)
        factor = self.weight * (variance + self.eps).rsqrt()
        columns = [each[:, None, None] for each in (mean, factor, self.bias)]
        return ((values - columns[0]) * columns[1] + columns[2]).to(input.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the processes, of values and of gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        dist.all_reduce(total := values.clone(memory_format=torch.contiguous_format))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(gradients[0])  # type: ignore[no-untyped-call]
