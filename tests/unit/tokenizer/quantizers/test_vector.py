from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vqgan.errors import ConfigError
from vqgan.tokenizer.quantizers.vector import VectorQuantizer, VectorQuantizerConfig, nearest, rotated


def quantizer(**options):
    torch.manual_seed(0)
    return VectorQuantizer(VectorQuantizerConfig(**{"codebook_size": 16, "codebook_dim": 4, **options}))


def test_plain_codes_start_within_one_over_their_number():
    weight = quantizer(codebook_size=64).codebook.weight
    assert weight.abs().max() <= 1 / 64
    assert weight.abs().max() > 0.9 / 64


def test_normalised_codes_have_length_one_whatever_training_makes_of_them():
    model = quantizer(normalize=True)
    assert_close(model.codebook.weight.norm(dim=1), torch.ones(16))
    model.codebook.weight.data *= 3
    assert_close(model.codebook_vectors().norm(dim=1), torch.ones(16))
    assert_close(model(torch.randn(1, 4, 2, 2)).quantized.norm(dim=1), torch.ones(1, 2, 2))


def test_normalised_lookup_ignores_the_length_of_the_latents():
    model, latents = quantizer(normalize=True), torch.randn(2, 4, 3, 3)
    assert torch.equal(model.encode(latents), model.encode(latents * 7))
    assert_close(model(latents).loss, model(latents * 7).loss)


def test_each_latent_gets_its_nearest_code():
    model, latents = quantizer(), torch.randn(2, 4, 3, 5) / 16
    distances = torch.cdist(latents.permute(0, 2, 3, 1).flatten(0, 2), model.codebook.weight)
    assert torch.equal(model.encode(latents).flatten(), distances.argmin(dim=1))


@pytest.mark.parametrize("max_distances", [1, 16, 50, 100_000])
def test_chunks_do_not_change_the_nearest_codes(max_distances):
    torch.manual_seed(0)
    points, vectors = torch.randn(37, 4), torch.randn(16, 4)
    assert torch.equal(nearest(points, vectors, max_distances), torch.cdist(points, vectors).argmin(dim=1))


def test_no_chunk_exceeds_the_limit():
    shapes = []
    addmm = torch.addmm

    def spy(*args, **options):
        result = addmm(*args, **options)
        shapes.append(result.numel())
        return result

    with patch("torch.addmm", spy):
        nearest(torch.randn(37, 4), torch.randn(16, 4), 64)
    assert max(shapes) <= 64
    assert sum(shapes) == 37 * 16


@pytest.mark.parametrize(
    ("convention", "on_codes", "on_latents"), [("paper", 1.0, 0.25), ("original", 0.25, 1.0)]
)
def test_the_convention_decides_which_gradient_the_weight_scales(convention, on_codes, on_latents):
    model = quantizer(codebook_size=1, codebook_dim=1, loss_convention=convention)
    model.codebook.weight.data.fill_(0.5)
    latents = torch.full((1, 1, 1, 1), 2.0, requires_grad=True)
    loss = model(latents).loss
    loss.backward()
    assert_close(loss.item(), 1.25 * 1.5**2)
    assert_close(latents.grad.item(), on_latents * 2 * 1.5)
    assert_close(model.codebook.weight.grad.item(), on_codes * -2 * 1.5)


@pytest.mark.parametrize("normalize", [False, True])
def test_under_autocast_the_distances_are_in_fp32(normalize):
    model, latents = quantizer(normalize=normalize), torch.randn(2, 4, 8, 8) / 16
    dtypes = []
    addmm = torch.addmm

    def spy(*args, **options):
        result = addmm(*args, **options)
        dtypes.append(result.dtype)
        return result

    with patch("torch.addmm", spy), torch.autocast("cpu", dtype=torch.bfloat16):
        indices = model.encode(latents)
        result = model(latents)
    assert dtypes == [torch.float32, torch.float32]
    assert torch.equal(indices, model.encode(latents))
    assert torch.equal(result.indices, indices)


