"""Conditions that are pictures or layouts, against the original's recorded tokens, logits and pictures.

Depth and segmentation have no record: their published key lists are checked in ``test_published_keys.py``, cases
computed by hand in ``tests/unit/conditioning/test_tokenized_image.py``.
"""

import json

import pytest
import torch

from parity import original
from reference import store
from vqgan.checkpoints.key_maps import PRIOR, TOKENIZER
from vqgan.conditioning import Layout, SceneLayout, SceneLayoutConfig, SceneObject, TokenizedImageConfig
from vqgan.prior import PriorConfig
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import Tokenizer

LAYOUTS = json.loads((store.ROOT / "net2net_scene" / "layouts.json").read_text(encoding="utf-8"))
WINDOWS = json.loads((store.ROOT / "net2net_scene" / "windows.json").read_text(encoding="utf-8"))
OBJECTS = json.loads((store.ROOT / "pieces" / "objects.json").read_text(encoding="utf-8"))

SCENE = SceneLayoutConfig(
    num_classes=LAYOUTS["no_object_classes"],
    max_objects=LAYOUTS["no_max_objects"],
    vocabulary_size=LAYOUTS["no_tokens"],
    encode_crop=LAYOUTS["encode_crop"],
    use_group=LAYOUTS["use_group_parameter"],
    use_additional=LAYOUTS["use_additional_parameters"],
)
CONDITIONERS = {"firststage": TokenizedImageConfig(codebook_size=64), "scene": SCENE}


def prior_config(conditioner, *, codes, context, depth, width, heads):
    return PriorConfig(
        codebook_size=codes,
        condition_size=conditioner.vocabulary_size,
        context_length=context,
        depth=depth,
        width=width,
        num_heads=heads,
        vocabulary="shared",
    )


