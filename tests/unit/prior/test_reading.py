"""Reading for sampling gives the numbers of the forward pass, however the tokens come in."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqgan.errors import ConfigError
from vqgan.nn import product as products
from vqgan.nn.product import FastLinear
from vqgan.prior import Group, Prior, PriorConfig, Unkept, make_reader, sequence_places
from vqgan.prior.recorded import SteadyCache

CONDITION = 2


def make(**sizes):
    torch.manual_seed(0)
    settings = {"codebook_size": 11, "condition_size": 4, "context_length": 14, "depth": 2, "width": 8}
    places = sequence_places("raster", (13, 1), (CONDITION,))
    model = Prior(PriorConfig(**{**settings, "num_heads": 2, **sizes}), places).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


PRIOR = make()


def inputs(batch=3, tokens=9):
    generator = torch.Generator().manual_seed(batch)
    condition = torch.randint(4, (batch, CONDITION), generator=generator)
    return torch.randint(11, (batch, tokens), generator=generator), condition


def whole(tokens, condition):
    """Logits after the condition, and after each token."""
    return PRIOR(torch.cat([tokens, tokens[:, :1]], dim=1), condition).detach()


@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=3), batch=st.integers(1, 3))
def test_any_pieces_through_the_cache_equal_the_whole_pass(counts, batch):
    tokens, condition = inputs(batch, tokens=sum(counts))
    entries = PRIOR.entries(tokens, condition)
    counts = [CONDITION, *counts]
    reader = make_reader(PRIOR)
    cache = reader.new_cache(batch, sum(counts))
    expected, ends = whole(tokens, condition), torch.tensor(counts).cumsum(0)
    found = [reader.read([Group(part, cache)]) for part in entries.split(counts, dim=1)]
    torch.testing.assert_close(torch.stack(found, dim=1), expected[:, ends - CONDITION])
    assert cache.length == sum(counts)


def test_without_a_cache_the_last_row_is_that_of_the_whole_pass():
    tokens, condition = inputs()
    reader = make_reader(PRIOR)
    for length in range(9):
        found = reader.read([Group(PRIOR.entries(tokens[:, :length], condition))])
        torch.testing.assert_close(found, whole(tokens, condition)[:, length])


def test_all_rows_are_those_of_the_whole_pass():
    tokens, condition = inputs()
    reader, entries = make_reader(PRIOR), PRIOR.entries(tokens, condition)
    cache = reader.new_cache(3, 11)
    first = reader.read([Group(entries[:, :5], cache)], only_last=False).view(3, 5, -1)
    second = reader.read([Group(entries[:, 5:], cache)], only_last=False).view(3, 6, -1)
    found = torch.cat([first, second], dim=1)[:, CONDITION - 1 :]
    torch.testing.assert_close(found, whole(tokens, condition))


def test_groups_of_several_lengths_do_not_see_each_other():
    reader = make_reader(PRIOR)
    groups, expected = [], []
    for batch, length, is_cached in ((2, 4, False), (1, 9, True), (3, 0, False), (2, 5, True)):
        tokens, condition = inputs(batch)
        entries = PRIOR.entries(tokens[:, :length], condition)
        cache = Unkept()
        if is_cached:
            cache = reader.new_cache(batch, length + CONDITION)
            reader.read([Group(entries[:, :-3], cache)])
            entries = entries[:, -3:]
        groups.append(Group(entries, cache))
        expected.append(whole(tokens, condition)[:, length])
    torch.testing.assert_close(reader.read(groups), torch.cat(expected))


def test_a_steady_cache_gives_the_same_steps():
    tokens, condition = inputs()
    reader, entries = make_reader(PRIOR), PRIOR.entries(tokens, condition)
    cache, filled = reader.new_cache(3, 11), reader.new_cache(3, 11)
    reader.read([Group(entries[:, :6], cache)])
    reader.read([Group(entries[:, :6], filled)])
    steady = SteadyCache(filled)
    for place in range(6, 11):
        found = reader.read([Group(entries[:, place : place + 1], steady)])
        torch.testing.assert_close(found, reader.read([Group(entries[:, place : place + 1], cache)]))


def test_steps_follow_what_was_forgotten():
    tokens, condition = inputs()
    reader, entries = make_reader(PRIOR), PRIOR.entries(tokens, condition)
    cache = reader.new_cache(3, 11)
    reader.read([Group((entries + 1) % 11, cache)])
    cache.go_back(0)
    reader.read([Group(entries[:, :4], cache)])
    torch.testing.assert_close(
        reader.read([Group(entries[:, 4:7], cache)]), whole(tokens, condition)[:, 7 - CONDITION]
    )


def test_dropout_plays_no_part():
    model = make(dropout=0.5).train()
    tokens, condition = inputs()
    reader, entries = make_reader(model), model.entries(tokens, condition)
    found = [reader.read([Group(entries)]) for _ in range(2)]
    assert torch.equal(*found)
    torch.testing.assert_close(found[0], whole(tokens, condition)[:, -1])


def test_autocast_does_not_change_the_precision():
    tokens, condition = inputs()
    reader = make_reader(make().float())
    entries = PRIOR.entries(tokens, condition)
    expected = reader.read([Group(entries)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(reader.read([Group(entries)]), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions_are_near(dtype):
    tokens, condition = inputs()
    model = make().to(dtype)
    reader, entries = make_reader(model), model.entries(tokens, condition)
    cache = reader.new_cache(3, 11)
    reader.read([Group(entries[:, :8], cache)])
    found = reader.read([Group(entries[:, 8:9], cache)])
    assert found.dtype == dtype
    near = 1e-5 if dtype == torch.float32 else 0.2
    torch.testing.assert_close(found.double(), whole(tokens, condition)[:, 7], rtol=near, atol=near)


def test_a_sequence_that_is_too_long_is_refused():
    reader = make_reader(PRIOR)
    with pytest.raises(ConfigError, match=r"15 tokens .* `context_length` = 14\nhint: use a smaller grid"):
        reader.new_cache(1, 15)
    with pytest.raises(ConfigError, match="15 tokens"):
        reader.read([Group(torch.zeros(1, 15, dtype=torch.int64))])


@pytest.mark.parametrize("rows", [1, 8, 100])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("has_single_rows", [True, False])
@pytest.mark.parametrize("may_copy", [True, False])
@pytest.mark.parametrize("outputs", [16, 24, 40])
def test_products_are_those_of_a_linear_layer(rows, has_bias, has_single_rows, may_copy, outputs):
    layer = torch.nn.Linear(24, outputs, bias=has_bias)
    fast = FastLinear(layer.weight, layer.bias, has_single_rows=has_single_rows, may_copy=may_copy)
    assert (fast.parts is not None) == (has_single_rows and may_copy)
    assert may_copy or fast.packed is None
    given = torch.randn(rows, 24)
    torch.testing.assert_close(fast(given), layer(given).detach())


@pytest.mark.parametrize("outputs", [18, 24, 40, 7])
def test_products_of_one_row_are_split_among_the_threads(outputs):
    layer, given, threads = torch.nn.Linear(24, outputs), torch.randn(1, 24), torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        fast = FastLinear(layer.weight, layer.bias, has_single_rows=True, may_copy=True)
    finally:
        torch.set_num_threads(threads)
    assert len(fast.parts) == {18: 2, 24: 4, 40: 4, 7: 1}[outputs]
    torch.testing.assert_close(fast(given), layer(given).detach())


def test_the_public_way_is_taken_where_the_other_is_absent(monkeypatch):
    layer, given = torch.nn.Linear(24, 40), torch.randn(2, 24)
    monkeypatch.setattr(products, "has_onednn", lambda tensor: False)
    fast = FastLinear(layer.weight, layer.bias, has_single_rows=False, may_copy=True)
    assert fast.packed is None
    assert torch.equal(fast(given), layer(given))


def test_a_reader_for_single_rows_reads_the_same():
    tokens, condition = inputs(batch=1)
    model = make().float()
    entries = PRIOR.entries(tokens, condition)
    found = []
    for has_single_rows in (True, False):
        reader = make_reader(model, has_single_rows=has_single_rows)
        cache = reader.new_cache(1, 11)
        reader.read([Group(entries[:, :8], cache)])
        found.append(reader.read([Group(entries[:, 8:9], cache)]))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_only_fp32_goes_to_the_operator_that_is_not_public(dtype):
    assert not products.has_onednn(torch.zeros(1, dtype=dtype))
    torch.backends.mkldnn.set_flags(False)
    try:
        assert not products.has_onednn(torch.zeros(1))
    finally:
        torch.backends.mkldnn.set_flags(True)
