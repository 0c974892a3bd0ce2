"""Products with weights that do not change, through the fastest kernel of the machine.

For one row a product is bound by reading its weights: on CPUs a matrix times a vector reads them fastest, laid out so
that the longer side is the one that runs through memory. For a few rows oneDNN with weights laid out for it is fastest,
and for many it is at least as fast as MKL, to which PyTorch hands fp32 products and which on some of AMD's processors
is three times slower. oneDNN is reached through operators that PyTorch keeps to itself: where they are absent,
everything goes the public way.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

FEW_ROWS = 64
"""Up to so many rows a product gains from weights that are laid out for it."""


@dataclass(frozen=True)
class Weights:
    """The weights of one product.

    Attributes:
        weight: One row for each output.
        bias: Added to each output, or None.
        turned: ``weight`` once more for single rows, one row for each input; None where that gains nothing.
        packed: ``weight`` once more for few rows, laid out by oneDNN; None where the public way is taken.
    """

    weight: Float[Tensor, "e d"]
    bias: Float[Tensor, " e"] | None
    turned: Float[Tensor, "d e"] | None = None
    packed: Tensor | None = None


def prepare(weight: Float[Tensor, "e d"], bias: Float[Tensor, " e"] | None, *, rows: int) -> Weights:
    """Weights for products with (mostly) ``rows`` rows; the second copy that this may take is freed with it."""
    outputs, inputs = weight.shape
    if rows == 1 and is_vector_quick(weight):
        return Weights(weight, bias, turned=weight.t().contiguous() if outputs >= inputs else None)
    if rows <= FEW_ROWS and has_onednn(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        return Weights(weight, bias, packed=packed)
    return Weights(weight, bias)


def product(rows: Float[Tensor, "n d"], weights: Weights) -> Float[Tensor, "n e"]:
    """``rows @ weight.T + bias``; keeps no gradients."""
    if len(rows) == 1 and is_vector_quick(rows):
        matrix = weights.weight if weights.turned is None else weights.turned.t()
        if weights.bias is None:
            return torch.mv(matrix, rows[0])[None]
        return torch.addmv(weights.bias, matrix, rows[0])[None]
    if not has_onednn(rows):
        return F.linear(rows, weights.weight, weights.bias)
    is_packed = weights.packed is not None and len(rows) <= FEW_ROWS
    weight = weights.packed if is_packed else weights.weight
    return torch.ops.mkldnn._linear_pointwise(rows, weight, weights.bias, "none", [], "")


def is_vector_quick(tensor: Tensor) -> bool:
    """Whether a matrix times a vector is the quickest product of one row, of this type and on this device."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


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