def build(case, conditioner):
    params = case.config["model"]["params"]
    sizes = params["transformer_config"]["params"]
    config = SynthesizerConfig(
        tokenizer=original.tokenizer_config(params["first_stage_config"]["params"]),
        conditioner=conditioner,
        prior=prior_config(
            conditioner,
            codes=sizes["vocab_size"],
            context=sizes["block_size"],
            depth=sizes["n_layer"],
            width=sizes["n_embd"],
            heads=sizes["n_head"],
        ),
        window=(8, 8),
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
    return {kind: (case, build(case, CONDITIONERS[kind])) for kind, case in cases.items()}


def layout(number):
    """A recorded layout, its objects in the order in which the original put them."""
    entry = LAYOUTS["layouts"][number]
    objects = tuple(
        SceneObject(
            class_number=entry["annotations"][place]["category_no"],
            box=tuple(entry["annotations"][place]["bbox"]),
            is_group=entry["annotations"][place]["is_group_of"],
        )
        for place in entry["order_after_shuffle"]
    )
    crop = None if entry["crop"] is None else tuple(entry["crop"])
    return Layout(objects=objects, crop=crop, is_flipped=entry["flip"])


def condition_of(kind, case, count=2):
    if kind == "scene":
        return {"layout": [layout(number) for number in range(count)]}
    return {"image": case.tensor("cond")}


@pytest.mark.parametrize("kind", CONDITIONERS)
def test_condition_tokens_equal_the_original(recorded, kind):
    case, model = recorded[kind]
    found = model.conditioner.tokens(condition_of(kind, case), 2, (8, 8))
    assert torch.equal(found, case.tensor("c_indices"))


@pytest.mark.parametrize("kind", CONDITIONERS)
def test_logits_and_loss_equal_the_original(recorded, kind):
    case, model = recorded[kind]
    condition = condition_of(kind, case)
    with torch.no_grad():
        assert torch.equal(model.tokenizer.encode(case.tensor("image")).flatten(1), case.tensor("z_indices"))
        logits = model.prior(case.tensor("z_indices"), model.conditioner.tokens(condition, 2, (8, 8)))
        torch.testing.assert_close(logits, case.tensor("logits"), rtol=1e-5, atol=1e-5)
        loss = -model.log_probability(case.tensor("image"), condition).mean()
    torch.testing.assert_close(loss, case.tensor("loss"), rtol=1e-5, atol=1e-5)


@pytest.fixture
def decoded(monkeypatch):
    """The grids that reach the tokenizer's decoder; the pictures have a test of their own."""
    grids = []

    def decode(tokenizer, indices):
        grids.append(indices)
        return torch.zeros(indices.shape[0], 3, 16, 16)

    monkeypatch.setattr(Tokenizer, "decode", decode)
    return grids


@pytest.mark.parametrize("kind", CONDITIONERS)
def test_greedy_tokens_equal_the_original(recorded, kind, decoded):
    case, model = recorded[kind]
    known = torch.zeros(2, 8, 8, dtype=torch.bool)
    known[:, :4] = True
    condition = condition_of(kind, case)
    model.sample(2, condition=condition, temperature=0.0)
    model.complete(case.tensor("image"), known, condition, temperature=0.0)
    greedy, half = decoded
    assert torch.equal(greedy.flatten(1), case.tensor("greedy"))
    assert torch.equal(half.flatten(1), case.tensor("half"))


@pytest.mark.parametrize("kind", CONDITIONERS)
def test_pictures_equal_the_original(reference, kind):
    # In float64: the decoder's fp32 rounding alone reaches 1.2e-5 here.
    case = reference(f"net2net_{kind}")
    model = build(case, CONDITIONERS[kind]).double()
    with torch.no_grad():
        found = model.tokenizer.decode(case.tensor("greedy").view(2, 8, 8))
    torch.testing.assert_close(found.float(), case.tensor("greedy_image"), rtol=1e-5, atol=1e-5)


def test_greedy_tokens_of_every_layout_equal_the_original(recorded, decoded):
    case, model = recorded["scene"]
    model.sample(3, condition=condition_of("scene", case, count=3), temperature=0.0)
    assert torch.equal(decoded[0].flatten(1), case.tensor("greedy_all"))


@pytest.mark.parametrize("entry", WINDOWS["cases"], ids=lambda entry: f"{entry['grid']} {entry['layout']}")
def test_larger_scenes_equal_the_scene_sampler_of_the_original(recorded, decoded, entry):
    """Each window reads the objects that it shows, and where it lies; it begins 3 tokens before its token, not 4."""
    (rows, columns), model = entry["grid"], recorded["scene"][1]
    whole = Layout(objects=layout(entry["layout"]).objects)
    condition = {"layout": whole}
    found = model.conditioner.in_windows(condition, 1, (rows, columns), (8, 8)).unflatten(1, (-1, 14))[0]
    assert sorted(map(list, {tuple(each) for each in found.tolist()})) == entry["distinct"]
    model.sample(1, (2 * rows, 2 * columns), condition, temperature=0.0)
    assert decoded[0][0].tolist() == entry["greedy"]


def test_tokens_of_larger_scenes_have_the_probabilities_that_they_were_drawn_with(recorded, monkeypatch):
    model = recorded["scene"][1]
    entry = WINDOWS["cases"][0]
    rows, columns = entry["grid"]
    greedy = torch.tensor(entry["greedy"])[None]
    monkeypatch.setattr(Tokenizer, "encode", lambda *_: greedy)
    condition = {"layout": Layout(objects=layout(entry["layout"]).objects)}
    images = torch.zeros(1, 3, 2 * rows, 2 * columns)
    scores = model.log_probability(images, condition).view(rows, columns)
    table = model.conditioner.in_windows(condition, 1, (rows, columns), (8, 8))
    table = table.view(rows - 7, columns - 7, 14)
    for row, column in ((0, 0), (4, 5), (10, 12), (3, 9)):
        top, left = min(max(row - 3, 0), rows - 8), min(max(column - 3, 0), columns - 8)
        window = greedy[:, top : top + 8, left : left + 8].flatten(1)
        place = (row - top) * 8 + column - left
        logits = model.prior(window, table[top, left][None])[0, place]
        expected = logits.log_softmax(0)[greedy[0, row, column]]
        torch.testing.assert_close(scores[row, column], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", range(3))
def test_tokens_of_layouts_equal_the_original(reference, number):
    conditioner, entry = SceneLayout(SCENE), LAYOUTS["layouts"][number]
    tokens = conditioner.to_tokens(layout(number))
    assert tokens == entry["tokens"] == reference("net2net_scene").tensor("tokens")[number].tolist()
    assert conditioner.config.num_tokens((8, 8)) == LAYOUTS["embedding_dim"]


@pytest.mark.parametrize("number", range(3))
def test_layouts_read_back_equal_the_original(number):
    entry = LAYOUTS["layouts"][number]
    found = SceneLayout(SCENE).to_layout(entry["tokens"])
    classes = [each.class_number + SCENE.num_classes * each.is_group for each in found.objects]
    assert classes == [token for token, _ in entry["inverse"]["objects"]]
    assert [list(each.box) for each in found.objects] == [box for _, box in entry["inverse"]["objects"]]
    assert list(found.crop) == entry["inverse"]["crop"]


@pytest.mark.parametrize("case", OBJECTS["cases"], ids=lambda case: case["builder"])
def test_tokens_of_boxes_and_centres_equal_the_original(case):
    # The recorded order is the given one: shuffling three things with this seed moves none.
    assert case["python_seed"] == 5
    config = SceneLayoutConfig(
        num_classes=case["no_classes"],
        max_objects=case["max_objects"],
        vocabulary_size=case["no_tokens"],
        encode_crop=case["encode_crop"],
        use_group=case["group"],
        use_additional=case["additional"],
        boxes=case["builder"] == "objects_bbox",
    )
    objects = tuple(
        SceneObject(
            class_number=number,
            box=tuple(box),
            **{f"is_{flag}": flag in flags for flag in ("group", "occluded", "depiction", "inside")},
        )
        for *box, number, flags in OBJECTS["annotations"]
    )
    crop = None if case["crop"] is None else tuple(case["crop"])
    conditioner = SceneLayout(config)
    tokens = conditioner.to_tokens(Layout(objects=objects, crop=crop, is_flipped=case["flip"]))
    assert tokens == case["tokens"]
    assert conditioner.config.num_tokens((16, 16)) == case["embedding_dim"]
    assert conditioner.to_tokens(conditioner.to_layout(tokens)) == tokens