def test_reseeding_replaces_exactly_the_dead_rows_by_latents():
    model, latents = quantizer(), torch.randn(2, 4, 2, 3)
    before = model.codebook.weight.detach().clone()
    dead = torch.zeros(16, dtype=torch.bool)
    dead[[1, 5, 15]] = True
    model.reseed(latents, dead, torch.Generator().manual_seed(0))
    after = model.codebook.weight.detach()
    assert torch.equal(after[~dead], before[~dead])
    candidates = {tuple(row) for row in latents.permute(0, 2, 3, 1).flatten(0, 2).tolist()}
    assert {tuple(row) for row in after[dead].tolist()} <= candidates
    assert len({tuple(row) for row in after[dead].tolist()}) == 3


def test_reseeded_codes_of_the_normalised_kind_have_length_one():
    model = quantizer(normalize=True)
    model.reseed(torch.randn(1, 4, 4, 4) * 9, torch.ones(16, dtype=torch.bool), torch.Generator())
    assert_close(model.codebook.weight.norm(dim=1), torch.ones(16))


def test_reseeding_draws_by_the_generator_alone():
    latents, dead = torch.randn(1, 4, 4, 4), torch.ones(16, dtype=torch.bool)
    weights = []
    for seed in (0, 0, 1):
        model = quantizer()
        model.reseed(latents, dead, torch.Generator().manual_seed(seed))
        weights.append(model.codebook.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_more_dead_rows_than_latents_use_each_latent_about_equally_often():
    model, latents = quantizer(), torch.randn(1, 4, 1, 3)
    model.reseed(latents, torch.ones(16, dtype=torch.bool), torch.Generator())
    _, counts = model.codebook.weight.unique(dim=0, return_counts=True)
    assert sorted(counts.tolist()) == [5, 5, 6]


def test_reseeding_nothing_changes_nothing():
    model = quantizer()
    before = model.codebook.weight.detach().clone()
    model.reseed(torch.randn(1, 4, 2, 2), torch.zeros(16, dtype=torch.bool), torch.Generator())
    assert torch.equal(model.codebook.weight, before)


def test_a_code_nobody_uses_gets_no_gradient():
    model = quantizer()
    result = model(torch.randn(1, 4, 1, 2))
    result.loss.backward()
    used = F.one_hot(result.indices.flatten(), 16).sum(dim=0) > 0
    assert torch.equal(model.codebook.weight.grad.abs().sum(dim=1) > 0, used)


@pytest.mark.parametrize(
    ("field", "value"), [("codebook_size", 0), ("codebook_dim", 0), ("commitment_weight", -0.1)]
)
def test_values_that_make_no_sense_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"`{field}` is {value}"):
        VectorQuantizerConfig(**{"codebook_size": 16, "codebook_dim": 4, field: value})


def test_the_rotation_takes_latents_to_codes_and_gradients_back_as_the_papers_matrix_does():
    torch.manual_seed(0)
    latents = torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    codes, cotangent = torch.randn(2, 2, 4, 3, 5, dtype=torch.float64)
    result = rotated(latents, codes)
    assert_close(result, codes)
    (gradient,) = torch.autograd.grad(result, latents, cotangent)
    for place in ((0, slice(None), 0, 0), (1, slice(None), 2, 4)):
        e, q, given = latents[place].detach(), codes[place], cotangent[place]
        e_hat, q_hat = e / e.norm(), q / q.norm()
        r = (e_hat + q_hat) / (e_hat + q_hat).norm()
        turn = torch.eye(4, dtype=torch.float64) - 2 * torch.outer(r, r) + 2 * torch.outer(q_hat, e_hat)
        assert_close(gradient[place], q.norm() / e.norm() * turn.T @ given)
        assert_close(e @ gradient[place], q @ given)  # the angle to the code becomes that to the latent


@pytest.mark.parametrize("normalize", [False, True])
def test_the_rotation_changes_gradients_and_no_values(normalize):
    latents, found = torch.randn(2, 4, 3, 3), []
    for gradient in ("straight", "rotation"):
        z = latents.clone().requires_grad_()
        result = quantizer(normalize=normalize, gradient=gradient)(z)
        result.quantized.square().sum().backward()
        found.append((result, z.grad))
    (plain, straight), (turned, rotation) = found
    assert_close(plain.quantized, turned.quantized)
    assert_close(plain.loss, turned.loss)
    assert torch.equal(plain.indices, turned.indices)
    assert not torch.allclose(straight, rotation)
    assert rotation.isfinite().all()
