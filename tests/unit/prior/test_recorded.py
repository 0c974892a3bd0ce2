import logging

import pytest
import torch

from vqgan.prior import Group, Prior, PriorConfig, make_reader, record, recorded
from vqgan.prior.recorded import SteadyCache
from vqgan.sampling import SamplingSettings, sample_grid


def make(device="cpu", *, dtype=torch.float64, width=8):
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=9, condition_size=4, context_length=45, depth=2, width=width, num_heads=2
    )
    model = Prior(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4 * (8 / width) ** 0.5)
    return model.to(dtype=dtype, device=device)


def filled(prior):
    device = prior.head.weight.device
    entries = torch.arange(12, device=device).view(2, 6) % 9
    reader = make_reader(prior)
    cache = reader.new_cache(2, 45)
    reader.read([Group(entries, cache)])
    return reader, cache


def test_what_cannot_be_recorded_is_said_and_leaves_the_cache_as_it_was(monkeypatch, caplog):
    class Refuses:
        def __init__(self, reader, cache):
            SteadyCache(cache)
            raise RuntimeError("no such graph\nand more")

    (reader, cache), (_, other) = filled(make()), filled(make())
    monkeypatch.setattr(recorded, "RecordedStep", Refuses)
    with caplog.at_level(logging.WARNING):
        assert record(reader, cache) is None
    assert "sampling without a CUDA graph, which is slower: no such graph" in caplog.text
    tokens = torch.tensor([[1, 2], [3, 4]])
    found, expected = (reader.read([Group(tokens, each)]) for each in (cache, other))
    assert torch.equal(found, expected)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


@needs_cuda
@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("last_alone", [False, True])
def test_recorded_graphs_give_the_tokens_of_the_cpu(share, last_alone):
    condition = torch.tensor([[1, 2], [0, 3]])
    for grid in ((5, 8), (6, 7), (1, 1)):  # one recording after the other, of several sizes
        indices = torch.arange(2 * grid[0] * grid[1]).view(2, *grid) % 9
        known = torch.rand(2, *grid, generator=torch.Generator().manual_seed(1)) < share
        if last_alone:
            known[:] = True
            known[:, -1, -1] = False
        tensors = (condition, indices, known)
        expected = sample_grid(make(), *tensors, settings=SamplingSettings(top_p=0.9, seed=3))
        cuda = (tensor.cuda() for tensor in tensors)
        found = sample_grid(make("cuda"), *cuda, settings=SamplingSettings(top_p=0.9, seed=3))
        assert torch.equal(found.cpu(), expected)


@needs_cuda
@pytest.mark.parametrize("device", range(max(1, torch.cuda.device_count())))
@pytest.mark.parametrize("width", [8, 128])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_recorded_graph_gives_the_logits_of_steps(device, width, dtype):
    prior = make(f"cuda:{device}", dtype=dtype, width=width)
    (reader, cache), (_, other) = filled(prior), filled(prior)
    advance = record(reader, cache)
    assert advance is not None
    near = {torch.float64: 1e-10, torch.float32: 1e-4}.get(dtype, 5e-2)
    for token in range(39):
        tokens = torch.tensor([[token % 9], [(token + 1) % 9]], device=f"cuda:{device}")
        expected = reader.read([Group(tokens, other)])
        torch.testing.assert_close(advance(tokens), expected, rtol=near, atol=near)
        noise = [torch.full((size,), torch.nan, device=f"cuda:{device}") for size in (7, 512, 2048, 10**6)]
        del noise  # memory that is taken between replays is not the graph's
