"""The second stage: how probable is each next token, given the condition and the tokens before it."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan.config import Config, Count, Probability
from vqgan.errors import ConfigError, require
from vqgan.prior.transformer import Group, KVCache, Transformer
from vqgan.types import ConditionTokens, Logits, Tokens

MAX_DEPTH = 1024
"""More would only be built from a damaged or hostile file, and take all memory."""


class PriorShape(Config, frozen=True):
    """The part of a prior's configuration that is chosen; the rest follows from tokenizer, condition and size.

    Attributes:
        depth: Transformer blocks.
        width: Size of a token's vector, a multiple of ``num_heads``.
        num_heads: Attention heads.
        dropout: Probability to drop in training.
        vocabulary: ``separate`` keeps the vectors of condition tokens apart from those of the codes;
            ``shared`` is the published models' single table, in which class 3 and code 3 are one vector.
    """

    depth: Count
    width: Count
    num_heads: Count
    dropout: Probability = 0.0
    vocabulary: Literal["separate", "shared"] = "separate"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.depth <= MAX_DEPTH, f"`depth` is {self.depth}, expected at most {MAX_DEPTH}")
        require(
            self.width % self.num_heads == 0,
            f"`width` is {self.width}, expected a multiple of `num_heads` = {self.num_heads}",
        )


class PriorConfig(PriorShape, frozen=True, kw_only=True):
    """What a prior is.

    Attributes:
        codebook_size: Codes of the tokenizer; the prior predicts one of them.
        condition_size: Different condition tokens (classes, start token, coordinates, ...).
        context_length: Most tokens that are fed: ``m + n - 1`` for ``m`` condition and ``n`` image tokens.
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
    token where nothing else steers). The prior knows lengths only, not grids.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        separate = config.vocabulary == "separate"
        self.condition_offset = config.codebook_size if separate else 0
        rows = config.codebook_size + (config.condition_size if separate else 0)
        self.token_embedding = nn.Embedding(rows, config.width)
        self.transformer = Transformer(
            context_length=config.context_length,
            depth=config.depth,
            width=config.width,
            num_heads=config.num_heads,
            dropout=config.dropout,
        )
        self.head = nn.Linear(config.width, config.codebook_size, bias=False)
        self.apply(_initialise)

    def forward(self, tokens: Tokens, condition_tokens: ConditionTokens) -> Logits:
        """Logits of every token given the true tokens before it; the last token is not read.

        Raises:
            ConfigError: If there is no condition token or ``m + n - 1`` exceeds the context length.
        """
        sequence = self.entries(tokens[:, :-1], condition_tokens)
        features = self._features([Group(sequence)]).unflatten(0, sequence.shape)
        return self.head(features[:, condition_tokens.shape[1] - 1 :])

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
            return self.head(self._features(groups, only_last=only_last))

    def _features(self, groups: Sequence[Group], *, only_last: bool = False) -> Float[Tensor, "asking d"]:
        for group in groups:
            if group.cache is None:
                self.check_length(group.entries.shape[1])
        embedded = [self.token_embedding(group.entries) for group in groups]
        return self.transformer(embedded, groups, only_last=only_last)

    def new_cache(self, count: int, num_tokens: int) -> KVCache:
        """An empty cache for ``count`` sequences of at most ``num_tokens`` fed tokens, condition included.

        Raises:
            ConfigError: If ``num_tokens`` exceeds the context length.
        """
        self.check_length(num_tokens)
        shape = (count, self.config.num_heads, num_tokens, self.config.width // self.config.num_heads)
        return KVCache(depth=self.config.depth, shape=shape, like=self.head.weight)

    def log_probability(
        self, tokens: Tokens, condition_tokens: ConditionTokens, *, read: Tokens | None = None
    ) -> Float[Tensor, "b n"]:
        """Natural logarithm of each token's probability given those before it; in float32 or better.

        Args:
            tokens: The tokens that are scored.
            condition_tokens: What stands in front of them.
            read: The tokens that the prior is shown in their place (some corrupted, in training); by default
                ``tokens`` themselves.
        """
        logits = self(tokens if read is None else read, condition_tokens)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return -F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")

    def entries(self, tokens: Tokens, condition_tokens: ConditionTokens) -> Int[Tensor, "b m+n"]:
        """Condition and image tokens as one sequence of rows of the embedding table.

        Raises:
            ConfigError: If there is no condition token.
        """
        if condition_tokens.shape[1] == 0:
            raise ConfigError("there is no condition token, expected at least a start token")
        return torch.cat([condition_tokens + self.condition_offset, tokens], dim=1)

    def check_length(self, num_tokens: int) -> None:
        """Raises ConfigError if ``num_tokens`` tokens, condition included, exceed the context length."""
        if num_tokens > self.config.context_length:
            raise ConfigError(
                f"{num_tokens} tokens of condition and image are to be read, "
                f"expected at most `context_length` = {self.config.context_length}",
                hint="use a smaller grid, or a prior with a larger `context_length`",
            )


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) for weights and zero for biases (GPT-2); norms and zero positions are made so already."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
