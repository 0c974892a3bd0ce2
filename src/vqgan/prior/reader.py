"""A prior prepared for sampling: the same forward pass over weights that are laid out for the fastest products."""

import copy
from functools import cache

import torch
from jaxtyping import Int
from torch import Tensor, nn

from vqgan.nn.product import FastLinear
from vqgan.prior.prior import Prior
from vqgan.prior.transformer import Attention, Block, KeysValues, Queries, Rows

_MAX_COPIED = 2**30
"""Bytes of weights; of larger ones there is no second copy."""


@torch.no_grad()
def make_reader(prior: Prior, *, has_single_rows: bool = False) -> Prior:
    """Prepares a prior for many readings without gradients; later weight updates are not reflected.

    Takes memory for a quarter of the weights (queries, keys and values as one), and on CPUs in fp32 for all of them
    once more, twice for single rows (and for a part of the last layer again), unless they are more than a gigabyte.

    Args:
        prior: The prior.
        has_single_rows: Whether it will mostly read one token of one sequence.
    """
    may_copy = sum(parameter.nbytes for parameter in prior.parameters()) <= _MAX_COPIED

    def fast(weight: Tensor, bias: Tensor | None) -> FastLinear:
        return FastLinear(weight, bias, has_single_rows=has_single_rows, may_copy=may_copy)

    def fast_layer(layer: nn.Module) -> FastLinear:
        assert isinstance(layer, nn.Linear)
        return fast(layer.weight, layer.bias)

    reader = copy.deepcopy(prior, {id(parameter): parameter for parameter in prior.parameters()})
    for block in reader.transformer.blocks:
        assert isinstance(block, Block)
        attention, parts = (
            block.attention,
            (block.attention.query, block.attention.key, block.attention.value),
        )
        weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
        fused = FusedAttention(attention, joint=fast(weight, bias), output=fast_layer(attention.output))
        block.attention = fused
        for name, layer in list(block.feed_forward.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(block.feed_forward, name, fast_layer(layer))
    width = prior.config.width  # in the last layer queries are needed of few rows, keys and values of all
    fused.asked = nn.ModuleList(fast(weight[rows], bias[rows]) for rows in (slice(width), slice(width, None)))
    reader.head = fast_layer(prior.head)
    for module in reader.modules():
        _make_bare(module)
    return reader.eval()


def _make_bare(module: nn.Module) -> None:
    """Lets calls go to ``forward`` without a search for hooks, and children be found like other attributes.

    In a small prior, PyTorch's own way takes a fifth of the time of a token.
    """
    module.__class__ = _without_hooks(type(module))  # type: ignore[arg-type]
    vars(module).update(module._modules)
    vars(module).update(module._parameters)
    vars(module).update(module._buffers)


@cache
def _without_hooks(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (kind,), {"__call__": kind.forward})


class FusedAttention(Attention):
    """Attention with one product for queries, keys and values.

    Args:
        plain: The attention whose other parts are taken over.
        joint: Makes queries, keys and values, one after the other.
        output: The last product.

    Attributes:
        asked: Makes queries, and keys with values, apart.
    """

    asked: nn.ModuleList

    def __init__(self, plain: Attention, *, joint: FastLinear, output: FastLinear) -> None:
        nn.Module.__init__(self)
        self.num_heads, self.dropout, self.joint, self.output = plain.num_heads, 0.0, joint, output
        self.query_norm, self.key_norm, self.bias = plain.query_norm, plain.key_norm, plain.bias

    def project(self, rows: Rows, asking: Int[Tensor, " asking"] | None) -> tuple[Queries, KeysValues]:
        """As :meth:`Attention.project`."""
        if asking is None:
            joint = self.joint(rows).view(-1, 3, self.num_heads, rows.shape[1] // self.num_heads)
            return joint[:, 0], joint[:, 1:]
        queries, keys_values = self.asked[0](rows[asking]), self.asked[1](rows)
        return queries.unflatten(1, (self.num_heads, -1)), keys_values.unflatten(1, (2, self.num_heads, -1))
