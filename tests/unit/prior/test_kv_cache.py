import math

import pytest
import torch

from vqgan.prior.cache import KVCache, causal_mask
from vqgan.prior.recorded import SteadyCache


def make(*, depth=1, batch=2, capacity=5, dtype=torch.float32):
    return KVCache(depth=depth, shape=(batch, 3, capacity, 4), like=torch.zeros(1, dtype=dtype))


def pairs(count, batch=2):
    return torch.randn(2, batch, 3, count, 4)


def store(cache, keys_values, layer=0):
    found = cache.append(layer, keys_values)
    cache.advance(keys_values.shape[3])
    return found


def test_the_cache_returns_all_tokens_in_order():
    cache, given = make(), pairs(5)
    store(cache, given[:, :, :, :3])
    store(cache, given[:, :, :, 3:4])
    keys, values = store(cache, given[:, :, :, 4:])
    assert torch.equal(keys, given[0])
    assert torch.equal(values, given[1])
    assert cache.length == 5


def test_layers_do_not_share_memory():
    cache, first, second = make(depth=2), pairs(1), pairs(1)
    keys, _ = cache.append(0, first)
    cache.append(1, second)
    assert torch.equal(keys, first[0])


def test_the_memory_is_set_aside_once_in_the_given_type():
    cache = make(dtype=torch.bfloat16)
    first, _ = store(cache, pairs(2).bfloat16())
    second, _ = store(cache, pairs(1).bfloat16())
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert first.dtype == torch.bfloat16


def test_more_tokens_than_the_capacity_are_refused():
    cache, table = make(capacity=2), torch.randn(9, 3)
    store(cache, pairs(1))
    assert torch.equal(cache.positions(table, 1), table[1:2])
    with pytest.raises(ValueError, match="holds 2 tokens, not 3"):
        cache.positions(table, 2)


def test_what_is_forgotten_is_written_over():
    cache, given, other = make(), pairs(4), pairs(2)
    store(cache, given)
    cache.go_back(2)
    keys, _ = store(cache, other)
    assert torch.equal(keys, torch.cat([given[0, :, :, :2], other[0]], dim=2))


def test_masks():
    cache = make()
    assert cache.mask(3) is None  # the first reading is causal from the start
    store(cache, pairs(2))
    assert cache.mask(1) is None
    assert cache.mask(2).tolist() == [[0, 0, 0, -math.inf], [0, 0, 0, 0]]
    assert torch.equal(causal_mask(0, 3, torch.empty(0)).exp(), torch.ones(3, 3).tril())


def test_a_full_cache_cannot_be_steady():
    cache = make(capacity=2)
    store(cache, pairs(2))
    with pytest.raises(ValueError, match="holds 2 tokens and is full"):
        SteadyCache(cache)


def test_a_steady_cache_works_on_all_of_its_memory_and_masks_the_rest():
    cache, given, table = make(), pairs(5), torch.randn(5, 3)
    store(cache, given[:, :, :, :3])
    steady = SteadyCache(cache)
    for place in (3, 4):
        new = given[:, :, :, place : place + 1]
        assert torch.equal(steady.positions(table, 1), table[place : place + 1])
        assert steady.mask(1).exp().tolist() == [[number <= place for number in range(5)]]
        keys, values = store(steady, new)
        assert torch.equal(keys[:, :, : place + 1], given[0, :, :, : place + 1])
        assert torch.equal(values[:, :, : place + 1], given[1, :, :, : place + 1])
        assert keys.shape[2] == 5
    assert cache.length == 3  # what it held is there still
    assert torch.equal(cache.layers[0][:, :, :, :3], given[:, :, :, :3])
