"""The second stage: how probable is each next token, given the condition and the tokens before it."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan.config import Count
from vqgan.errors import ConfigError, require
from vqgan.nn.product import Linear
from vqgan.prior.branches import LocalStore
from vqgan.prior.cache import KVCache, Unkept
from vqgan.prior.local import CellCondition, LocalCache, LocalReading, TiledReading
from vqgan.prior.transformer import Group, LocalSpan, PriorShape, Transformer
from vqgan.types import ConditionTokens, Indices, Logits, PartLengths, Tokens, behind

Between = dict[int, Tensor] | None
"""Numbers of layers whose outputs are wanted, with what they are."""


class PriorConfig(PriorShape, frozen=True, kw_only=True):
    """What a prior is.

    Attributes:
        codebook_size: Codes of the tokenizer; the prior predicts one of them.
        condition_size: Different condition tokens (classes, start token, coordinates, ...).
        context_length: Most tokens that are fed: ``m + n - 1`` for ``m`` condition and ``n`` image tokens. Of a prior
            of local span it only says how large its training images were.
    """

    codebook_size: Count
    condition_size: Count
    context_length: Count

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.vocabulary == "separate" or self.condition_size <= self.codebook_size,
            f"`condition_size` is {self.condition_size}, "
            f"a shared vocabulary has only {self.codebook_size} entries",
            hint="use `vocabulary: separate`",
        )

    def shape(self) -> PriorShape:
        """The chosen part of it."""
        return msgspec.convert(self, PriorShape, from_attributes=True)


class Prior(nn.Module):
    """A distribution over token sequences, p(tokens | condition) = product of p(token | tokens before it).

    Condition tokens stand in front of the image's tokens; there is always at least one of them (a start
    token where nothing else steers). With a local span the condition is added to every cell instead, and texts are
    attended to in every layer.

    Args:
        config: What it is.
        places: Row and column of every token that is fed, in the order of the sequence; needed for positions in the
            image, unless the span is local.
        lengths: Condition tokens of each part; needed for a local span only.
        vector_width: Of the vectors that condition tokens below 0 stand for; 0 if there are none.
    """

    def __init__(
        self,
        config: PriorConfig,
        places: Int[Tensor, "context 2"] | None = None,
        *,
        lengths: PartLengths = (1,),
        vector_width: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        separate, span = config.vocabulary == "separate", config.span
        self.condition_offset = config.codebook_size if separate else 0
        before = config.condition_size if span is None else 1  # what stands before the first token of a row
        self.token_embedding = nn.Embedding(config.codebook_size + (before if separate else 0), config.width)
        if span is not None:
            size, side = config.condition_size, span.condition_side
            self.cell_condition = CellCondition(size, config.width, lengths=lengths, side=side)
            places = torch.zeros(0, 2, dtype=torch.int64, device="cpu")  # its readings know their own
        known = config.context_length if config.positions == "learned" else places
        if known is None:
            raise ConfigError(f"`positions: {config.positions}` needs the places of the tokens")
        has_context = span is not None and any(length is not None and length > 1 for length in lengths)
        self.transformer = Transformer(config, known, has_context=has_context)
        self.head: nn.Linear = Linear(config.width, config.codebook_size, bias=False)
        if vector_width:
            self.vector_projection = Linear(vector_width, config.width)
        self.apply(_initialise)

    def with_vectors(self, vectors: Float[Tensor, "rows width"] | None) -> "Prior":
        """Itself for one call, in which condition tokens below 0 stand for these vectors, -1 for the last.

        Weights are shared and keep their gradients; later changes of them are not reflected.
        """
        if vectors is None:
            return self
        found: Prior = _copy(self)
        rows = self.vector_projection(vectors.to(self.head.weight))
        if self.config.span is None:
            found.token_embedding = _Extended(self.token_embedding, rows)
        else:
            found.cell_condition = _copy(self.cell_condition)
            found.cell_condition.embedding = _Extended(self.cell_condition.embedding, rows)
        return found

    def forward(
        self,
        tokens: Tokens,
        condition_tokens: ConditionTokens,
        grid: tuple[int, int] | None = None,
        *,
        added: Float[Tensor, "b n d"] | None = None,
        between: Between = None,
    ) -> Logits:
        """Logits of every token given the true tokens before it.

        Args:
            tokens: Of the images, in the prior's order.
            condition_tokens: What steers it.
            grid: Rows and columns, for a prior of local span.
            added: Vectors that are added to those of the tokens, unless the span is local: zeros that carry gradients.
            between: Numbers of layers; what each makes of every entry that predicts a token (b n d) is put there.

        Raises:
            ConfigError: If there is no condition token, ``m + n - 1`` exceeds the context length, or a local
                span is not told the grid.
        """
        if self.config.span is not None:
            if grid is None:
                raise ConfigError("a prior of local span needs the `grid` of the tokens")
            return self._forward_local(tokens.unflatten(1, grid), condition_tokens, self.config.span, between)
        sequence = self.entries(tokens[:, :-1], condition_tokens)  # the last token is not read
        if added is not None:
            added = F.pad(added[:, :-1], (0, 0, condition_tokens.shape[1], 0))
        count = tokens.shape[1]
        return self._logits(Group(sequence, added=added, between=between), slice(-count, None), last=count)

    def _forward_local(
        self, indices: Indices, condition_tokens: ConditionTokens, span: LocalSpan, between: Between
    ) -> Logits:
        whole = TiledReading(
            span, (indices.shape[1], indices.shape[2]), count=len(indices), like=self.head.weight
        )
        group = replace(self.cells(indices, condition_tokens, whole), between=between)
        return self._logits(group, whole.targets, count=len(indices))

    def _logits(
        self,
        group: Group,
        targets: Tensor | slice,
        *,
        count: int | None = None,
        last: int | None = None,
    ) -> Logits:
        """Of the entries that predict tokens; what the layers between make of them too.

        Args:
            group: The entries.
            targets: Those that predict tokens.
            count: Images, where one may have several tiles.
            last: The last layer computes only so many at the end of each sequence.
        """
        features = self._features([group], last=last)
        shape = (len(group.entries) if count is None else count, -1)
        if group.between is not None:
            found = group.between.items()
            group.between.update({n: rows.unflatten(0, shape)[:, targets] for n, rows in found})
        return self.head(features.unflatten(0, shape)[:, targets])

    def cells(self, indices: Indices, condition_tokens: ConditionTokens, reading: LocalReading) -> Group:
        """The entries that a reading of local span takes in next, each with the condition of its target.

        Args:
            indices: The grid; of each entry the token that it stands for must be there.
            condition_tokens: Of each image, or of each of its cells.
            reading: Says which entries.
        """
        rows, columns = reading.rows, reading.columns
        tokens = indices[:, rows, columns.clamp(min=0)].where(columns >= 0, self.config.codebook_size)
        grid = (indices.shape[1], indices.shape[2])
        added = self.cell_condition(condition_tokens, grid, rows.flatten(), columns.flatten() + 1)
        if reading.context is None or reading.context[0] is not condition_tokens:
            reading.context = condition_tokens, self.cell_condition.context(condition_tokens, grid)
        vectors = added.reshape(-1, rows.shape[1], self.config.width)
        return Group(tokens.flatten(0, 1), reading, vectors, reading.context[1])

    @torch.no_grad()
    def read(self, groups: Sequence[Group], *, only_last: bool = True) -> Float[Tensor, "rows K"]:
        """Reads the next tokens of all groups: what follows the last token of each sequence, as logits.

        Args:
            groups: What is read; the rows of the result are their sequences, group after group.
            only_last: False gives a row for every token that is read, sequence after sequence.

        Raises:
            ConfigError: If a sequence exceeds the context length.
            ValueError: If it exceeds its cache.
        """
        with torch.autocast(self.head.weight.device.type, enabled=False):
            return self.head(self._features(groups, last=1 if only_last else None))

    def _features(self, groups: Sequence[Group], *, last: int | None = None) -> Float[Tensor, "asking d"]:
        embedded = []
        for group in groups:
            if type(group.cache) is Unkept:
                self.check_length(group.entries.shape[1])
            vectors = self.token_embedding(group.entries)
            embedded.append(vectors if group.added is None else vectors + group.added)
        return self.transformer(embedded, groups, last=last)

    def new_cache(self, count: int, num_tokens: int) -> KVCache:
        """An empty cache for ``count`` sequences of at most ``num_tokens`` fed tokens, condition included.

        Raises:
            ConfigError: If ``num_tokens`` exceeds the context length.
        """
        self.check_length(num_tokens)
        shape = (count, self.config.num_heads, num_tokens, self.config.head_width)
        return KVCache(depth=self.config.depth, shape=shape, like=self.head.weight)

    def new_local_cache(self, span: LocalSpan, grid: tuple[int, int], count: int) -> LocalCache:
        """An empty cache for drawing ``count`` grids of these rows and columns with a local span."""
        return LocalCache(span, grid, count=count, **self._storage)

    def new_local_store(self, span: LocalSpan, grid: tuple[int, int], count: int) -> LocalStore:
        """An empty store for reading ``count`` grids of these rows and columns again and again with a local span."""
        return LocalStore(span, grid, count=count, **self._storage)

    @property
    def _storage(self) -> dict[str, Any]:
        """What keys and values need room for."""
        heads = (self.config.num_heads, self.config.head_width)
        return {"depth": self.config.depth, "heads": heads, "like": self.head.weight}

    def log_probability(
        self,
        tokens: Tokens,
        condition_tokens: ConditionTokens,
        grid: tuple[int, int] | None = None,
        *,
        read: Tokens | None = None,
        between: Between = None,
    ) -> Float[Tensor, "b n"]:
        """Natural logarithm of each token's probability given those before it; in float32 or better.

        Args:
            tokens: The tokens that are scored.
            condition_tokens: What stands in front of them.
            grid: Rows and columns, for a prior of local span.
            read: The tokens that the prior is shown in their place (some corrupted, in training); by default
                ``tokens`` themselves.
            between: See :meth:`forward`.
        """
        logits = self(tokens if read is None else read, condition_tokens, grid, between=between)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        found = -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none")
        return found.view_as(tokens)

    def entries(self, tokens: Tokens, condition_tokens: ConditionTokens) -> Int[Tensor, "b m+n"]:
        """Condition and image tokens as one sequence of rows of the embedding table.

        Raises:
            ConfigError: If there is no condition token.
        """
        if condition_tokens.shape[1] == 0:
            raise ConfigError("there is no condition token, expected at least a start token")
        return torch.cat([behind(condition_tokens, self.condition_offset), tokens], dim=1)

    def check_length(self, num_tokens: int) -> None:
        """Raises ConfigError if ``num_tokens`` tokens, condition included, exceed the context length."""
        if num_tokens > self.config.context_length:
            raise ConfigError(
                f"{num_tokens} tokens of condition and image are to be read, "
                f"expected at most `context_length` = {self.config.context_length}",
                hint="use a smaller grid, or a prior with a larger `context_length`",
            )


class _Extended(nn.Embedding):
    """The vectors of an embedding and more behind them, which numbers below 0 count from the end; no parameters."""

    def __init__(self, embedding: nn.Embedding, rows: Float[Tensor, "rows d"]) -> None:
        nn.Module.__init__(self)
        self.weight, self.embedding_dim = torch.cat([embedding.weight, rows]), rows.shape[1]

    def forward(self, input: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d"]:
        return F.embedding(input % len(self.weight), self.weight)


def _copy(module: Any) -> Any:
    """A module of the same parts, some of which may be replaced."""
    found = copy.copy(module)
    found._modules = dict(module._modules)
    return found


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) for weights and zero for biases (GPT-2); norms and zero positions are made so already."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
