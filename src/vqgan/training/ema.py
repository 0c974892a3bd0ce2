"""An exponential moving average of a model's weights, as plain tensors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Follows a model: ``average += (1 - decay) * (weight - average)`` after every step.

    The decay rises as ``(1 + step) / (10 + step)`` at first, so that the random initial weights are forgotten.
    Everything in the state dict that is not a floating-point number is copied.

    Args:
        model: The model to follow; the average starts as its present weights.
        decay: Between 0 and 1, for example 0.999.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the model's weights after optimizer step ``step`` (from 0)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        state = model.state_dict()
        moving = [name for name, tensor in self.tensors.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.tensors[n] for n in moving], [state[n] for n in moving], weight)
        for name, tensor in self.tensors.items():
            if not tensor.is_floating_point():
                tensor.copy_(state[name])

    @torch.no_grad()
    def overwrite_rows(self, name: str, rows: Tensor, values: Tensor) -> None:
        """Sets rows of one tensor that were replaced by hand: their past means nothing any more."""
        self.tensors[name][rows] = values

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes back stored averages."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])


@contextmanager
def averaged(model: nn.Module, average: WeightAverage | None) -> Iterator[None]:
    """Inside the block, the model has the averaged weights (if there are any) and is in evaluation mode."""
    training = model.training
    raw = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()} if average else {}
    if average:
        model.load_state_dict(average.tensors, strict=True)
    model.eval()
    try:
        yield
    finally:
        if average:
            model.load_state_dict(raw, strict=True)
        model.train(training)
