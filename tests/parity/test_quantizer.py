import pytest
import torch
from torch.testing import assert_close

from vqgan.tokenizer.quantizers import RemapConfig, VectorQuantizer, VectorQuantizerConfig

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


# The original weighed the term of the codes, a slip that every published model was trained with; only the second
# quantizer's corrected form follows the paper.
@pytest.mark.parametrize(
    ("record", "convention"),
    [("v1", "original"), ("v2_legacy", "original"), ("v2_fixed", "paper"), ("v2_sane", "original")],
)
def test_values_indices_and_gradients_match_the_original(reference, record, convention):
    case = reference("quantizer")
    codebook = case.tensor("codebook")
    quantizer = VectorQuantizer(
        VectorQuantizerConfig(codebook_size=len(codebook), codebook_dim=6, loss_convention=convention)
    )
    quantizer.load_state_dict({"codebook.weight": codebook})
    latents = case.tensor("z").requires_grad_()
    result = quantizer(latents)
    ((case.tensor("cotangent") * result.quantized).sum() + result.loss).backward()
    assert_close(result.quantized.detach(), case.tensor(f"{record}_zq"), **TOLERANCE)
    assert_close(result.loss.detach(), case.tensor(f"{record}_loss"), **TOLERANCE)
    assert torch.equal(result.indices.flatten(), case.tensor(f"{record}_ind").flatten())
    assert_close(latents.grad, case.tensor(f"{record}_gz"), **TOLERANCE)
    assert_close(quantizer.codebook.weight.grad, case.tensor(f"{record}_gw"), **TOLERANCE)


@pytest.mark.parametrize(("record", "unknown"), [("v2_remap_extra", "extra"), ("v2_remap_int", 3)])
def test_remapped_indices_and_what_they_stand_for_match_the_original(reference, record, unknown):
    case = reference("quantizer")
    codebook, used = case.tensor("codebook"), case.tensor("used")
    quantizer = VectorQuantizer(
        VectorQuantizerConfig(
            codebook_size=len(codebook),
            codebook_dim=6,
            loss_convention="original",
            remap=RemapConfig(num_used=len(used), unknown=unknown),
        )
    )
    quantizer.load_state_dict({"codebook.weight": codebook, "used": used})
    latents = case.tensor("z").requires_grad_()
    result = quantizer(latents)
    ((case.tensor("cotangent") * result.quantized).sum() + result.loss).backward()
    expected = case.tensor(f"{record}_ind").view(2, 4, 5)
    assert torch.equal(result.indices, expected)
    assert torch.equal(quantizer.encode(latents), expected)
    assert_close(quantizer.lookup(expected).detach(), case.tensor(f"{record}_entry"), **TOLERANCE)
    assert_close(result.quantized.detach(), case.tensor(f"{record}_zq"), **TOLERANCE)
    assert_close(result.loss.detach(), case.tensor(f"{record}_loss"), **TOLERANCE)
    assert_close(latents.grad, case.tensor(f"{record}_gz"), **TOLERANCE)
    assert_close(quantizer.codebook.weight.grad, case.tensor(f"{record}_gw"), **TOLERANCE)
