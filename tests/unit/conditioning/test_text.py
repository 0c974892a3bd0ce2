"""Texts as byte-pair tokens: learned, padded, cut, and steering what is drawn."""

import copy
import sys

import msgspec
import pytest
import torch

import tiny
from vqgan.checkpoints.format import load_model, save_model
from vqgan.conditioning import ClassLabelConfig, SeveralConfig, Text, TextConfig, build_conditioner
from vqgan.conditioning.text import BYTES, find_merges
from vqgan.errors import ConfigError
from vqgan.prior import LocalSpan, PriorConfig
from vqgan.synthesizer import SynthesizerConfig

TEXTS = ["two skulls and a key", "a key left of a skull", "one skull", "the key and the skull"]
CONFIG = TextConfig(max_tokens=8, merges=find_merges(TEXTS, 200))
PADDING = CONFIG.vocabulary_size - 1


def tokens(value, count=1, config=CONFIG):
    return Text(config).tokens({"text": value}, count, (2, 2)).tolist()


def make(conditioner, *, has_null=False, **shape):
    parts = len(conditioner.conditioners) if isinstance(conditioner, SeveralConfig) else 1
    prior = PriorConfig(
        codebook_size=tiny.CODES,
        condition_size=conditioner.vocabulary_size + has_null * parts,
        context_length=conditioner.num_tokens((2, 2)) + 3,
        depth=1,
        width=16,
        num_heads=2,
        **shape,
    )
    config = SynthesizerConfig(
        tokenizer=tiny.tokenizer_config(), conditioner=conditioner, prior=prior, window=(2, 2)
    )
    model = tiny.random_synthesizer(config)
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def test_frequent_words_are_one_token_and_the_rest_is_padding():
    (row,) = tokens("a skull and the key")
    assert row[5:] == [PADDING] * 3
    assert len(set(row[:5])) == 5
    assert min(row[:5]) >= len(BYTES)


def test_case_spaces_and_the_way_to_write_an_accent_do_not_matter():
    assert tokens(" Two  SKULLS\n") == tokens("two skulls")
    assert tokens("caf\u00e9") == tokens("cafe\u0301")


def test_any_text_has_tokens_also_letters_that_training_never_saw():
    for text in ("日本", "🦊", "\udce9\x00"):
        (row,) = tokens(text)
        assert 0 <= min(row) <= max(row) <= PADDING


def test_one_text_serves_all_images_or_each_has_its_own():
    both = tokens(["one skull", "a key"], 2)
    assert both == tokens("one skull") + tokens("a key")
    assert tokens("a key", 3) == tokens("a key") * 3


@pytest.mark.parametrize("value", ["", "  ", ["a key", ""], 3, [None], []])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(
        ConfigError, match=r"`text` holds .*\nhint: write `condition=\{\"text\": \"two cats\"\}`"
    ):
        tokens(value, 2)


def test_a_number_of_texts_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="`text` holds 2 texts for 3 images"):
        tokens(["a key", "a skull"], 3)
    with pytest.raises(ConfigError, match="the condition `text` is missing"):
        Text(CONFIG).tokens({}, 1, (2, 2))


def test_a_text_that_is_too_long_is_cut_and_a_warning_shows_once_what(caplog):
    text = Text(msgspec.structs.replace(CONFIG, max_tokens=3))
    for _ in range(2):
        found = text.tokens({"text": "a key and\na skull"}, 1, (2, 2))
    assert found.tolist() == [tokens("a key and")[0][:3]]
    assert [each.getMessage() for each in caplog.records] == [
        r"of `a key and\na skull` the prior reads 3 of 5 tokens, this is cut: `a skull`"
    ]
    text.tokens({"text": "a key and"}, 1, (2, 2))
    assert len(caplog.records) == 1


def test_merges_are_the_same_in_every_process_and_none_is_learned_from_what_occurs_once():
    assert find_merges(TEXTS * 3, 5) == "Ġ a k u l l s ku Ġ sku"
    assert find_merges(["abc"], 30) == ""
    assert TextConfig().vocabulary_size == 257


def test_a_configuration_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="`merges` is a qu, expected pairs of bytes and merged words"):
        TextConfig(merges="a qu")
    with pytest.raises(ConfigError, match="a text has no tokens: `max_tokens` is 0"):
        build_conditioner(TextConfig())


def test_without_the_library_a_model_opens_and_only_words_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    model = make(CONFIG, has_null=True)
    model.sample(1)
    with pytest.raises(ConfigError, match=r'needs tokenizers, .*\nhint: .* pip install "vqgan\[text\]"'):
        model.sample(1, condition={"text": "a key"})


def test_a_model_comes_back_from_its_file_and_can_be_copied(tmp_path):
    model, path = make(CONFIG).float(), tmp_path / "prior.safetensors"
    save_model(model, path)
    expected = model.sample(2, condition={"text": "two skulls"})
    assert torch.equal(load_model(path)[0].sample(2, condition={"text": "two skulls"}), expected)
    assert torch.equal(copy.deepcopy(model).sample(2, condition={"text": "two skulls"}), expected)


@pytest.mark.parametrize("shape", [{}, {"positions": "rotary"}], ids=str)
@pytest.mark.parametrize("size", [(8, 8), (8, 16)], ids=str)
def test_a_text_steers_samples_completions_and_scores_of_any_size(shape, size):
    model, images = make(CONFIG, **shape), tiny.images(20, side=16).double()[:, :, : size[0], : size[1]]
    known = torch.zeros(20, size[0] // 4, size[1] // 4, dtype=torch.bool)
    known[:, 0, 0] = True
    for draw in (
        lambda text: model.sample(20, size, {"text": text}),
        lambda text: model.complete(images, known, {"text": text}),
        lambda text: model.log_probability(images, {"text": text}),
    ):
        first, same, other = map(draw, ["two skulls", "TWO skulls", "the key and the key"])
        assert torch.equal(same, first)
        assert not torch.equal(other, first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(
    "shape", [{}, {"span": LocalSpan(rows=2, columns=1), "positions": "rotary"}], ids=str
)
def test_on_cuda_a_text_steers_as_on_the_cpu(shape):
    texts = {"text": ["two skulls", "a key", "one skull"]}
    one, other = (make(CONFIG, **shape).to(each).sample(3, (8, 16), texts).cpu() for each in ("cpu", "cuda"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_every_word_and_their_order_matter():
    model, images = make(CONFIG), tiny.images(2).double()
    texts = ["one key", "two key", "one skull", "key one", "one", "one key key"]
    scores = [model.log_probability(images, {"text": text}) for text in texts]
    assert all(not torch.allclose(scores[0], each) for each in scores[1:])


def test_guidance_and_images_without_a_text_beside_another_condition():
    model = make(SeveralConfig(conditioners=(ClassLabelConfig(num_classes=3), CONFIG)), has_null=True)
    both = {"class": 1, "text": "a key"}
    asked = [both, {"class": 1}, {"text": "a key"}, {}]
    drawn = [model.sample(20, condition=each, guidance=5.0) for each in asked]
    assert all(not torch.equal(drawn[0], each) for each in drawn[1:])
    batch = model.sample(2, condition={"class": 1, "text": ["a key", "one skull"]}, guidance=5.0)
    assert torch.allclose(batch[:1], drawn[0][:1])
