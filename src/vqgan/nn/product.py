"""Products with weights that do not change, through the fastest kernel of the machine.

For one row a product is bound by reading its weights: on CPUs it is split among the threads as a batch of vectors times
matrices, laid out so that the longer side is the one that runs through memory. For several rows oneDNN is fastest, with
weights laid out for it; PyTorch hands fp32 products to MKL, which on some of AMD's processors is three times slower.
oneDNN is reached through operators that PyTorch keeps to itself: where they are absent, everything goes the public way.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_LAID_OUT_FOR = 16
"""Rows for which oneDNN lays weights out: best for few, and not worse for many."""


@dataclass(frozen=True)
class Weights:
    """The weights of one product.

    Attributes:
        weight: One row for each output.
        bias: Added to each output, or None.
        parts: ``weight`` for single rows, the outputs split among the threads; None where there are none.
        packed: ``weight`` once more, laid out by oneDNN; None where it is taken as it is.
    """

    weight: Float[Tensor, "e d"]
    bias: Float[Tensor, " e"] | None
    parts: Float[Tensor, "p d o"] | None
    packed: Tensor | None


def prepare(
    weight: Float[Tensor, "e d"], bias: Float[Tensor, " e"] | None, *, has_single_rows: bool, may_copy: bool
) -> Weights:
    """Weights for many products.

    Args:
        weight: One row for each output.
        bias: Added to each output, or None.
        has_single_rows: Whether many products will be of one row.
        may_copy: Whether there is memory for the weights once or twice more.
    """
    parts = packed = None
    if may_copy and has_single_rows and is_split(weight):
        parts = _split(weight)
    if may_copy and has_onednn(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _LAID_OUT_FOR)
    return Weights(weight, bias, parts, packed)


def product(rows: Float[Tensor, "n d"], weights: Weights) -> Float[Tensor, "n e"]:
    """``rows @ weight.T + bias``; keeps no gradients."""
    if len(rows) == 1 and weights.parts is not None:
        parts = torch.bmm(rows.expand(len(weights.parts), 1, -1), weights.parts).view(1, -1)
        return parts if weights.bias is None else parts.add_(weights.bias)
    if not has_onednn(rows):
        return F.linear(rows, weights.weight, weights.bias)
    weight = weights.weight if weights.packed is None else weights.packed
    return torch.ops.mkldnn._linear_pointwise(rows, weight, weights.bias, "none", [], "")


def is_split(tensor: Tensor) -> bool:
    """Whether products of one row, of this type and on this device, are quickest split among threads."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _split(weight: Float[Tensor, "e d"]) -> Float[Tensor, "p d o"]:
    """The outputs in as many parts as there are threads (a power of two), with the longer side running on."""
    (outputs, inputs), count = weight.shape, 1
    while 2 * count <= torch.get_num_threads() and outputs % (2 * count) == 0:
        count *= 2
    parts = weight.view(count, outputs // count, inputs).transpose(1, 2)
    return parts.contiguous() if outputs > inputs else parts


def has_onednn(tensor: Tensor) -> bool:
    """Whether products of this type, on this device, can go to oneDNN by the operators that are not public."""
    return (
        tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
