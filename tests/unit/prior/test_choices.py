"""Every choice of a transformer gives the numbers of its formula, and the same ones through every way of reading."""

import pytest
import torch

from vqgan.prior import Group, Prior, PriorConfig, make_reader, sequence_places
from vqgan.prior.recorded import SteadyCache
from written_out import by_dense_mask

CODES, CONDITIONS, GRID = 7, 3, (3, 4)
CHOICES = [
    {},
    {"norm": "rms"},
    {"feed_forward": "swiglu"},
    {"query_key_norm": True},
    {"positions": "rotary"},
    {"positions": "relative_bias"},
    {"positions": "rotary", "norm": "rms", "feed_forward": "swiglu", "query_key_norm": True},
    {"positions": "relative_bias", "norm": "rms", "query_key_norm": True, "vocabulary": "shared"},
]


def make(*, is_spatial=False, order="raster", num_condition=2, **choices):
    torch.manual_seed(0)
    count = 12 if is_spatial else num_condition
    config = PriorConfig(
        codebook_size=CODES,
        condition_size=CONDITIONS,
        context_length=count + 11,
        depth=2,
        width=16,
        num_heads=2,
        **choices,
    )
    places = sequence_places(order, GRID, (None,) if is_spatial else (count,))
    prior = Prior(config, places).double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(CODES, (2, 12), generator=generator)
    return prior, tokens, torch.randint(CONDITIONS, (2, count), generator=generator), places


@pytest.mark.parametrize("choices", CHOICES, ids=str)
@pytest.mark.parametrize("kind", [{}, {"is_spatial": True}, {"order": "spiral_out"}], ids=str)
def test_the_training_pass_is_the_formula(choices, kind):
    prior, tokens, condition, places = make(**kind, **choices)
    entries = torch.cat([condition + prior.condition_offset, tokens[:, :-1]], dim=1)
    may_see = torch.ones(len(places), len(places)).tril().bool()
    expected = by_dense_mask(prior, prior.token_embedding(entries), places.tolist(), may_see)
    torch.testing.assert_close(prior(tokens, condition), expected[:, condition.shape[1] - 1 :])


@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_all_ways_of_reading_give_the_numbers_of_the_training_pass(choices):
    prior, tokens, condition, _ = make(**choices)
    expected, reader = prior(tokens, condition).detach(), make_reader(prior)
    entries = prior.entries(tokens[:, :-1], condition)
    cache, other = (reader.new_cache(2, 13) for _ in range(2))
    found = [reader.read([Group(part, cache)]) for part in entries.split([2, 1, 4, 3, 3], dim=1)]
    torch.testing.assert_close(torch.stack(found, dim=1), expected[:, [0, 1, 5, 8, 11]])
    groups = [Group(entries[:, :5]), Group(entries[:, :9], other)]
    torch.testing.assert_close(reader.read(groups), torch.cat([expected[:, 3], expected[:, 7]]))
    steady = SteadyCache(other)
    for place in range(9, 13):
        found = reader.read([Group(entries[:, place : place + 1], steady)])
        torch.testing.assert_close(found, expected[:, place - 1])


@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_training_in_bf16_is_near_and_without_warnings(choices):
    prior, tokens, condition, _ = make(**choices)
    prior.float()
    expected = prior.log_probability(tokens, condition)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = prior.log_probability(tokens, condition)
        found.mean().backward()
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_weights_that_a_choice_does_not_need_do_not_exist():
    plain, rotary = (set(make(positions=kind)[0].state_dict()) for kind in ("learned", "rotary"))
    assert plain - rotary == {"transformer.positions"}
    assert rotary <= plain
    biased = set(make(positions="relative_bias")[0].state_dict())
    assert biased - rotary == {f"transformer.blocks.{layer}.attention.bias.table" for layer in range(2)}
    assert not any("feed_forward_norm.bias" in name for name in make(norm="rms")[0].state_dict())


@pytest.mark.parametrize("choices", CHOICES[1:], ids=str)
def test_all_weights_learn(choices):
    prior, tokens, condition, _ = make(**choices)
    prior.train().log_probability(tokens, condition).mean().backward()
    assert all(parameter.grad.any() for parameter in prior.parameters())


def test_a_gated_layer_has_about_as_many_weights_as_a_plain_one():
    wide = {
        "depth": 1,
        "width": 192,
        "num_heads": 2,
        "codebook_size": 4,
        "condition_size": 1,
        "context_length": 1,
    }
    counts = [
        sum(p.numel() for p in Prior(PriorConfig(**wide, feed_forward=kind)).transformer.parameters())
        for kind in ("gelu", "swiglu")
    ]
    assert abs(counts[1] / counts[0] - 1) < 0.02
