"""A synthesizer with null tokens draws without its condition, and follows it as closely as asked."""

import msgspec
import pytest
import torch

import tiny
from vqgan import load, save_model
from vqgan.conditioning import UnconditionalConfig
from vqgan.errors import ConfigError
from vqgan.prior import to_tokens
from vqgan.sampling import GridNoise, SamplingSettings
from vqgan.synthesizer import SynthesizerConfig


@pytest.fixture(scope="module")
def model():
    return tiny.random_synthesizer(tiny.synthesizer_config(has_null=True))


def without_null():
    return tiny.random_synthesizer(tiny.synthesizer_config())


def unconditional():
    config = msgspec.to_builtins(tiny.synthesizer_config())
    config["prior"]["condition_size"], config["conditioner"] = 1, msgspec.to_builtins(UnconditionalConfig())
    return tiny.random_synthesizer(msgspec.convert(config, SynthesizerConfig))


def drawn_by_hand(model, classes, scale, seed):
    """Greedy in nothing: two passes for each token, mixed, with the noise of its cell."""
    condition = torch.tensor(classes)[:, None]
    grid = torch.zeros(len(classes), 2, 2, dtype=torch.int64)
    noise = GridNoise(seed=seed, count=len(grid), grid=(2, 2), codebook_size=16, device=torch.device("cpu"))
    for cell in range(4):
        with_, without = (
            model.prior(to_tokens(grid, "raster"), each)[:, cell]
            for each in (condition, torch.full_like(condition, 3))
        )
        mixed = with_ + scale * (with_ - without) + noise.at(*divmod(cell, 2))
        grid.view(-1, 4)[:, cell] = mixed.argmax(dim=1)
    return model.tokenizer.decode(grid)


def test_guidance_mixes_the_prior_with_and_without_its_condition(model):
    drawn = model.sample(3, condition={"class": [0, 1, 2]}, guidance=2.5, seed=6)
    torch.testing.assert_close(drawn, drawn_by_hand(model, [0, 1, 2], 2.5, 6))
    assert not torch.equal(drawn, model.sample(3, condition={"class": [0, 1, 2]}, seed=6))
    settings = SamplingSettings(seed=6, guidance=2.5)
    rows = torch.cat([*model.sample_rows(8, {"class": 0}, settings)], dim=2)
    torch.testing.assert_close(rows, drawn[:1])


def test_no_guidance_changes_nothing(model):
    plain = model.sample(2, condition={"class": 1})
    assert torch.equal(plain, model.sample(2, condition={"class": 1}, guidance=0.0))


@pytest.fixture
def grids(model, monkeypatch):
    """The grids that reach the decoder."""
    seen = []
    decode = model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda indices: seen.append(indices) or decode(indices))
    return seen


def test_completion_keeps_what_is_known_and_guides_the_rest(model, grids):
    images, known = tiny.images(4).double(), torch.tensor([[True, True], [False, False]]).expand(4, 2, 2)
    for scale in (0.0, (0.0, 9.0)):
        model.complete(images, known, {"class": 0}, guidance=scale, seed=2)
    plain, guided = grids
    assert torch.equal(guided[:, 0], model.tokenizer.encode(images)[:, 0])
    assert not torch.equal(guided, plain)


def test_without_a_condition_null_tokens_steer(model):
    assert torch.equal(model.sample(2, seed=3), model.sample(2, condition={"class": None}, seed=3))
    with_null = model.conditioner.null_tokens(2, (2, 2))
    drawn = drawn_by_hand(model, with_null[:, 0].tolist(), 0.0, 3)
    torch.testing.assert_close(model.sample(2, condition={}, seed=3), drawn)
    scores = model.log_probability(tiny.images(2).double())
    indices = model.tokenizer.encode(tiny.images(2).double())
    expected = model.prior.log_probability(indices.flatten(1), with_null)
    torch.testing.assert_close(scores, expected)


def test_the_file_remembers_the_null_token(tmp_path):
    model = tiny.synthesizer(has_null=True).eval()
    save_model(model, tmp_path / "prior.safetensors")
    found = load(tmp_path / "prior.safetensors", device="cpu")
    assert found.config.has_null_tokens
    how = {"condition": {"class": 2}, "guidance": 1.0}
    assert torch.equal(found.sample(2, **how), model.sample(2, **how))


@pytest.mark.parametrize(
    ("make_model", "message"),
    [
        (
            without_null,
            "it has not learned images without their condition\n"
            "hint: omit it, or train a prior with `task.condition_dropout=0.1`",
        ),
        (unconditional, "it has no condition to follow\nhint: omit it"),
    ],
)
def test_priors_without_null_tokens_refuse_guidance(make_model, message):
    condition = {"class": 0} if make_model is without_null else None
    with pytest.raises(ConfigError) as caught:
        make_model().sample(1, condition=condition, guidance=1.0)
    assert str(caught.value) == f"this prior cannot take `guidance`: {message}"


def test_priors_without_null_tokens_still_need_their_condition():
    with pytest.raises(ConfigError, match="the condition `class` is missing"):
        without_null().sample(1, condition={})
