"""The causal transformer: pre-norm blocks whose parts are chosen by :class:`PriorShape`.

One forward pass serves training, which reads whole sequences, and sampling, which reads a few tokens more with the keys
and values of earlier ones in a cache. Tokens of all sequences are rows of one matrix, so that sequences of several
lengths share every product; only attention tells them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan.config import Config, Count, Probability
from vqgan.errors import require
from vqgan.nn.product import Linear
from vqgan.nn.token_layers import (
    FeedForwardKind,
    NormKind,
    RelativeBias,
    Rotation,
    make_feed_forward,
    make_norm,
    rotate,
    rotation,
)
from vqgan.prior.cache import Mask, Offsets, Unkept, causal_mask
from vqgan.prior.cross_attention import Context, CrossAttention
from vqgan.types import Tokens

MAX_DEPTH = 1024
"""More would only be built from a damaged or hostile file, and take all memory."""

Rows = Float[Tensor, "rows d"]
"""Token vectors of all sequences, one below the other."""

Asking = Float[Tensor, "asking d"]
"""The vectors of those tokens whose results are needed."""

Queries = Float[Tensor, "asking heads head_width"]
"""Of the tokens whose result is needed."""

KeysValues = Float[Tensor, "rows 2 heads head_width"]
"""Of all tokens that are read now."""


class LocalSpan(Config, frozen=True):
    """What a token sees: those before it in raster order that are near.

    Attributes:
        rows: At most this many rows above.
        columns: At most this many columns beside, on either side.
        condition_side: A spatial condition is seen in a square of cells with this side, an odd number, around the
            token that is drawn.
    """

    rows: Count
    columns: Count
    condition_side: Count = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.condition_side % 2 == 1, f"`condition_side` is {self.condition_side}, expected an odd number"
        )


class PriorShape(Config, frozen=True):
    """The part of a prior's configuration that is chosen; the rest follows from tokenizer, condition and size.

    Of each choice the first is that of the original, and of its checkpoints.

    Attributes:
        depth: Transformer blocks.
        width: Size of a token's vector, a multiple of ``num_heads``.
        num_heads: Attention heads.
        dropout: Probability to drop in training.
        vocabulary: ``separate`` keeps the vectors of condition tokens apart from those of the codes;
            ``shared`` is the published models' single table, in which class 3 and code 3 are one vector.
        positions: ``learned``: a vector for each place of the sequence. ``rotary``: queries and keys are turned by row
            and column of the image. ``relative_bias``: a learned number for each offset of two tokens in the image.
        norm: LayerNorm or RMSNorm.
        feed_forward: Two layers with GELU, or gated by SiLU.
        query_key_norm: Queries and keys of every head are normalised.
        span: What a token sees; none means all before it. With a local span, a prior draws grids of any size, and
            every token costs the same. It needs ``rotary`` or ``relative_bias``.
    """

    depth: Count
    width: Count
    num_heads: Count
    dropout: Probability = 0.0
    vocabulary: Literal["separate", "shared"] = "separate"
    positions: Literal["learned", "rotary", "relative_bias"] = "learned"
    norm: NormKind = "layer"
    feed_forward: FeedForwardKind = "gelu"
    query_key_norm: bool = False
    span: LocalSpan | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.depth <= MAX_DEPTH, f"`depth` is {self.depth}, expected at most {MAX_DEPTH}")
        require(
            self.width % self.num_heads == 0,
            f"`width` is {self.width}, expected a multiple of `num_heads` = {self.num_heads}",
        )
        require(
            self.positions != "rotary" or self.head_width % 4 == 0,
            f"heads of width {self.head_width} cannot be rotary, expected a multiple of 4",
            hint="choose another `width` or `num_heads`",
        )
        require(
            self.span is None or self.positions != "learned",
            "a local `span` has no use for `positions: learned`, which end with the training size",
            hint="use `positions: rotary` or `relative_bias`",
        )
        require(
            self.span is None or self.vocabulary == "separate",
            "a local `span` keeps conditions apart, it cannot have a shared `vocabulary`",
            hint="use `vocabulary: separate`",
        )

    @property
    def head_width(self) -> int:
        """Width of an attention head."""
        return self.width // self.num_heads


@dataclass(frozen=True)
class Group:
    """Sequences of one length that are read together.

    Attributes:
        entries: Their next tokens as rows of the embedding table (see :meth:`Prior.entries`).
        cache: What they have read before, and where these tokens are added.
        added: Vectors that are added to those of the entries.
        context: What they attend to, if the transformer has cross-attention; then it reads one group at a time.
        between: Numbers of layers, if it reads this group alone; what comes out of each is put there.
    """

    entries: Tokens
    cache: Unkept = Unkept()  # noqa: RUF009 (it has no state)
    added: Float[Tensor, "_ _ d"] | None = None
    context: Context | None = None
    between: dict[int, Tensor] | None = None


class Sight(NamedTuple):
    """What the next tokens of a group see.

    Attributes:
        mask: None where each sees all, or itself and all before it.
        offsets: For :class:`RelativeBias`; else None.
    """

    mask: Mask | None
    offsets: Offsets | None

    def of_last(self, count: int) -> "Sight":
        """The same for the last ``count`` tokens of each sequence."""
        mask = None if self.mask is None else self.mask[..., -count:, :]
        return Sight(mask, None if self.offsets is None else self.offsets[..., -count:, :, :])


class Span(NamedTuple):
    """What one layer reads.

    Attributes:
        layer: Its number.
        groups: Whose tokens the rows are, group after group and sequence after sequence.
        sights: What the tokens of each group see.
        rotation: How queries and keys of the rows are turned; None for other positions.
        asking: The rows whose results are needed; None for all.
        last: How many of them each sequence has.
    """

    layer: int
    groups: Sequence[Group]
    sights: Sequence[Sight]
    rotation: Rotation | None
    asking: Int[Tensor, " asking"] | None = None
    last: int = 1


class Attention(nn.Module):
    """Multi-head self-attention in which a token sees itself and tokens before it.

    Args:
        shape: Of the transformer; dropout is for attention weights and outputs.
        offsets: The smallest and the largest offsets in the image of two tokens, where there is a bias for each.
    """

    def __init__(self, shape: PriorShape, offsets: tuple[tuple[int, int], tuple[int, int]] | None) -> None:
        super().__init__()
        width = shape.width
        self.num_heads = shape.num_heads
        self.dropout = shape.dropout
        self.query, self.key, self.value = (Linear(width, width) for _ in range(3))
        self.output: nn.Linear = Linear(width, width)
        norms = [make_norm(shape.norm, shape.head_width) if shape.query_key_norm else None for _ in range(2)]
        self.query_norm, self.key_norm = norms
        self.bias = (
            None if offsets is None else RelativeBias(shape.num_heads, lowest=offsets[0], highest=offsets[1])
        )

    def forward(self, rows: Rows, span: Span) -> Asking:
        """What the asking tokens gather from themselves and those before them."""
        queries, keys_values = self.project(rows, span.asking)
        if self.query_norm is not None or span.rotation is not None:
            queries, keys_values = self._placed(queries, keys_values, span)
        if len(span.groups) == 1:
            mixed = self._attend(queries, keys_values, span.groups[0], span.sights[0], span.layer)
        else:
            fed = [group.entries.numel() for group in span.groups]
            asking = fed if span.asking is None else [span.last * len(each.entries) for each in span.groups]
            parts = zip(queries.split(asking), keys_values.split(fed), span.groups, span.sights, strict=True)
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

    def _placed(self, queries: Queries, keys_values: KeysValues, span: Span) -> tuple[Queries, KeysValues]:
        """Queries and keys normalised, and turned by the places of their tokens."""
        keys, values = keys_values.unbind(1)
        if self.query_norm is not None and self.key_norm is not None:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        if span.rotation is not None:
            asked = span.rotation if span.asking is None else span.rotation[span.asking]
            queries, keys = rotate(queries, asked), rotate(keys, span.rotation)
        return queries, torch.stack([keys, values], dim=1)

    def _attend(
        self, queries: Queries, keys_values: KeysValues, group: Group, sight: Sight, layer: int
    ) -> Asking:
        (sequences, count), (_, *heads) = group.entries.shape, queries.shape
        asked = queries.view(sequences, -1, *heads).transpose(1, 2)
        stored = keys_values.view(sequences, count, 2, *heads).permute(2, 0, 3, 1, 4)
        keys, values = group.cache.append(layer, stored)
        mask, offsets = sight
        is_causal, dropout = mask is None and asked.shape[2] > 1, self.dropout if self.training else 0.0
        if self.bias is not None and offsets is not None:
            bias, is_causal = self.bias(offsets), False
            mask = bias if mask is None else bias + mask
        mixed = F.scaled_dot_product_attention(
            asked, keys, values, attn_mask=mask, dropout_p=dropout, is_causal=is_causal
        )
        return mixed.transpose(1, 2).reshape(len(queries), -1)


class Block(nn.Module):
    """Attention, then a feed-forward part for each token by itself; each reads normalised input and adds to it.

    Between them is cross-attention, if the tokens have a context.
    """

    def __init__(
        self,
        shape: PriorShape,
        offsets: tuple[tuple[int, int], tuple[int, int]] | None,
        *,
        has_context: bool = False,
    ) -> None:
        super().__init__()
        self.attention_norm = make_norm(shape.norm, shape.width)
        self.attention = Attention(shape, offsets)
        if has_context:
            self.cross_norm = make_norm(shape.norm, shape.width)
            self.cross_attention = CrossAttention(shape.width, num_heads=shape.num_heads)
        self.feed_forward_norm = make_norm(shape.norm, shape.width)
        self.feed_forward = make_feed_forward(shape.feed_forward, shape.width, shape.dropout)

    def forward(self, rows: Rows, span: Span) -> Asking:
        """One layer of the transformer, for the asking rows."""
        mixed = self.attention(self.attention_norm(rows), span)
        rows = (rows if span.asking is None else rows[span.asking]) + mixed
        if (context := span.groups[0].context) is not None:
            rows = rows + self.cross_attention(self.cross_norm(rows), context, span.layer)
        return rows + self.feed_forward(self.feed_forward_norm(rows))


class Transformer(nn.Module):
    """Turns sequences of token vectors into vectors that predict the next token.

    Args:
        shape: What it consists of.
        places: Row and column of each token of a sequence, for positions in the image; or how many tokens it can read
            at most, for learned positions. A local span tells its places itself.
        has_context: Whether groups have one.
    """

    places: Int[Tensor, "context 2"]

    def __init__(
        self, shape: PriorShape, places: Int[Tensor, "context 2"] | int, *, has_context: bool = False
    ) -> None:
        super().__init__()
        self.shape, offsets = shape, None
        if isinstance(places, int):
            self.positions = nn.Parameter(torch.zeros(1, places, shape.width))
        else:
            self.register_buffer("places", places, persistent=False)
            offsets = _extent(shape.span, places) if shape.positions == "relative_bias" else None
        self.blocks = nn.ModuleList(
            Block(shape, offsets, has_context=has_context) for _ in range(shape.depth)
        )
        self.norm = make_norm(shape.norm, shape.width)

    def forward(
        self,
        embedded: Sequence[Float[Tensor, "_ _ d"]],
        groups: Sequence[Group],
        *,
        last: int | None = None,
    ) -> Asking:
        """Reads the next tokens of all groups.

        Args:
            embedded: The vectors of each group's entries; learned positions are added here.
            groups: Whose tokens they are; their caches take them in.
            last: How many tokens at the end of each sequence give a row of the result; None for all.
        """
        rows, turned = self._placed(embedded, groups)
        if self.training:
            rows = F.dropout(rows, self.shape.dropout)
        sights = [self._sight(group, rows) for group in groups]
        for layer, block in enumerate(self.blocks):
            span = Span(layer, groups, sights, turned)
            if last is not None and layer == len(self.blocks) - 1:
                sights = [self._sight(group, rows, last).of_last(last) for group in groups]
                span = Span(layer, groups, sights, turned, _last_rows(groups, last), last)
            rows = block(rows, span)
            if (between := groups[0].between) is not None and layer in between:
                between[layer] = rows
        for group in groups:
            group.cache.advance(group.entries.shape[1])
        return self.norm(rows)

    def _placed(
        self, embedded: Sequence[Float[Tensor, "_ _ d"]], groups: Sequence[Group]
    ) -> tuple[Rows, Rotation | None]:
        """All rows, and how their queries and keys are turned."""
        kind = self.shape.positions
        if kind == "relative_bias":
            return torch.cat([part.flatten(0, 1) for part in embedded]), None
        table = self.positions[0] if kind == "learned" else self.places
        found = [group.cache.positions(table, group.entries.shape[1]) for group in groups]
        if kind == "learned":
            pairs = zip(embedded, found, strict=True)
            return torch.cat([(part + places).flatten(0, 1) for part, places in pairs]), None
        rows = torch.cat([part.flatten(0, 1) for part in embedded])
        places = [
            each.expand(*part.shape[:2], 2).flatten(0, 1) for each, part in zip(found, embedded, strict=True)
        ]
        return rows, rotation(torch.cat(places), self.shape.head_width, rows)

    def _sight(self, group: Group, like: Tensor, last: int = 1) -> Sight:
        """What the tokens see; a mask also where each sees all before it, but more than one of the last are asked."""
        count = group.entries.shape[1]
        mask, is_biased = group.cache.mask(count), self.shape.positions == "relative_bias"
        if mask is None and (is_biased or 1 < last < count):
            mask = causal_mask(group.cache.length, count, like)
        if not is_biased:
            return Sight(mask, None)
        return Sight(mask, group.cache.offsets(self.places, count))


def _extent(
    span: LocalSpan | None, places: Int[Tensor, "context 2"]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The smallest and the largest offsets in the image of a token that is read and one that it sees."""
    if span is not None:
        return (0, -span.columns - 1), (span.rows, span.columns - 1)
    rows, columns = (places.amax(dim=0) - places.amin(dim=0)).tolist()
    return (-rows, -columns), (rows, columns)


def _last_rows(groups: Sequence[Group], last: int) -> Int[Tensor, " asking"] | None:
    """The rows of the last tokens of each sequence; None if those are all rows.

    Example:
        >>> _last_rows([Group(torch.zeros(2, 3).long()), Group(torch.zeros(1, 2).long())], 1).tolist()
        [2, 5, 7]
    """
    lengths = [group.entries.shape[1] for group in groups for _ in range(len(group.entries))]
    if max(lengths) == last:
        return None
    ends = torch.tensor(lengths, device=groups[0].entries.device).cumsum(0)
    return (ends[:, None] + torch.arange(-last, 0, device=ends.device)).flatten()
