"""Products with weights that do not change, through the fastest kernel of the machine.

On x86 processors PyTorch hands fp32 products to MKL, which on AMD's is up to three times slower than oneDNN, and
reads weights as they lie, which for a few rows costs up to twice the time of weights laid out for them. oneDNN is
reached through an operator that PyTorch keeps to itself: where it is absent, everything goes the public way.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

FEW_ROWS = 64
"""Up to so many rows a product is bound by reading its weights, and gains from weights that are laid out for it."""


@dataclass(frozen=True)
class Weights:
    """The weights of one product.

    Attributes:
        weight: One row for each output.
        bias: Added to each output, or None.
        packed: ``weight`` once more, laid out by oneDNN for few rows; None where the public way is taken.
    """

    weight: Float[Tensor, "e d"]
    bias: Float[Tensor, " e"] | None
    packed: Tensor | None


def prepare(weight: Float[Tensor, "e d"], bias: Float[Tensor, " e"] | None, *, rows: int) -> Weights:
    """Weights for products with (mostly) ``rows`` rows; the second copy that this may take is freed with it."""
    packed = None
    if rows <= FEW_ROWS and has_fast_product(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return Weights(weight, bias, packed)


def product(rows: Float[Tensor, "n d"], weights: Weights) -> Float[Tensor, "n e"]:
    """``rows @ weight.T + bias``; keeps no gradients."""
    if not has_fast_product(rows):
        return F.linear(rows, weights.weight, weights.bias)
    few = weights.packed is not None and len(rows) <= FEW_ROWS
    weight = weights.packed if few else weights.weight
    return torch.ops.mkldnn._linear_pointwise(rows, weight, weights.bias, "none", [], "")


def has_fast_product(tensor: Tensor) -> bool:
    """Whether a product of this type, on this device, goes to oneDNN by the operator that is not public."""
    return (
        tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
