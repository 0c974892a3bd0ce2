"""Reading tokens to draw the next one: fused weights, a cache, and logits of the last place only.

The same numbers as :class:`~vqgan.prior.Prior`'s forward pass, without gradients and dropout. Sequences of
several lengths are read together: every product takes all their tokens at once, attention runs group by group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan.nn.product import Weights, prepare, product
from vqgan.prior.kv_cache import KVCache
from vqgan.prior.prior import Prior
from vqgan.prior.transformer import Block
from vqgan.types import Tokens

Rows = Float[Tensor, "rows d"]
"""Token vectors of all sequences, one below the other."""

Joint = Float[Tensor, "tokens joint"]
"""Queries, keys and values of tokens, side by side."""

_MOST_COPIED = 2**30
"""Bytes of weights; of larger ones there is no second copy."""


@dataclass(frozen=True)
class Layer:
    """The weights of one block, those of queries, keys and values as one."""

    attention_norm: nn.LayerNorm
    queries_keys_values: Weights
    output: Weights
    feed_forward_norm: nn.LayerNorm
    widen: Weights
    narrow: Weights


@dataclass(frozen=True)
class Reader:
    """A prior's weights as they are read fastest. Make it once for each run: later changes of weights do not show."""

    prior: Prior
    layers: tuple[Layer, ...]
    head: Weights

    @property
    def like(self) -> Tensor:
        """A weight, for its type and device."""
        return self.prior.head.weight

    def new_cache(self, count: int, num_tokens: int) -> KVCache:
        """An empty cache for ``count`` sequences of at most ``num_tokens`` fed tokens, condition included.

        Raises:
            ConfigError: If ``num_tokens`` exceeds the context length.
        """
        config = self.prior.config
        self.prior.check_length(num_tokens)
        shape = (count, config.num_heads, num_tokens, config.width // config.num_heads)
        return KVCache(depth=config.depth, shape=shape, like=self.like)


@dataclass(frozen=True)
class Group:
    """Sequences of one length that are read together.

    Attributes:
        entries: Their next tokens as rows of the embedding table (see :meth:`Prior.entries`).
        cache: What they have read before, and where these tokens are added; None if all is read now.
    """

    entries: Tokens
    cache: KVCache | None


@torch.no_grad()
def make_reader(prior: Prior, *, has_single_rows: bool = False) -> Reader:
    """Prepares a prior for reading.

    Takes memory for a quarter of the weights (queries, keys and values as one), and on CPUs in fp32 for all of them
    once more, twice for single rows, unless they are more than a gigabyte.

    Args:
        prior: The prior.
        has_single_rows: Whether it will mostly read one token of one sequence.
    """

    def weights(weight: Tensor, bias: Tensor | None) -> Weights:
        return prepare(weight, bias, has_single_rows=has_single_rows, may_copy=may_copy)

    may_copy = sum(parameter.nbytes for parameter in prior.parameters()) <= _MOST_COPIED
    layers = []
    for block in prior.transformer.blocks:
        block = cast(Block, block)
        attention, feed_forward = block.attention, block.feed_forward
        parts = (attention.query, attention.key, attention.value)
        widen, narrow = cast(nn.Linear, feed_forward[0]), cast(nn.Linear, feed_forward[2])
        joint = weights(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
        layers.append(
            Layer(
                attention_norm=block.attention_norm,
                queries_keys_values=joint,
                output=weights(attention.output.weight, attention.output.bias),
                feed_forward_norm=block.feed_forward_norm,
                widen=weights(widen.weight, widen.bias),
                narrow=weights(narrow.weight, narrow.bias),
            )
        )
    return Reader(prior, tuple(layers), weights(prior.head.weight, None))


@torch.no_grad()
def read(reader: Reader, groups: Sequence[Group], *, only_last: bool = True) -> Float[Tensor, "rows K"]:
    """Reads the next tokens of all groups; what follows the last token of each sequence, as logits.

    Args:
        reader: The prior.
        groups: What is read; the rows of the result are their sequences, group after group.
        only_last: False gives a row for every token that is read, sequence after sequence.

    Raises:
        ConfigError: If a sequence exceeds the context length.
        ValueError: If it exceeds its cache.
    """
    with torch.autocast(reader.like.device.type, enabled=False):
        features = torch.cat([_embed(reader.prior, group) for group in groups])
        shapes = [(group.entries.shape[0], group.entries.shape[1]) for group in groups]
        is_cut = only_last and any(count > 1 for _, count in shapes)
        for number, layer in enumerate(reader.layers):
            is_cut_here = is_cut and number == len(reader.layers) - 1
            joint = product(layer.attention_norm(features), layer.queries_keys_values)
            mixed = _attend(joint, number, groups, reader.prior.config.num_heads, is_cut_here)
            if is_cut_here:
                features = features[_last_rows(shapes, features.device)]
            features = features + product(mixed, layer.output)
            hidden = F.gelu(product(layer.feed_forward_norm(features), layer.widen))
            features = features + product(hidden, layer.narrow)
        for group in groups:
            if group.cache is not None:
                group.cache.advance(group.entries.shape[1])
        return product(reader.prior.transformer.norm(features), reader.head)


def _embed(prior: Prior, group: Group) -> Rows:
    count, table = group.entries.shape[1], prior.transformer.positions[0]
    if group.cache is None:
        prior.check_length(count)
        positions = table[:count]
    else:
        positions = group.cache.positions(table, count)
    return (prior.token_embedding(group.entries) + positions).flatten(0, 1)


def _attend(joint: Joint, number: int, groups: Sequence[Group], num_heads: int, only_last: bool) -> Rows:
    """What each token (or only the last of each sequence) gathers from those before it.

    ``joint`` holds queries, keys and values of all groups' tokens, as the layer ``number`` computed them.
    """
    if len(groups) == 1:
        return _attend_group(joint, number, groups[0], num_heads, only_last)
    parts = joint.split([group.entries.numel() for group in groups])
    return torch.cat(
        [
            _attend_group(part, number, group, num_heads, only_last)
            for part, group in zip(parts, groups, strict=True)
        ]
    )


def _attend_group(joint: Joint, number: int, group: Group, num_heads: int, only_last: bool) -> Rows:
    sequences, count = group.entries.shape
    heads = joint.view(sequences, count, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
    queries = heads[0][:, :, -1:] if only_last else heads[0]
    if group.cache is None:
        keys, values, mask = heads[1], heads[2], None
    else:
        keys, values = group.cache.append(number, heads[1:])
        mask = group.cache.mask(queries.shape[2])
    is_causal = mask is None and queries.shape[2] > 1
    mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=is_causal)
    return mixed.transpose(1, 2).reshape(-1, joint.shape[1] // 3)


def _last_rows(shapes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """The row of the last token of each sequence; ``shapes`` are number and length of the sequences of each group.

    Example:
        >>> _last_rows([(2, 3), (1, 2)], torch.device("cpu")).tolist()
        [2, 5, 7]
    """
    lengths = torch.tensor([length for count, length in shapes for _ in range(count)], device=device)
    return lengths.cumsum(0) - 1
