"""The causal transformer: pre-norm blocks over learned positions.

One forward pass serves training, which reads whole sequences, and sampling, which reads a few tokens more with the keys
and values of earlier ones in a cache. Tokens of all sequences are rows of one matrix, so that sequences of several
lengths share every product; only attention tells them apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan.types import Tokens

Rows = Float[Tensor, "rows d"]
"""Token vectors of all sequences, one below the other."""

Asking = Float[Tensor, "asking d"]
"""The vectors of those tokens whose results are needed."""

Queries = Float[Tensor, "asking heads head_width"]
"""Of the tokens whose result is needed."""

KeysValues = Float[Tensor, "rows 2 heads head_width"]
"""Of all tokens that are read now."""

Heads = Float[Tensor, "b heads tokens head_width"]
"""Queries, keys or values of a group of sequences, split into attention heads."""

Mask = Float[Tensor, "new seen"]
"""Added to the scores of attention: zero, or minus infinity for what a token does not see."""


class KVCache:
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


def hide(hidden: Bool[Tensor, "new seen"], like: Tensor) -> Mask:
    """The mask, of the type of ``like``, that hides what is True."""
    return like.new_zeros(hidden.shape).masked_fill_(hidden, -math.inf)


@dataclass(frozen=True)
class Group:
    """Sequences of one length that are read together.

    Attributes:
        entries: Their next tokens as rows of the embedding table (see :meth:`Prior.entries`).
        cache: What they have read before, and where these tokens are added; None if all is read now.
    """

    entries: Tokens
    cache: KVCache | None = None


class Span(NamedTuple):
    """What one layer reads.

    Attributes:
        layer: Its number.
        groups: Whose tokens the rows are, group after group and sequence after sequence.
        masks: What the tokens of each group do not see; None where all is seen, or all up to themselves.
        asking: The rows whose results are needed; None for all.
    """

    layer: int
    groups: Sequence[Group]
    masks: Sequence[Mask | None]
    asking: Int[Tensor, " asking"] | None = None


class Attention(nn.Module):
    """Multi-head self-attention in which a token sees itself and the tokens before it.

    Args:
        width: Size of a token's vector.
        num_heads: Heads; ``width`` must be a multiple of it.
        dropout: Probability to drop an attention weight, and an output, in training.
    """

    def __init__(self, *, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, rows: Rows, span: Span) -> Asking:
        """What the asking tokens gather from themselves and those before them."""
        queries, keys_values = self.project(rows, span.asking)
        if len(span.groups) == 1:
            mixed = self._attend(queries, keys_values, span.groups[0], span.masks[0], span.layer)
        else:
            fed = [group.entries.numel() for group in span.groups]
            asking = fed if span.asking is None else [len(group.entries) for group in span.groups]
            parts = zip(queries.split(asking), keys_values.split(fed), span.groups, span.masks, strict=True)
            mixed = torch.cat([self._attend(*part, span.layer) for part in parts])
        output = self.output(mixed)
        return F.dropout(output, self.dropout) if self.training else output

    def project(self, rows: Rows, asking: Int[Tensor, " asking"] | None) -> tuple[Queries, KeysValues]:
        """Queries of the asking rows, keys and values of all."""
        asked = rows if asking is None else rows[asking]
        keys_values = torch.stack([self.key(rows), self.value(rows)], dim=1)
        return self.query(asked).unflatten(1, (self.num_heads, -1)), keys_values.unflatten(
            2, (self.num_heads, -1)
        )

    def _attend(
        self, queries: Queries, keys_values: KeysValues, group: Group, mask: Mask | None, layer: int
    ) -> Asking:
        (sequences, count), (_, *heads) = group.entries.shape, queries.shape
        asked = queries.view(sequences, -1, *heads).transpose(1, 2)
        stored = keys_values.view(sequences, count, 2, *heads).permute(2, 0, 3, 1, 4)
        keys, values = stored if group.cache is None else group.cache.append(layer, stored)
        is_causal, dropout = mask is None and asked.shape[2] > 1, self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            asked, keys, values, attn_mask=mask, dropout_p=dropout, is_causal=is_causal
        )
        return mixed.transpose(1, 2).reshape(len(queries), -1)


class Block(nn.Module):
    """Attention, then two layers for each token by itself; each part reads normalised input and adds to it."""

    def __init__(self, *, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width=width, num_heads=num_heads, dropout=dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),  # exact, by the error function
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, rows: Rows, span: Span) -> Asking:
        """One layer of the transformer, for the asking rows."""
        mixed = self.attention(self.attention_norm(rows), span)
        rows = (rows if span.asking is None else rows[span.asking]) + mixed
        return rows + self.feed_forward(self.feed_forward_norm(rows))


class Transformer(nn.Module):
    """Turns sequences of token vectors into vectors that predict the next token.

    Args:
        context_length: Most tokens it can read; there is one learned position for each.
        depth: Number of blocks.
        width: Size of a token's vector.
        num_heads: Attention heads in each block.
        dropout: Probability to drop in training: inputs, attention weights, outputs of both parts of a block.
    """

    def __init__(
        self, *, context_length: int, depth: int, width: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.positions = nn.Parameter(torch.zeros(1, context_length, width))
        self.blocks = nn.ModuleList(
            Block(width=width, num_heads=num_heads, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, embedded: Sequence[Float[Tensor, "_ _ d"]], groups: Sequence[Group], *, only_last: bool = False
    ) -> Asking:
        """Reads the next tokens of all groups.

        Args:
            embedded: The vectors of each group's entries; their positions are added here.
            groups: Whose tokens they are; their caches take them in.
            only_last: Whether only the last token of each sequence gives a row of the result.
        """
        parts = [part + self._positions(group) for part, group in zip(embedded, groups, strict=True)]
        rows = torch.cat([part.flatten(0, 1) for part in parts])
        if self.training:
            rows = F.dropout(rows, self.dropout)
        masks = [None if each.cache is None else each.cache.mask(each.entries.shape[1]) for each in groups]
        for layer, block in enumerate(self.blocks):
            span = Span(layer, groups, masks)
            if only_last and layer == len(self.blocks) - 1:
                last = [mask if mask is None else mask[-1:] for mask in masks]
                span = Span(layer, groups, last, _last_rows(groups))
            rows = block(rows, span)
        for group in groups:
            if group.cache is not None:
                group.cache.advance(group.entries.shape[1])
        return self.norm(rows)

    def _positions(self, group: Group) -> Float[Tensor, "n d"]:
        count, table = group.entries.shape[1], self.positions[0]
        return table[:count] if group.cache is None else group.cache.positions(table, count)


def _last_rows(groups: Sequence[Group]) -> Int[Tensor, " asking"] | None:
    """The row of the last token of each sequence; None if those are all rows.

    Example:
        >>> _last_rows([Group(torch.zeros(2, 3).long()), Group(torch.zeros(1, 2).long())]).tolist()
        [2, 5, 7]
    """
    lengths = [group.entries.shape[1] for group in groups for _ in range(len(group.entries))]
    if max(lengths) == 1:
        return None
    return torch.tensor(lengths, device=groups[0].entries.device).cumsum(0) - 1
