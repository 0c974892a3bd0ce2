"""The transformer from its formulas, with loops and a dense mask; only the weights are the prior's."""

import cmath
import math

import torch


def by_dense_mask(prior, rows, places, may_see):
    """Logits (b n K) for token vectors (b n d) at places [(row, column)]; ``may_see`` (n n): what each row attends to."""
    config, (batch, count, _) = prior.config, rows.shape
    if config.positions == "learned":
        rows = rows + prior.transformer.positions[0, :count]
    for block in prior.transformer.blocks:
        attention, normed = block.attention, normalised(block.attention_norm, rows)
        queries, keys, values = (
            layer(normed).view(batch, count, config.num_heads, -1)
            for layer in (attention.query, attention.key, attention.value)
        )
        if config.query_key_norm:
            queries, keys = normalised(attention.query_norm, queries), normalised(attention.key_norm, keys)
        scores = torch.empty(batch, config.num_heads, count, count, dtype=rows.dtype)
        for q, place in enumerate(places):
            for k, other in enumerate(places):
                away = (place[0] - other[0], place[1] - other[1])
                if not may_see[q][k]:
                    scores[:, :, q, k] = -math.inf
                    continue
                if config.positions == "rotary":
                    product = rotary_product(queries[:, q], keys[:, k], away)
                else:
                    product = (queries[:, q] * keys[:, k]).sum(-1)
                scores[:, :, q, k] = product / math.sqrt(config.width / config.num_heads)
                if config.positions == "relative_bias":
                    low = attention.bias.lowest
                    scores[:, :, q, k] += attention.bias.table[:, away[0] - low[0], away[1] - low[1]]
        mixed = (scores.softmax(-1) @ values.transpose(1, 2)).transpose(1, 2).flatten(2)
        rows = rows + attention.output(mixed)
        normed = normalised(block.feed_forward_norm, rows)
        if config.feed_forward == "swiglu":
            gate, value = block.feed_forward.widen(normed).chunk(2, dim=-1)
            rows = rows + block.feed_forward.narrow(gate / (1 + (-gate).exp()) * value)
        else:
            hidden = block.feed_forward[0](normed)
            rows = rows + block.feed_forward[2](hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))
    return prior.head(normalised(prior.transformer.norm, rows))


def normalised(norm, rows):
    if isinstance(norm, torch.nn.RMSNorm):
        return rows / (rows.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight
    centred = rows - rows.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def rotary_product(query, key, away):
    """The product of a query and a key (b heads d) after turning; pairs of numbers are complex, turned by the offset."""
    quarter, total = query.shape[-1] // 4, 0
    for axis in (0, 1):
        for number in range(quarter):
            first = 2 * axis * quarter + number
            pair = [torch.complex(x[..., first], x[..., first + quarter]) for x in (query, key)]
            turn = cmath.exp(1j * away[axis] * 100.0 ** (-number / quarter))
            total = total + (pair[0] * turn * pair[1].conj()).real
    return total
