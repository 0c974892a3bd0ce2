"""Token orders, and a second stage that was built with one, against the original's recorded outputs."""

import pytest
import torch

from parity import original
from vqgan.checkpoints.key_maps import PRIOR, TOKENIZER
from vqgan.conditioning import ClassLabelConfig
from vqgan.prior import PriorConfig, to_indices, to_tokens, token_positions
from vqgan.sampling import SamplingSettings, sample_grid
from vqgan.synthesizer import Synthesizer, SynthesizerConfig

RECORDED = {
    "Identity": "raster",
    "Subsample": "subsample",
    "ZCurve": "z_curve",
    "SpiralOut": "spiral_out",
    "SpiralIn": "spiral_in",
    "Random": "random",
    "AlternateParsing": "alternate",
}
ORDER, GRID = "spiral_out", (8, 8)


@pytest.mark.parametrize("name", RECORDED)
def test_orders_equal_the_original(reference, name):
    assert torch.equal(token_positions(RECORDED[name], GRID), reference("pieces").tensor(name))


@pytest.fixture(scope="module")
def case(reference):
    return reference("net2net_permuter")


@pytest.fixture(scope="module")
def model(case):
    params = case.config["model"]["params"]
    sizes = params["transformer_config"]["params"]
    config = SynthesizerConfig(
        tokenizer=original.tokenizer_config(params["first_stage_config"]["params"]),
        conditioner=ClassLabelConfig(num_classes=10),
        prior=PriorConfig(
            codebook_size=sizes["vocab_size"],
            condition_size=10,
            context_length=sizes["block_size"],
            depth=sizes["n_layer"],
            width=sizes["n_embd"],
            num_heads=sizes["n_head"],
            vocabulary="shared",
        ),
        window=GRID,
        token_order=ORDER,
    )
    model = Synthesizer(config).eval()
    model.prior.load_state_dict(
        PRIOR.rename(original.part(case.state, "transformer."), model.prior.state_dict())
    )
    first_stage = original.part(case.state, "first_stage_model.")
    model.tokenizer.load_state_dict(TOKENIZER.rename(first_stage, model.tokenizer.state_dict()))
    return model


def test_the_recorded_shuffle_is_our_order(case):
    forward = case.state["permuter.forward_shuffle_idx"]
    assert torch.equal(token_positions(ORDER, GRID), forward)
    assert torch.equal(forward.argsort(), case.state["permuter.backward_shuffle_idx"])


def test_sequences_of_the_images_codes_equal_the_original(case, model):
    with torch.no_grad():
        indices = model.tokenizer.encode(case.tensor("image"))
    assert torch.equal(indices.flatten(1), case.tensor("z_raster"))
    assert torch.equal(to_tokens(indices, ORDER), case.tensor("z_indices"))


def test_logits_and_loss_equal_the_original(case, model):
    tokens, logits = case.tensor("z_indices"), case.tensor("logits")
    with torch.no_grad():
        found = model.prior(tokens, case.tensor("c_indices"))
        scores = model.log_probability(case.tensor("image"), {"class": case.tensor("cond")})
    torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(-scores.mean(), case.tensor("loss"), rtol=1e-5, atol=1e-5)
    expected = logits.log_softmax(dim=-1).gather(2, tokens[..., None])[..., 0]
    torch.testing.assert_close(scores, to_indices(expected, GRID, ORDER).flatten(1), rtol=1e-5, atol=1e-5)


def sampled(case, model, known):
    return sample_grid(
        model.prior,
        case.tensor("c_indices"),
        case.tensor("z_raster").view(2, *GRID),
        known,
        settings=SamplingSettings(temperature=0.0),
        token_order=ORDER,
    )


def test_greedy_tokens_equal_the_original(case, model):
    found = sampled(case, model, torch.zeros(2, *GRID, dtype=torch.bool))
    assert torch.equal(found.flatten(1), case.tensor("greedy"))
    assert torch.equal(to_tokens(found, ORDER), case.tensor("greedy_sequence"))


def test_completion_of_the_first_half_of_the_sequence_equals_the_original(case, model):
    first_half = (torch.arange(64) < 32).expand(2, 64)
    found = sampled(case, model, to_indices(first_half, GRID, ORDER))
    assert torch.equal(to_tokens(found, ORDER), case.tensor("half"))


def test_pictures_equal_the_original(case, model):
    found = model.sample(2, condition={"class": case.tensor("cond")}, temperature=0.0)
    torch.testing.assert_close(found, case.tensor("greedy_image"), rtol=1e-5, atol=1e-5)
