"""What every quantizer promises."""

import typing

import pytest
import torch
from torch.testing import assert_close

from vqgan.config import convert, to_mapping
from vqgan.tokenizer.quantizers import QuantizerConfig, build_quantizer

MEMBERS = typing.get_args(QuantizerConfig) or (QuantizerConfig,)


@pytest.fixture(params=MEMBERS, ids=lambda member: member.__struct_config__.tag)
def config(request, tmp_path):
    return request.param.example(tmp_path)


@pytest.fixture
def quantizer(config):
    torch.manual_seed(0)
    return build_quantizer(config).eval()


@pytest.fixture
def latents(config):
    return torch.randn(2, config.codebook_dim, 3, 5, generator=torch.Generator().manual_seed(1))


def test_its_configuration_names_its_kind_and_survives_plain_mappings(config):
    mapping = to_mapping(config)
    assert mapping["kind"] == type(config).__struct_config__.tag
    assert convert(mapping, QuantizerConfig) == config


def test_encoding_is_repeatable_and_within_the_codebook(quantizer, latents):
    indices = quantizer.encode(latents)
    assert indices.shape == (2, 3, 5)
    assert indices.dtype == torch.int64
    assert indices.min() >= 0
    assert indices.max() < quantizer.codebook_size
    assert torch.equal(indices, quantizer.encode(latents))


def test_lookup_inverts_forward(quantizer, latents):
    result = quantizer(latents)
    assert torch.equal(result.indices, quantizer.encode(latents))
    assert_close(quantizer.lookup(result.indices), result.quantized)


def test_lookup_gives_the_codebook_vectors(quantizer):
    vectors = quantizer.codebook_vectors()
    assert vectors.shape == (quantizer.codebook_size, quantizer.codebook_dim)
    looked_up = quantizer.lookup(torch.arange(quantizer.codebook_size).view(1, 1, -1))
    assert torch.equal(looked_up[0, :, 0].T, vectors)


def test_gradients_reach_the_latents_and_the_codebook(quantizer, latents):
    latents.requires_grad_()
    result = quantizer(latents)
    (result.quantized.sum() + result.loss).backward()
    assert latents.grad.abs().sum() > 0
    assert sum(p.grad.abs().sum() for p in quantizer.parameters() if p.grad is not None) > 0


def test_reseeding_tells_which_vectors_it_replaced(quantizer, latents):
    before = quantizer.codebook_vectors().detach().clone()
    dead = torch.arange(quantizer.codebook_size) % 3 == 0
    rows = quantizer.reseed(latents, dead, torch.Generator().manual_seed(0))
    changed = (quantizer.codebook_vectors() != before).any(dim=1)
    assert torch.equal(rows, dead.nonzero().flatten())
    assert torch.equal(changed, dead)
