"""Training in less memory: what layers made is computed again when the backward pass needs it (Chen et al. 2016)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqgan.nn.convolution import Level
from vqgan.prior.transformer import Block


def recompute(model: nn.Module) -> None:
    """Lets a prior's blocks and the levels of encoder and decoder keep only their inputs for the backward pass.

    Gradients are the same, bit by bit, dropout included; names and values of the weights are not touched.
    """
    for part in model.modules():
        if isinstance(part, Block | Level):
            part.forward = partial(_again, part.forward)  # type: ignore[method-assign]


def _again(forward: Callable[..., Tensor], *inputs: object) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    result: Tensor = checkpoint(forward, *inputs, use_reentrant=False)
    return result
