import pytest
import torch
from torch.testing import assert_close

from parity import original

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def case(reference):
    return reference("vqmodel_tiny")


@pytest.fixture(scope="module")
def tokenizer(case):
    return original.tokenizer(case.config["model"]["params"], case.state).eval()


@pytest.mark.parametrize("suffix", ["", "_wide"])
def test_every_stage_matches_the_original(case, tokenizer, suffix):
    images = case.tensor(f"image{suffix}")
    with torch.no_grad():
        encoded = tokenizer.encoder(images)
        result = tokenizer(images)
    assert_close(encoded, case.tensor(f"enc{suffix}"), **TOLERANCE)
    assert_close(result.latents, case.tensor(f"prequant{suffix}"), **TOLERANCE)
    assert torch.equal(result.quantized.indices.flatten(), case.tensor(f"indices{suffix}"))
    assert_close(result.quantized.quantized, case.tensor(f"quant{suffix}"), **TOLERANCE)
    assert_close(result.quantized.loss, case.tensor(f"emb_loss{suffix}"), **TOLERANCE)
    assert_close(result.images, case.tensor(f"recon{suffix}"), **TOLERANCE)


@pytest.mark.parametrize("suffix", ["", "_wide"])
def test_encode_gives_the_recorded_indices(case, tokenizer, suffix):
    with torch.no_grad():
        indices = tokenizer.encode(case.tensor(f"image{suffix}"))
    assert torch.equal(indices.flatten(), case.tensor(f"indices{suffix}"))


def test_free_indices_decode_to_the_recorded_images(case, tokenizer):
    indices = case.tensor("gi").view(2, 16, 16)
    with torch.no_grad():
        assert_close(tokenizer.quantizer.lookup(indices), case.tensor("gi_quant"), **TOLERANCE)
        assert_close(tokenizer.decode(indices), case.tensor("gi_decoded"), **TOLERANCE)
