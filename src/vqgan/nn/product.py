"""Linear layers through the fastest kernels of the machine, for sampling and for training.

For one row a product is bound by reading its weights: on CPUs it is split among the threads as a batch of vectors times
matrices, laid out so that the longer side is the one that runs through memory. For several rows oneDNN is fastest, with
weights laid out for it; PyTorch hands fp32 products to MKL, which on some of AMD's processors is three times slower.
oneDNN is reached through operators that PyTorch keeps to itself: where they are absent, everything goes the public way.
In training, where gradients are products too, it is reached by a convolution.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_LAID_OUT_FOR = 16
"""Rows for which oneDNN lays weights out: best for few, and not worse for many."""


_FEW = 128
"""Fewer rows gain nothing from a convolution."""


class Linear(nn.Linear):
    """PyTorch's layer, on AMD's processors with AVX-512 through oneDNN: twice as fast there, backwards too."""

    def forward(self, rows: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows e"]:
        """``rows @ weight.T + bias``."""
        count = rows.shape[:-1].numel()
        if rows.dtype != torch.float32 or count < _FEW or count % 2 or not prefers_convolutions(rows):
            return super().forward(rows)
        # Two columns of pixels in channels-last layout: with one, PyTorch would take the other layout.
        pixels = rows.reshape(1, -1, 2, self.in_features).permute(0, 3, 1, 2)
        product = F.conv2d(pixels, self.weight[:, :, None, None], self.bias)
        return product.permute(0, 2, 3, 1).reshape(*rows.shape[:-1], self.out_features)


def prefers_convolutions(tensor: Tensor) -> bool:
    """Whether fp32 products on this device are faster as 1x1 convolutions; autocast has its own way."""
    return tensor.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and MKL_IS_SLOW


def _mkl_is_slow() -> bool:
    found = torch.cpu.get_capabilities()
    is_slow = bool(found.get("avx512_f")) and "AMD" in str(found.get("cpu_name"))
    return is_slow and torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()


MKL_IS_SLOW = _mkl_is_slow()
"""On this processor; compiled code must know it from the start."""


class FastLinear(nn.Linear):
    """A linear layer whose weights do not change, prepared for many products; keeps no gradients.

    Args:
        weight: One row for each output.
        bias: Added to each output, or None.
        has_single_rows: Whether many products will be of one row.
        may_copy: Whether there is memory for the weights once or twice more.

    Attributes:
        parts: ``weight`` for single rows (p d o), the outputs split among the threads; None where there are none.
        packed: ``weight`` once more, laid out by oneDNN; None where it is taken as it is.
    """

    def __init__(
        self,
        weight: Float[Tensor, "e d"],
        bias: Float[Tensor, " e"] | None,
        *,
        has_single_rows: bool,
        may_copy: bool,
    ) -> None:
        nn.Module.__init__(self)
        (self.out_features, self.in_features), self.parts, self.packed = weight.shape, None, None
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)  # type: ignore[assignment]
        if may_copy and has_single_rows and is_split(weight):
            self.parts = _split(self.weight)
        if may_copy and has_onednn(weight):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), _LAID_OUT_FOR)

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """``rows @ weight.T + bias``."""
        if self.parts is not None and rows.shape[0] == 1:
            parts = torch.bmm(rows.expand(self.parts.shape[0], 1, -1), self.parts).view(1, -1)
            return parts if self.bias is None else parts.add_(self.bias)
        if not has_onednn(rows):
            return F.linear(rows, self.weight, self.bias)
        weight = self.weight if self.packed is None else self.packed
        return torch.ops.mkldnn._linear_pointwise(rows, weight, self.bias, "none", [], "")


def is_split(tensor: Tensor) -> bool:
    """Whether products of one row, of this type and on this device, are fastest when split among threads."""
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
