import msgspec
import pytest
import torch
from torch.testing import assert_close

from parity import original
from vqgan.checkpoints.key_maps import TOKENIZER
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def case(reference):
    return reference("gumbelvq_tiny")


@pytest.fixture
def tokenizer(case):
    params = case.config["model"]["params"]
    quantizer = GumbelQuantizerConfig(
        codebook_size=params["n_embed"], codebook_dim=params["embed_dim"], kl_weight=params["kl_weight"]
    )
    model = Tokenizer(msgspec.structs.replace(original.tokenizer_config(params), quantizer=quantizer))
    model.load_state_dict(TOKENIZER.rename(case.state, model.state_dict()))
    return model.eval()


@torch.no_grad()
def test_every_stage_matches_the_original(case, tokenizer):
    latents = tokenizer.latents(case.tensor("image"))
    assert_close(latents, case.tensor("prequant"), **TOLERANCE)
    assert_close(tokenizer.quantizer.scores(latents), case.tensor("logits"), **TOLERANCE)
    indices = tokenizer.encode(case.tensor("image"))
    assert torch.equal(indices, case.tensor("argmax"))
    assert_close(tokenizer.quantizer.lookup(indices), case.tensor("argmax_quant"), **TOLERANCE)
    assert_close(tokenizer.decode(indices), case.tensor("argmax_recon"), **TOLERANCE)


@torch.no_grad()
def test_the_loss_and_the_vectors_of_drawn_codes_match_the_original(case, tokenizer):
    quantizer, drawn = tokenizer.quantizer, case.tensor("gumbel_indices")
    loss = quantizer(case.tensor("prequant")).loss
    assert_close(loss, case.tensor("gumbel_diff"), rtol=1e-5, atol=0)
    assert_close(quantizer.lookup(drawn), case.tensor("gumbel_quant"), **TOLERANCE)


@torch.no_grad()
def test_drawn_codes_are_as_probable_as_those_that_the_original_drew(case, tokenizer):
    log_probability = case.tensor("logits").double().log_softmax(dim=1)
    mean = (log_probability.exp() * log_probability).sum(dim=1)
    variance = (log_probability.exp() * log_probability.square()).sum(dim=1) - mean.square()
    ours = tokenizer.quantizer.encode(case.tensor("prequant"), generator=torch.Generator().manual_seed(0))
    for drawn in (case.tensor("gumbel_indices"), ours):
        surprise = log_probability.gather(1, drawn[:, None])[:, 0] - mean
        assert abs(surprise.sum() / variance.sum().sqrt()) < 4
        # In the fixture 87 % of the original's codes are others than the most probable ones.
        assert 0.8 < (drawn != case.tensor("argmax")).double().mean() < 0.93


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="the recorded draws are those of MKL")
@torch.no_grad()
def test_a_seed_draws_the_codes_that_the_original_drew_from_it(case, tokenizer):
    latents = case.tensor("prequant")
    drawn = tokenizer.quantizer.encode(latents, generator=torch.Generator().manual_seed(99))
    assert torch.equal(drawn, case.tensor("gumbel_indices"))
    torch.manual_seed(99)
    result = tokenizer.quantizer.train()(latents)
    assert torch.equal(result.indices, drawn)
    assert_close(result.quantized, case.tensor("gumbel_quant"), **TOLERANCE)
