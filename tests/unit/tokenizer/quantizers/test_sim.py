import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vqgan.errors import ConfigError
from vqgan.tokenizer import TokenizerConfig
from vqgan.tokenizer.quantizers.sim import SimQuantizer, SimQuantizerConfig


def quantizer(**options):
    torch.manual_seed(0)
    return SimQuantizer(SimQuantizerConfig(**{"codebook_size": 64, "codebook_dim": 4, **options}))


@pytest.mark.parametrize("normalize", [False, True])
def test_values_and_gradients_are_those_of_a_table_behind_a_linear_map(normalize):
    model, latents = quantizer(normalize=normalize).double(), torch.randn(2, 4, 3, 5).double()
    torch.nn.init.normal_(model.map.weight)
    z = latents.clone().requires_grad_()
    result = model(z)
    (result.quantized.square().sum() + result.loss).backward()

    table, weight = model.frozen, model.map.weight.detach().clone().requires_grad_()
    other = latents.clone().requires_grad_()
    points = other.permute(0, 2, 3, 1).reshape(-1, 4)
    codes = table @ weight.T
    if normalize:
        points, codes = F.normalize(points), F.normalize(codes)
    chosen = codes[torch.cdist(points, codes).argmin(dim=1)]
    loss = (chosen - points.detach()).square().mean() + 0.25 * (chosen.detach() - points).square().mean()
    straight = points + (chosen - points).detach()
    (straight.square().sum() + loss).backward()
    assert_close(result.loss, loss)
    assert_close(result.quantized.permute(0, 2, 3, 1).reshape(-1, 4), chosen)
    assert_close(z.grad, other.grad)
    assert_close(model.map.weight.grad, weight.grad)


def test_a_step_moves_every_code_and_leaves_the_table():
    model = quantizer()
    before, table = model.codebook_vectors().detach().clone(), model.frozen.clone()
    model(torch.randn(1, 4, 1, 2)).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert (model.codebook_vectors() != before).any(dim=1).all()
    assert torch.equal(model.frozen, table)
    assert set(model.state_dict()) == {"frozen", "map.weight"}


def test_under_autocast_codes_and_vectors_are_those_of_fp32():
    model, latents = quantizer(), torch.randn(2, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        indices, vectors = model.encode(latents), model.codebook_vectors()
    assert torch.equal(indices, model.encode(latents))
    assert torch.equal(vectors, model.codebook_vectors())


def test_colours_need_a_codebook_of_their_own():
    with pytest.raises(ConfigError, match="expected a `quantizer` of kind `vector`"):
        TokenizerConfig(autoencoder=None, quantizer=SimQuantizerConfig(codebook_size=4, codebook_dim=3))
    with pytest.raises(ConfigError, match="`codebook_size` is 0"):
        quantizer(codebook_size=0)
