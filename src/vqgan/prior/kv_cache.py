"""Keys and values of tokens already read, in memory that never grows: a new token costs one step, not a whole pass."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Heads = Float[Tensor, "b heads tokens head_width"]
"""Queries, keys or values, split into attention heads."""

Mask = Float[Tensor, "new seen"]
"""Added to the scores of attention: zero, or minus infinity for what a token does not see."""


class KVCache:
    """Keys and values of sequences that are read together, in all layers.

    Args:
        depth: Layers.
        shape: Sequences, heads, most tokens, width of a head.
        like: A tensor of the type and on the device that the cache shall have.

    Attributes:
        count: Sequences.
        capacity: Most tokens.
        length: Tokens read so far; the next one stands at this position.
        layers: For each layer, keys and values (2 b heads capacity head_width).
    """

    def __init__(self, *, depth: int, shape: tuple[int, int, int, int], like: Tensor) -> None:
        self.count, self.capacity = shape[0], shape[2]
        self.length = 0
        self.layers = [like.new_empty((2, *shape)) for _ in range(depth)]

    def positions(self, table: Float[Tensor, "context d"], count: int) -> Float[Tensor, "count d"]:
        """The rows of a table of positions that belong to the next ``count`` tokens.

        Raises:
            ValueError: If they would be more than the cache holds.
        """
        if self.length + count > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens, not {self.length + count}")
        return table[self.length : self.length + count]

    def append(self, layer: int, keys_values: Float[Tensor, "2 b heads n head_width"]) -> tuple[Heads, Heads]:
        """Stores the next tokens' keys and values of one layer; returns those of all tokens so far."""
        store, end = self.layers[layer], self.length + keys_values.shape[3]
        store[:, :, :, self.length : end] = keys_values
        return store[0, :, :, :end], store[1, :, :, :end]

    def mask(self, count: int) -> Mask | None:
        """Which of all tokens each of the next ``count`` sees; None for one that sees all, or all from the start."""
        if count == 1 or self.length == 0:
            return None
        return causal_mask(self.length, count, self.layers[0])

    def advance(self, count: int) -> None:
        """After all layers have stored the next ``count`` tokens."""
        self.length += count

    def go_back(self, length: int) -> None:
        """Forgets the tokens from position ``length`` on."""
        self.length = length


class SteadyCache:
    """A cache whose steps all do the same work on the same memory, so that a recorded step can be replayed.

    It is read as a :class:`KVCache` is, one token at a time. The position of the next token is a tensor; attention runs
    over the whole memory and masks what is not filled.

    Args:
        filled: What was read before; its memory is taken over. Its length stays, so that it can still be read on from
            there.

    Attributes:
        position: Of the next token, one number.

    Raises:
        ValueError: If there is no room for another token.
    """

    def __init__(self, filled: KVCache) -> None:
        if filled.length == filled.capacity:
            raise ValueError(f"the cache holds {filled.capacity} tokens and is full")
        self._layers = filled.layers
        for store in self._layers:
            store[:, :, :, filled.length :] = 0  # masked, but never not-a-number
        device = self._layers[0].device
        self.position = torch.tensor([filled.length], device=device)
        self._places = torch.arange(filled.capacity, device=device)

    def positions(self, table: Float[Tensor, "context d"], count: int) -> Float[Tensor, "count d"]:
        """As :meth:`KVCache.positions`, for one token; there is no check of the room."""
        return table.index_select(0, self.position)

    def append(self, layer: int, keys_values: Float[Tensor, "2 b heads 1 head_width"]) -> tuple[Heads, Heads]:
        """As :meth:`KVCache.append`, but returns the whole memory."""
        store = self._layers[layer].index_copy_(3, self.position, keys_values)
        return store[0], store[1]

    def mask(self, count: int) -> Mask:
        """Hides places that are not filled; the newest token's is."""
        return _hide((self._places > self.position)[None], self._layers[0])

    def advance(self, count: int) -> None:
        """Moves on by one token."""
        self.position += count


def causal_mask(start: int, count: int, like: Tensor) -> Mask:
    """What ``count`` tokens from position ``start`` on see of all tokens up to themselves.

    Args:
        start: Position of the first.
        count: How many.
        like: A tensor of the type and on the device that the mask shall have.

    Example:
        >>> causal_mask(1, 2, torch.empty(0))
        tensor([[0., 0., -inf],
                [0., 0., 0.]])
    """
    places = torch.arange(start + count, device=like.device)
    return _hide(places > places[start:, None], like)


def _hide(hidden: Bool[Tensor, "new seen"], like: Tensor) -> Mask:
    return like.new_zeros(hidden.shape).masked_fill_(hidden, -math.inf)
