import math

import torch

from vqgan.prior import Group, PriorShape
from vqgan.prior.transformer import Attention, Block, Sight, Span, Transformer


def read(layer, features):
    """One layer over whole sequences (b n d)."""
    group = Group(torch.zeros(features.shape[:2], dtype=torch.int64))
    return layer(features.flatten(0, 1), Span(0, [group], [Sight(None, None)], None)).view(features.shape)


def written_out_attention(layer, features):
    batch, count, width = features.shape
    head_width = width // layer.num_heads
    split = lambda x: x.view(batch, count, layer.num_heads, head_width).transpose(1, 2)  # noqa: E731
    queries, keys, values = (
        split(layer.query(features)),
        split(layer.key(features)),
        split(layer.value(features)),
    )
    scores = queries @ keys.transpose(2, 3) / math.sqrt(head_width)
    scores = scores.masked_fill(torch.ones(count, count).triu(1).bool(), -math.inf)
    return layer.output((scores.softmax(-1) @ values).transpose(1, 2).reshape(batch, count, width))


def test_attention_equals_its_formula_written_out():
    layer = Attention(PriorShape(depth=1, width=12, num_heads=3), None).double()
    features = torch.randn(2, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(read(layer, features), written_out_attention(layer, features))


def test_block_adds_normalised_attention_then_a_gelu_network():
    block = Block(PriorShape(depth=1, width=8, num_heads=2), None).double()
    features = torch.randn(2, 5, 8, dtype=torch.float64)
    middle = features + read(block.attention, block.attention_norm(features))
    hidden = block.feed_forward[0](block.feed_forward_norm(middle))
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    torch.testing.assert_close(read(block, features), middle + block.feed_forward[2](hidden))


def test_dropout_acts_in_training_only():
    layer = Transformer(PriorShape(depth=1, width=8, num_heads=2, dropout=0.5), 6)
    embedded = torch.randn(1, 6, 8)
    given = ([embedded], [Group(torch.zeros(1, 6, dtype=torch.int64))])
    assert not torch.equal(layer(*given), layer(*given))
    layer.eval()
    assert torch.equal(layer(*given), layer(*given))
