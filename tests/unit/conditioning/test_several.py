"""Several conditions at once: in front of the image one after the other, in a local prior cell by cell."""

import pytest
import torch

import tiny
from vqgan import load, save_model
from vqgan.conditioning import (
    ClassLabelConfig,
    CoordinatesConfig,
    SceneLayoutConfig,
    SeveralConfig,
    TokenizedImageConfig,
    UnconditionalConfig,
    build_conditioner,
)
from vqgan.errors import ConfigError
from vqgan.prior import LocalSpan, PriorConfig
from vqgan.synthesizer import Synthesizer, SynthesizerConfig

CLASSES = ClassLabelConfig(num_classes=3)
DEPTH, LABELS = (
    TokenizedImageConfig(
        codebook_size=tiny.CODES, image=name, tokenizer=tiny.tokenizer_config(channels=count)
    )
    for name, count in (("depth", 1), ("segmentation", 5))
)
SCENE = SceneLayoutConfig(
    num_classes=3, max_objects=2, vocabulary_size=16, encode_crop=False, use_group=False, use_additional=False
)
SEVERAL = SeveralConfig(conditioners=(CLASSES, DEPTH, LABELS))


def make(config, *, has_null=False, **shape):
    torch.manual_seed(0)
    prior = PriorConfig(
        codebook_size=tiny.CODES,
        condition_size=config.vocabulary_size + has_null * len(config.conditioners),
        context_length=config.num_tokens((2, 2)) + 3,
        depth=1,
        width=16,
        num_heads=2,
        **shape,
    )
    model = Synthesizer(
        SynthesizerConfig(tokenizer=tiny.tokenizer_config(), conditioner=config, prior=prior, window=(2, 2))
    )
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    torch.nn.init.normal_(model.tokenizer.quantizer.codebook.weight)
    return model.double().eval()


def value(height=8, width=8):
    generator = torch.Generator().manual_seed(3)
    return {
        "class": 2,
        "depth": torch.rand(1, 1, height, width, generator=generator).double() * 2 - 1,
        "segmentation": torch.randint(5, (1, height, width), generator=generator),
    }


@pytest.fixture
def grids(monkeypatch):
    """The grids that reach the decoder of a model: ``grids(model)``."""

    def watch(model):
        seen, decode = [], model.tokenizer.decode
        monkeypatch.setattr(
            model.tokenizer, "decode", lambda indices: seen.append(indices) or decode(indices)
        )
        return seen

    return watch


def test_the_parts_follow_each_other_each_with_numbers_of_its_own():
    torch.manual_seed(0)
    conditioner = build_conditioner(SEVERAL).double().eval()
    label, depth, labels = (part.tokens(value(), 2, (2, 2)) for part in conditioner.parts)
    tokens = conditioner.tokens(value(), 2, (2, 2))
    assert torch.equal(tokens, torch.cat([label, depth + 3, labels + 3 + tiny.CODES], dim=1))
    assert SEVERAL.vocabulary_size == 3 + 2 * tiny.CODES
    assert conditioner.lengths == (1, None, None)
    assert conditioner.null_tokens(1, (1, 2)).tolist() == [[35, 36, 36, 37, 37]]


@pytest.mark.parametrize("shape", [{}, {"positions": "rotary"}, {"positions": "relative_bias"}], ids=str)
def test_every_part_steers_also_on_images_larger_than_the_window(shape, grids):
    model = make(SEVERAL, **shape)
    seen, large = grids(model), value(12, 16)
    others = [{"class": 0}, {"depth": -large["depth"]}, {"segmentation": (large["segmentation"] + 1) % 5}]
    for other in ({}, *others):
        model.sample(40, (12, 16), {**large, **other})
    assert all(not torch.equal(seen[0], each) for each in seen[1:])


def test_a_part_that_is_missing_is_null_and_only_where_the_prior_knows_null_tokens(grids):
    model, given = make(SEVERAL, has_null=True), value()
    seen = grids(model)
    asked = {"count": 2, "grid": (2, 2), "memory": 10**9, "has_null": True}
    del given["depth"]
    tokens, whole = (model.conditioner.asked(each, **asked) for each in (given, value()))
    assert tokens[0, 1:5].tolist() == [36] * 4
    assert torch.equal(tokens[:, 5:], whole[:, 5:])
    model.sample(16, condition=given, guidance=2.0)
    model.sample(16, condition=value(), guidance=2.0)
    assert not torch.equal(*seen)
    with pytest.raises(ConfigError, match="the condition `depth` is missing"):
        make(SEVERAL).sample(1, condition=given)


def test_a_name_that_is_not_among_the_parts_is_refused_with_all_of_theirs():
    with pytest.raises(ConfigError) as caught:
        make(SEVERAL).sample(1, condition={**value(), "edges": 1})
    assert str(caught.value) == (
        "this model does not know the condition `edges`\n"
        "hint: it is steered by: `class`, `depth`, `segmentation`"
    )


def test_a_local_prior_adds_the_vectors_of_all_parts(grids):
    span = LocalSpan(rows=2, columns=1)
    model = make(SEVERAL, has_null=True, positions="rotary", span=span)
    seen, large = grids(model), value(20, 12)
    others = [{"class": 0}, {"depth": -large["depth"]}, {"segmentation": (large["segmentation"] + 1) % 5}]
    for other in ({}, *others):
        model.sample(1, (20, 12), {**large, **other}, guidance=1.0)
    assert all(not torch.equal(seen[0], each) for each in seen[1:])


def test_a_local_prior_takes_no_layout_beside_others():
    several = SeveralConfig(conditioners=(CLASSES, SCENE))
    with pytest.raises(ConfigError, match="the condition is a layout, but a prior of local `span`"):
        make(several, positions="rotary", span=LocalSpan(rows=2, columns=1))


def test_the_file_holds_the_tokenizers_of_all_parts(tmp_path):
    model, path = make(SEVERAL).float(), tmp_path / "prior.safetensors"
    save_model(model, path)
    found = load(path, device="cpu")
    given = {name: each.float() if name == "depth" else each for name, each in value().items()}
    assert found.config == model.config
    assert torch.equal(found.sample(2, condition=given), model.sample(2, condition=given))


def test_a_shared_tokenizer_is_stored_once():
    several = SeveralConfig(conditioners=(CLASSES, TokenizedImageConfig(codebook_size=tiny.CODES)))
    model = make(several)
    assert not model.conditioner.state_dict()
    assert model.sample(1, condition={"class": 0, "image": tiny.images(1).double()}).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "`conditioners` are none, expected two or more"),
        ((CLASSES,), "`conditioners` are class, expected two or more"),
        ((CLASSES, UnconditionalConfig()), "expected two or more that have a value"),
        ((DEPTH, CoordinatesConfig(num_values=4, downsample_factor=4), DEPTH), "are called `depth`"),
    ],
)
def test_conditions_that_do_not_go_together_are_refused(parts, message):
    with pytest.raises(ConfigError, match=message):
        SeveralConfig(conditioners=parts)
