"""What sequences have read before, in memory that never grows, and what their next tokens see of it."""

import math

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

Heads = Float[Tensor, "b heads tokens head_width"]
"""Queries, keys or values of a group of sequences, split into attention heads."""

Mask = Float[Tensor, "*shared new seen"]
"""Added to the scores of attention: zero, or minus infinity for what a token does not see. The same for all sequences
and heads, or one for each."""

Offsets = Int[Tensor, "*shared new seen 2"]
"""Rows and columns from each token that is seen to each that is read."""


class Unkept:
    """What a group of sequences has read before: nothing. Each token sees itself and those before it.

    Attributes:
        length: Tokens read so far; the next one stands at this position.
    """

    length = 0

    def positions(self, table: Shaped[Tensor, "context _"], count: int) -> Shaped[Tensor, "*sequences n _"]:
        """The rows of a table of positions that belong to the next ``count`` tokens."""
        return table[self.length : self.length + count]

    def append(self, layer: int, keys_values: Float[Tensor, "2 b heads n head_width"]) -> tuple[Heads, Heads]:
        """The keys and the values that the next tokens see in one layer, given their own."""
        keys, values = keys_values
        return keys, values

    def mask(self, count: int) -> Mask | None:
        """What each of the next ``count`` tokens does not see; None for one that sees all, or all from the start."""
        return None

    def offsets(self, table: Int[Tensor, "context 2"], count: int) -> Offsets:
        """Offsets in the image of all that is seen, by the places of all tokens of a sequence."""
        end = self.length + count
        return table[self.length : end, None] - table[None, :end]

    def advance(self, count: int) -> None:
        """After all layers have taken in the next ``count`` tokens."""


class KVCache(Unkept):
    """Keys and values of sequences that are read together, in memory that never grows.

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

    def positions(self, table: Shaped[Tensor, "context _"], count: int) -> Shaped[Tensor, "*sequences n _"]:
        """As :meth:`Unkept.positions`.

        Raises:
            ValueError: If they would be more than the cache holds.
        """
        if self.length + count > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens, not {self.length + count}")
        return super().positions(table, count)

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
    return hide(places > places[start:, None], like)


def hide(hidden: Bool[Tensor, "*shared new seen"], like: Tensor) -> Mask:
    """The mask, of the type of ``like``, that hides what is True."""
    return like.new_zeros(hidden.shape).masked_fill_(hidden, -math.inf)
