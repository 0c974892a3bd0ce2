from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vqgan.errors import ConfigError
from vqgan.tokenizer.quantizers import RemapConfig, gumbel
from vqgan.tokenizer.quantizers.gumbel import GumbelQuantizer, GumbelQuantizerConfig, gumbel_noise


def quantizer(**options):
    torch.manual_seed(0)
    return GumbelQuantizer(GumbelQuantizerConfig(**{"codebook_size": 16, "codebook_dim": 4, **options}))


def test_training_draws_codes_and_evaluation_does_not():
    model, latents = quantizer(), torch.randn(2, 4, 8, 8)
    first, second = model(latents), model(latents)
    assert not torch.equal(first.indices, second.indices)
    assert_close(model.lookup(first.indices), first.quantized)
    model.eval()
    assert torch.equal(model(latents).indices, model.projection(latents).argmax(dim=1))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_values_and_gradients_are_those_of_a_hard_gumbel_softmax(temperature):
    model, latents = quantizer(temperature=temperature, kl_weight=0.1), torch.randn(2, 4, 3, 5)
    cotangent, gradients = torch.randn(2, 4, 3, 5), []
    for form in ("ours", "plain"):
        z = latents.clone().requires_grad_()
        model.zero_grad()
        torch.manual_seed(1)
        if form == "ours":
            result = model(z)
            quantized, loss = result.quantized, result.loss
        else:
            logits = model.projection(z)
            choice = F.gumbel_softmax(logits, tau=temperature, hard=True, dim=1)
            quantized = torch.einsum("bkhw,kd->bdhw", choice, model.codebook.weight)
            q = logits.softmax(dim=1)
            loss = 0.1 * (q * torch.log(q * 16 + 1e-10)).sum(dim=1).mean()
        ((quantized * cotangent).sum() + loss).backward()
        gradients.append((quantized, loss, z.grad, *(p.grad.clone() for p in model.parameters())))
    for ours, plain in zip(*gradients, strict=True):
        assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_codes_are_drawn_with_the_softmax_of_their_scores():
    model, latents = quantizer(), torch.randn(1, 4, 1, 1)
    drawn = model.encode(latents.expand(1, 4, 200, 200), generator=torch.Generator().manual_seed(0))
    probability = model.scores(latents).double().softmax(dim=1).flatten()
    counts = torch.bincount(drawn.flatten(), minlength=16)
    chi_square = ((counts - 40_000 * probability).square() / (40_000 * probability)).sum()
    assert chi_square < 40  # 15 degrees of freedom: exceeded in 1 of 2000 draws


def test_drawn_codes_depend_on_the_generator_alone():
    model, latents = quantizer(), torch.randn(1, 4, 8, 8)
    first, again, other = (
        model.encode(latents, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("max_scores", [1, 16, 100])
def test_chunks_do_not_change_the_codes(max_scores):
    model, latents = quantizer(), torch.randn(2, 4, 3, 5)
    expected = model.encode(latents)
    with patch.object(gumbel, "MAX_SCORES", max_scores):
        assert torch.equal(model.encode(latents), expected)


def test_under_autocast_the_scores_are_in_fp32():
    model, latents = quantizer().eval(), torch.randn(2, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, result, indices = model.scores(latents), model(latents), model.encode(latents)
    assert scores.dtype == result.quantized.dtype == result.loss.dtype == torch.float32
    assert_close(scores, model.projection(latents))
    assert torch.equal(result.indices, model(latents).indices)
    assert torch.equal(indices, result.indices)


def test_uniform_scores_cost_nothing_and_certain_ones_the_logarithm_of_the_codes():
    model, latents = quantizer(kl_weight=1.0), torch.randn(1, 4, 2, 2)
    model.projection.weight.data.zero_()
    model.projection.bias.data.zero_()
    assert_close(model(latents).loss.item(), 0.0, atol=1e-6, rtol=0)
    model.projection.bias.data[3] = 1000
    assert_close(model(latents).loss.item(), torch.tensor(16.0).log().item())


def test_codes_that_are_not_in_use_are_never_chosen():
    model = quantizer(remap=RemapConfig(num_used=3, unknown="extra"))
    used, latents = torch.tensor([11, 4, 7]), torch.randn(2, 4, 8, 8)
    model.load_state_dict({**model.state_dict(), "used": used})
    expected = model.projection(latents)[:, used].argmax(dim=1)
    result = model.eval()(latents)
    assert torch.equal(model.encode(latents), expected)
    assert torch.equal(result.indices, expected)
    assert_close(result.quantized, model.codebook.weight[used][expected].permute(0, 3, 1, 2))
    assert model.train()(latents).indices.max() < 3


def test_noise_is_finite_and_of_the_gumbel_distribution():
    noise = gumbel_noise(torch.empty(1_000_000), torch.Generator().manual_seed(0))
    assert noise.isfinite().all()
    assert_close(noise.mean().item(), 0.5772, atol=0.005, rtol=0)
    assert_close(noise.std().item(), 1.2825, atol=0.005, rtol=0)
    with patch.object(torch.Tensor, "exponential_", lambda self, generator: self.zero_()):
        assert gumbel_noise(torch.empty(3), torch.Generator()).isfinite().all()


@pytest.mark.parametrize(
    ("field", "value"), [("codebook_size", 0), ("codebook_dim", 0), ("kl_weight", -0.1), ("temperature", 0.0)]
)
def test_values_that_make_no_sense_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"`{field}` is {value}"):
        GumbelQuantizerConfig(**{"codebook_size": 16, "codebook_dim": 4, field: value})
