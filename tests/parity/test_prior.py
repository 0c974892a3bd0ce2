"""The second stage against the original's recorded logits, tokens and pictures.

Tokens are compared in fp32: the smallest gap between best and second-best logit in the records is 4e-4, the
largest difference of our logits 1e-5.
"""

import json
import math

import numpy as np
import pytest
import torch

from parity import original
from reference import store
from vqgan.checkpoints.key_maps import PRIOR, TOKENIZER
from vqgan.conditioning import ClassLabelConfig, CoordinatesConfig, UnconditionalConfig
from vqgan.prior import Prior, PriorConfig
from vqgan.sampling import SamplingSettings, sample_sliding, window_start
from vqgan.sampling.settings import filter_logits
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import Tokenizer

CONDITIONERS = {
    "class": ClassLabelConfig(num_classes=10),
    "uncond": UnconditionalConfig(start_token=5),
    "coord": CoordinatesConfig(num_values=64, downsample_factor=4),
}


def build(case, kind):
    params = case.config["model"]["params"]
    sizes = params["transformer_config"]["params"]
    conditioner = CONDITIONERS[kind]
    side = 16 if kind == "coord" else 8
    config = SynthesizerConfig(
        tokenizer=original.tokenizer_config(params["first_stage_config"]["params"]),
        conditioner=conditioner,
        prior=PriorConfig(
            codebook_size=sizes["vocab_size"],
            condition_size=conditioner.vocabulary_size,
            context_length=sizes["block_size"],
            depth=sizes["n_layer"],
            width=sizes["n_embd"],
            num_heads=sizes["n_head"],
            vocabulary="shared",
        ),
        window=(side, side),
    )
    model = Synthesizer(config).eval()
    model.prior.load_state_dict(
        PRIOR.rename(original.part(case.state, "transformer."), model.prior.state_dict())
    )
    first_stage = original.part(case.state, "first_stage_model.")
    model.tokenizer.load_state_dict(TOKENIZER.rename(first_stage, model.tokenizer.state_dict()))
    return model


@pytest.fixture(scope="module")
def recorded(reference):
    cases = {kind: reference(f"net2net_{kind}") for kind in CONDITIONERS}
    return {kind: (case, build(case, kind)) for kind, case in cases.items()}


def condition_of(kind, case):
    return {"class": case.tensor("cond")} if kind == "class" else None


@pytest.mark.parametrize("kind", CONDITIONERS)
def test_codes_of_the_first_stage_equal_the_original(recorded, kind):
    case, model = recorded[kind]
    with torch.no_grad():
        found = model.tokenizer.encode(case.tensor("image"))
    assert torch.equal(found.flatten(1), case.tensor("z_indices").view(len(found), -1))


@pytest.mark.parametrize("kind", ["class", "uncond"])
def test_logits_and_loss_equal_the_original(recorded, kind):
    case, model = recorded[kind]
    tokens, condition = case.tensor("z_indices"), case.tensor("c_indices")
    with torch.no_grad():
        torch.testing.assert_close(
            model.prior(tokens, condition), case.tensor("logits"), rtol=1e-5, atol=1e-5
        )
        loss = -model.log_probability(case.tensor("image"), condition_of(kind, case)).mean()
    torch.testing.assert_close(loss, case.tensor("loss"), rtol=1e-5, atol=1e-5)


