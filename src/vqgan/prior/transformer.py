"""The causal transformer: pre-norm blocks over learned positions, in reading order."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Features = Float[Tensor, "b n d"]
"""One vector for each token of a sequence."""


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

    def forward(self, features: Features) -> Features:
        """Mixes each token with those before it."""
        batch, count, width = features.shape
        queries, keys, values = (
            layer(features).view(batch, count, self.num_heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=True,
        )
        mixed = self.output(mixed.transpose(1, 2).reshape(batch, count, width))
        return F.dropout(mixed, self.dropout, self.training)


class Block(nn.Module):
    """Attention, then two layers for each token alone; each part reads normalised input and adds to it."""

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

    def forward(self, features: Features) -> Features:
        """One layer of the transformer."""
        features = features + self.attention(self.attention_norm(features))
        return features + self.feed_forward(self.feed_forward_norm(features))


class Transformer(nn.Module):
    """Turns a sequence of token vectors into vectors that predict the next token.

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

    def forward(self, embedded: Features) -> Features:
        """Reads whole sequences of token vectors, to which their positions are added here."""
        features = embedded + self.positions[:, : embedded.shape[1]]
        features = F.dropout(features, self.dropout, self.training)
        for block in self.blocks:
            features = block(features)
        return self.norm(features)
