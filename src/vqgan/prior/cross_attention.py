"""Attention of an image's tokens to vectors that are no tokens of it, as to a text."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan.nn.product import Linear
from vqgan.prior.cache import Heads


class Context(NamedTuple):
    """What all tokens attend to beside those of their own image.

    Attributes:
        vectors: Of each image.
        kept: Their keys and values in the layers that have read them.
    """

    vectors: Float[Tensor, "b m d"]
    kept: dict[int, tuple[Heads, Heads]]


class CrossAttention(nn.Module):
    """Multi-head attention to a context (Vaswani et al. 2017); ``width`` is that of all vectors."""

    def __init__(self, width: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.output = (Linear(width, width) for _ in range(4))

    def forward(self, rows: Float[Tensor, "rows d"], context: Context, layer: int) -> Float[Tensor, "rows d"]:
        """What the rows, equally many of each image, gather in the layer of this number."""
        vectors, kept = context
        if layer not in kept:
            kept[layer] = self._heads(self.key(vectors)), self._heads(self.value(vectors))
        queries = self._heads(self.query(rows).view(len(vectors), -1, rows.shape[1]))
        mixed = F.scaled_dot_product_attention(queries, *kept[layer])
        return self.output(mixed.transpose(1, 2).reshape(rows.shape))

    def _heads(self, vectors: Float[Tensor, "b n d"]) -> Heads:
        return vectors.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
