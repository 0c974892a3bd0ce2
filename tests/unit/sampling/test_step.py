import logging

import pytest
import torch

from vqgan.prior import Group, Prior, PriorConfig, make_reader, read
from vqgan.sampling import Decoding, sample_grid, step
from vqgan.sampling.step import make_step


def make(device="cpu"):
    torch.manual_seed(0)
    config = PriorConfig(codebook_size=9, condition_size=4, context_length=13, depth=2, width=8, num_heads=2)
    model = Prior(config).double().eval().to(device)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def filled(prior):
    device = prior.head.weight.device
    entries = torch.arange(12, device=device).view(2, 6) % 9
    reader = make_reader(prior)
    cache = reader.new_cache(2, 13)
    read(reader, [Group(entries, cache)])
    return reader, cache


def test_a_step_reads_one_token_more():
    reader, cache = filled(make())
    advance, (_, other) = make_step(reader, cache), filled(make())
    for token in range(7):
        tokens = torch.tensor([token, token + 1])
        assert torch.equal(advance(tokens), read(reader, [Group(tokens[:, None], other)]))


def test_what_cannot_be_recorded_is_read_step_by_step(monkeypatch, caplog):
    class Refuses:
        def __init__(self, reader, cache):
            raise RuntimeError("no such graph\nand more")

    reader, cache = filled(make())
    monkeypatch.setattr(step, "RecordedStep", Refuses)
    monkeypatch.setattr(step, "can_record", lambda reader: True)
    with caplog.at_level(logging.WARNING):
        advance = make_step(reader, cache)
    assert "sampling without a CUDA graph, which is slower: no such graph" in caplog.text
    assert advance(torch.tensor([1, 2])).shape == (2, 9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_a_recorded_graph_gives_the_tokens_of_the_cpu():
    indices = torch.zeros(2, 3, 4, dtype=torch.int64)
    condition = torch.tensor([[1, 2], [0, 3]])
    tensors = (condition, indices, indices.bool())
    expected = sample_grid(make(), *tensors, decoding=Decoding(), seed=3)
    found = sample_grid(make("cuda"), *(t.cuda() for t in tensors), decoding=Decoding(), seed=3)
    assert torch.equal(found.cpu(), expected)
    reader, cache = filled(make("cuda"))
    advance = make_step(reader, cache)
    assert isinstance(advance, step.RecordedStep)
    _, other = filled(make("cuda"))
    for token in range(7):
        tokens = torch.tensor([token, token + 1], device="cuda")
        expected = read(reader, [Group(tokens[:, None], other)])
        torch.testing.assert_close(advance(tokens), expected)
