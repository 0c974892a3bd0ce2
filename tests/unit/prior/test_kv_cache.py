import pytest
import torch

from vqgan.prior.kv_cache import KVCache, LayerCache


def test_the_cache_returns_all_tokens_in_order():
    keys, values = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    cache = LayerCache(capacity=5)
    cache.append(keys[:, :, :3], values[:, :, :3])
    cache.append(keys[:, :, 3:4], values[:, :, 3:4])
    found_keys, found_values = cache.append(keys[:, :, 4:], values[:, :, 4:])
    assert torch.equal(found_keys, keys)
    assert torch.equal(found_values, values)


def test_the_memory_is_set_aside_once():
    cache = LayerCache(capacity=4)
    first, _ = cache.append(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    second, _ = cache.append(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()


def test_the_cache_takes_the_type_of_the_first_keys():
    cache = LayerCache(capacity=2)
    keys, values = cache.append(torch.ones(1, 1, 1, 2).bfloat16(), torch.ones(1, 1, 1, 2).bfloat16())
    assert keys.dtype == values.dtype == torch.bfloat16


def test_more_tokens_than_the_capacity_are_refused():
    cache = LayerCache(capacity=2)
    with pytest.raises(ValueError, match="holds 2 tokens, not 3"):
        cache.append(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2))


def test_length_counts_the_tokens_read():
    cache = KVCache(depth=2, capacity=4)
    assert cache.length == 0
    for layer in cache.layers:
        layer.append(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2))
    assert cache.length == 3
