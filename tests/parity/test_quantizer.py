import pytest
import torch
from torch.testing import assert_close

from vqgan.tokenizer.quantizers import VectorQuantizer, VectorQuantizerConfig

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