def test_logits_of_a_crop_with_coordinates_equal_the_original(recorded):
    case, model = recorded["coord"]
    with torch.no_grad():
        logits = model.prior(case.tensor("z_crop"), case.tensor("c_crop"))
    torch.testing.assert_close(logits, case.tensor("logits_crop"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["class", "uncond"])
def test_condition_tokens_equal_the_original(recorded, kind):
    case, model = recorded[kind]
    found = model.conditioner.tokens(condition_of(kind, case), 2, (8, 8))
    assert torch.equal(found, case.tensor("c_indices"))


@pytest.mark.parametrize("given", [True, False])
def test_coordinate_tokens_equal_the_original(recorded, given):
    case, model = recorded["coord"]
    condition = {"coordinates": case.tensor("cond")} if given else None
    found = model.conditioner.tokens(condition, 1, (16, 24))
    assert torch.equal(found, case.tensor("c_indices"))
    if given:
        crop = {"coordinates": case.tensor("cond")[..., :64]}
        assert torch.equal(model.conditioner.tokens(crop, 1, (16, 16)), case.tensor("c_crop"))


@pytest.fixture
def decoded(monkeypatch):
    """The grids that reach the tokenizer's decoder; the pictures have a test of their own."""
    grids = []

    def decode(tokenizer, indices):
        grids.append(indices)
        count, rows, columns = indices.shape
        return torch.zeros(count, 3, 4 * rows, 4 * columns)

    monkeypatch.setattr(Tokenizer, "decode", decode)
    return grids


@pytest.mark.parametrize("kind", ["class", "uncond"])
def test_greedy_tokens_equal_the_original(recorded, kind, decoded):
    case, model = recorded[kind]
    known = torch.zeros(2, 8, 8, dtype=torch.bool)
    known[:, :4] = True
    model.sample(2, condition=condition_of(kind, case), temperature=0.0)
    model.complete(case.tensor("image"), known, condition_of(kind, case), temperature=0.0)
    greedy, half = decoded
    assert torch.equal(greedy.flatten(1), case.tensor("greedy"))
    assert torch.equal(half.flatten(1), case.tensor("half"))


def test_tokens_of_a_large_picture_equal_the_original(recorded, decoded):
    case, model = recorded["coord"]
    model.sample(1, size=(64, 96), temperature=0.0)
    assert torch.equal(decoded[0], case.tensor("slide16"))


def test_tokens_under_a_smaller_window_equal_the_original(recorded):
    case, model = recorded["coord"]
    found = sample_sliding(
        model.prior,
        case.tensor("c_indices"),
        torch.zeros(1, 16, 24, dtype=torch.int64),
        torch.zeros(1, 16, 24, dtype=torch.bool),
        window=(8, 8),
        lengths=(None,),
        settings=SamplingSettings(temperature=0.0),
    )
    assert torch.equal(found, case.tensor("slide8"))


@pytest.mark.parametrize(
    ("kind", "tokens", "images"),
    [
        ("class", "greedy", "greedy_image"),
        ("uncond", "greedy", "greedy_image"),
        ("coord", "slide16", "slide16_image"),
    ],
)
def test_pictures_equal_the_original(reference, kind, tokens, images):
    # The large picture in float64: the decoder's fp32 rounding alone reaches 2e-5 there.
    case = reference(f"net2net_{kind}")
    indices = case.tensor(tokens) if kind == "coord" else case.tensor(tokens).view(2, 8, 8)
    dtype = torch.float64 if kind == "coord" else torch.float32
    with torch.no_grad():
        found = build(case, kind).tokenizer.to(dtype).decode(indices)
    torch.testing.assert_close(found.float(), case.tensor(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [16, 20, 24, 32])
def test_window_positions_equal_the_original(reference, size):
    starts = np.array([window_start(position, size, 16) for position in range(size)])
    assert np.array_equal(np.arange(size) - starts, reference("pieces").io[f"local_{size}"])


@pytest.mark.parametrize(
    ("name", "decoding"),
    [("stoch", SamplingSettings(0.9, top_k=8, top_p=0.9)), ("stoch_plain", SamplingSettings(1.1, top_k=5))],
)
@pytest.mark.parametrize("kind", ["class", "uncond"])
def test_tokens_drawn_by_the_original_pass_our_filter(recorded, kind, name, decoding):
    case, model = recorded[kind]
    tokens = case.tensor(name)
    with torch.no_grad():
        logits = model.prior(tokens, case.tensor("c_indices")).flatten(0, 1)
    filtered = filter_logits(logits, decoding)
    kept = filtered > -math.inf
    assert bool(kept.gather(1, tokens.view(-1, 1)).all())
    assert int(kept.sum(dim=1).max()) <= decoding.top_k < 64


PUBLISHED = {
    "sflckr": (24, 16),
    "faceshq": (24, 16),
    "drin": (24, 16),
    "coco": (32, 16),
    "ade20k": (28, 16),
    "ffhq/celebahq": (24, 16),
    "cin": (48, 24),
    "coco_scene": (40, 16),
    "oi_scene": (36, 16),
}
"""Depth and heads of the published second stages."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_second_stages_have_our_names_and_shapes(name):
    recorded = json.loads((store.ROOT / "published_keys.json").read_text(encoding="utf-8"))[name]
    state = {
        key: torch.empty(shape, device="meta")
        for key, shape in original.part(recorded, "transformer.").items()
    }
    codes, width = recorded["transformer.head.weight"]
    depth, heads = PUBLISHED[name]
    with torch.device("meta"):
        prior = Prior(
            PriorConfig(
                codebook_size=codes,
                condition_size=1,
                context_length=recorded["transformer.pos_emb"][1],
                depth=depth,
                width=width,
                num_heads=heads,
                vocabulary="shared",
            )
        )
    wanted = prior.state_dict()
    shapes = {key: weight.shape for key, weight in PRIOR.rename(state, wanted).items()}
    assert {key: weight.shape for key, weight in wanted.items()} == shapes
