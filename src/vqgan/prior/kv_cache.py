"""Keys and values of the tokens already read, so that a new token costs one step instead of a whole pass."""

from jaxtyping import Float
from torch import Tensor

Heads = Float[Tensor, "b heads tokens head_width"]
"""Queries, keys or values, split into attention heads."""


class LayerCache:
    """Keys and values of one attention layer in memory that never grows.

    The memory is set aside when the first keys arrive and takes their type and device, so that autocast
    decides about the cache as it does about the layer.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Heads, values: Heads) -> tuple[Tensor, Tensor]:
        """Stores the keys and values of new tokens and returns those of all tokens so far.

        Raises:
            ValueError: If more than ``capacity`` tokens would be stored.
        """
        batch, heads, count, head_width = keys.shape
        if self._keys is None or self._values is None:
            shape = (batch, heads, self.capacity, head_width)
            self._keys, self._values = keys.new_empty(shape), values.new_empty(shape)
        start, end = self.length, self.length + count
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens, not {end}")
        self._keys[:, :, start:end] = keys
        self._values[:, :, start:end] = values
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]


class KVCache:
    """The caches of all layers for one batch of sequences of at most ``capacity`` tokens."""

    def __init__(self, *, depth: int, capacity: int) -> None:
        self.layers = [LayerCache(capacity) for _ in range(depth)]

    @property
    def length(self) -> int:
        """Tokens read so far; the next token stands at this position."""
        return self.layers[0].length
