"""Reading tokens to draw the next one: fused weights, a cache, and logits of the last place only.

The same numbers as :class:`~vqgan.prior.Prior`'s forward pass, without gradients and dropout. Sequences of
several lengths are read together: every product takes all their tokens at once, attention runs group by group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan.nn.product import Weights, prepare, product
from vqgan.prior.kv_cache import KVCache, Mask, SteadyCache
from vqgan.prior.prior import Prior
from vqgan.prior.transformer import Block
from vqgan.types import Tokens

Rows = Float[Tensor, "rows d"]
"""Token vectors of all sequences, one below the other."""

Queries = Float[Tensor, "asking heads head_width"]
"""Of the tokens that ask."""

KeysValues = Float[Tensor, "fed 2 heads head_width"]
"""Of all tokens that are read now."""

_MAX_COPIED = 2**30
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
    """A prior's weights as they are read fastest. Make it once for each run: later changes of weights do not show.

    The last layer has queries apart from keys and values as well: of most tokens only the latter are needed there.
    """

    prior: Prior
    layers: tuple[Layer, ...]
    last_queries: Weights
    last_keys_values: Weights
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
    cache: KVCache | SteadyCache | None


@torch.no_grad()
def make_reader(prior: Prior, *, has_single_rows: bool = False) -> Reader:
    """Prepares a prior for reading.

    Takes memory for a quarter of the weights (queries, keys and values as one), and on CPUs in fp32 for all of them
    once more, twice for single rows (and for a part of the last layer again), unless they are more than a gigabyte.

    Args:
        prior: The prior.
        has_single_rows: Whether it will mostly read one token of one sequence.
    """
    may_copy = sum(parameter.nbytes for parameter in prior.parameters()) <= _MAX_COPIED
    weights = partial(prepare, has_single_rows=has_single_rows, may_copy=may_copy)
    layers, width = [], prior.config.width
    for block in prior.transformer.blocks:
        block = cast(Block, block)
        attention, feed_forward = block.attention, block.feed_forward
        parts = (attention.query, attention.key, attention.value)
        widen, narrow = cast(nn.Linear, feed_forward[0]), cast(nn.Linear, feed_forward[2])
        joint = (torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
        layers.append(
            Layer(
                attention_norm=block.attention_norm,
                queries_keys_values=weights(*joint),
                output=weights(attention.output.weight, attention.output.bias),
                feed_forward_norm=block.feed_forward_norm,
                widen=weights(widen.weight, widen.bias),
                narrow=weights(narrow.weight, narrow.bias),
            )
        )
    last = layers[-1].queries_keys_values
    return Reader(
        prior,
        tuple(layers),
        last_queries=weights(*_rows_of(last, slice(0, width))),
        last_keys_values=weights(*_rows_of(last, slice(width, None))),
        head=weights(prior.head.weight, None),
    )


def _rows_of(weights: Weights, outputs: slice) -> tuple[Tensor, Tensor | None]:
    return weights.weight[outputs], None if weights.bias is None else weights.bias[outputs]


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
        heads = (reader.prior.config.num_heads, features.shape[1] // reader.prior.config.num_heads)
        masks = [
            None if group.cache is None else group.cache.mask(group.entries.shape[1]) for group in groups
        ]
        for number, layer in enumerate(reader.layers):
            normed = layer.attention_norm(features)
            if is_cut and number == len(reader.layers) - 1:
                last = _last_rows(shapes, features.device)
                features, queries = (
                    features[last],
                    product(normed[last], reader.last_queries).view(-1, *heads),
                )
                keys_values = product(normed, reader.last_keys_values).view(-1, 2, *heads)
                masks = [None if mask is None else mask[-1:] for mask in masks]
            else:
                joint = product(normed, layer.queries_keys_values).view(-1, 3, *heads)
                queries, keys_values = joint[:, 0], joint[:, 1:]
            mixed = _attend(queries, keys_values, number, groups, masks)
            features = features + product(mixed, layer.output)
            widened = product(layer.feed_forward_norm(features), layer.widen)
            features = features + product(F.gelu(widened), layer.narrow)
            del widened  # not beside the next layer's
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


def _attend(
    queries: Queries,
    keys_values: KeysValues,
    layer: int,
    groups: Sequence[Group],
    masks: Sequence[Tensor | None],
) -> Rows:
    """What each token that asks gathers from itself and those before it.

    All tokens ask, or only the last of each sequence.
    """
    if len(groups) == 1:
        return _attend_group(queries, keys_values, layer, groups[0], masks[0])
    fed = [group.entries.numel() for group in groups]
    asking = fed if len(queries) == sum(fed) else [len(group.entries) for group in groups]
    parts = zip(queries.split(asking), keys_values.split(fed), groups, masks, strict=True)
    return torch.cat([_attend_group(asked, part, layer, group, mask) for asked, part, group, mask in parts])


def _attend_group(
    queries: Queries, keys_values: KeysValues, layer: int, group: Group, mask: Mask | None
) -> Rows:
    (sequences, count), (_, *heads) = group.entries.shape, queries.shape
    asked = queries.view(sequences, -1, *heads).transpose(1, 2)
    stored = keys_values.view(sequences, count, 2, *heads).permute(2, 0, 3, 1, 4)
    keys, values = stored if group.cache is None else group.cache.append(layer, stored)
    is_causal = mask is None and asked.shape[2] > 1
    mixed = F.scaled_dot_product_attention(asked, keys, values, attn_mask=mask, is_causal=is_causal)
    return mixed.transpose(1, 2).reshape(len(queries), -1)


def _last_rows(shapes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """The row of the last token of each sequence; ``shapes`` are number and length of the sequences of each group.

    Example:
        >>> _last_rows([(2, 3), (1, 2)], torch.device("cpu")).tolist()
        [2, 5, 7]
    """
    lengths = torch.tensor([length for count, length in shapes for _ in range(count)], device=device)
    return lengths.cumsum(0) - 1
