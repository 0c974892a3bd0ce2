"""Texts through frozen encoders of transformers: tiny random ones, saved and opened as a user's are."""

import logging
import shutil
import sys

import msgspec
import pytest
import torch

import networks
import tiny
from vqgan.checkpoints.format import load_model, save_model
from vqgan.cli.main import main
from vqgan.conditioning import ClassLabelConfig, SeveralConfig, TextConfig, build_conditioner, encoded_text
from vqgan.conditioning.encoded_text import open_text_encoder
from vqgan.errors import CheckpointError, ConfigError
from vqgan.prior import LocalSpan, PriorConfig
from vqgan.runs import train
from vqgan.synthesizer import SynthesizerConfig
from vqgan.training.started import started_synthesizer

TEXTS = ["red car", "a b c d", "b"]
WIDTHS = {"CLIPModel": 16, "T5ForConditionalGeneration": 24}
LOCAL = {"positions": "rotary", "span": LocalSpan(rows=1, columns=1)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return {name: networks.save_text_encoder(name, root / name) for name in WIDTHS}


@pytest.fixture(params=WIDTHS)
def name(request):
    return request.param


def config_of(folder, max_tokens=9):
    return open_text_encoder(TextConfig(max_tokens=max_tokens, encoder=str(folder)))[2]


@pytest.fixture(scope="module")
def clip(folders):
    return config_of(folders["CLIPModel"])


def make(conditioner, **shape):
    parts = len(conditioner.conditioners) if isinstance(conditioner, SeveralConfig) else 1
    sizes = {"codebook_size": tiny.CODES, "depth": 2, "width": 16, "num_heads": 2, **shape}
    sizes["condition_size"] = conditioner.vocabulary_size + parts
    prior = PriorConfig(context_length=conditioner.num_tokens((2, 2)) + 3, **sizes)
    tokenizer = tiny.tokenizer_config()
    model = tiny.random_synthesizer(
        SynthesizerConfig(tokenizer=tokenizer, conditioner=conditioner, prior=prior, window=(2, 2))
    )
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def of_transformers(folder, texts):
    """The last hidden states of a padded batch, with its mask."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    batch = {key: batch[key] for key in ("input_ids", "attention_mask")}
    whole = folder.name
    model = getattr(transformers, whole).from_pretrained(folder).eval()
    model = model.text_model if whole == "CLIPModel" else model.get_encoder()
    with torch.no_grad():
        return model(**batch).last_hidden_state, batch["attention_mask"].bool()


def test_tokens_stand_for_the_hidden_states_of_transformers(name, folders):
    config = config_of(folders[name])
    assert config.vector_width == WIDTHS[name]
    reader, texts = build_conditioner(config), [TEXTS[0], *TEXTS]
    tokens, vectors = reader.tokens({"text": texts}, 4, (2, 2)), reader.vectors({"text": texts})
    expected, mask = of_transformers(folders[name], texts)
    assert not mask.all()  # there is padding
    assert torch.equal(tokens < 0, torch.nn.functional.pad(mask, (0, 9 - mask.shape[1])))
    assert tokens.max() == 0  # what pads
    torch.testing.assert_close(vectors[tokens[tokens < 0]], expected[mask], atol=1e-5, rtol=1e-5)
    assert len(vectors) == mask[1:].sum()  # each text once
    assert expected[0, 0].std() > 1e-3


def test_what_a_text_says_depends_on_no_other_text_beside_it(name, folders):
    config = config_of(folders[name])
    alone, beside = (
        build_conditioner(config).vectors({"text": texts}) for texts in (TEXTS[0], [TEXTS[1], TEXTS[0]])
    )
    assert torch.equal(alone, beside[-len(alone) :])
    model, images = make(config), tiny.images(2).double()
    both, one = (model.log_probability(images, {"text": said}) for said in (TEXTS[:2], TEXTS[0]))
    torch.testing.assert_close(both[0], one[0])
    assert not torch.allclose(both[1], one[1])


@pytest.mark.parametrize("shape", [{}, {"vocabulary": "shared"}, LOCAL], ids=["global", "shared", "local"])
def test_a_prior_reads_projected_states_then_padding(shape, clip):
    """Equal to a prior whose table holds these vectors, read by ordinary numbers."""
    model, said = make(clip, **shape), {"text": TEXTS}
    prior, tokens = model.steered(said, 3, (2, 2), 10**9)
    rows = model.prior.vector_projection(model.conditioner.vectors(said).double())
    indices = torch.arange(12).reshape(3, 4) % tiny.CODES
    found = prior.log_probability(indices, tokens, (2, 2))
    places = "cell_condition.embedding" if "span" in shape else "token_embedding"
    table = model.prior.get_submodule(places)
    first, offset = len(table.weight), 0 if "span" in shape else model.prior.condition_offset
    table.weight = torch.nn.Parameter(torch.cat([table.weight, rows]))
    numbers = tokens.where(tokens >= 0, tokens + first + len(rows) - offset)
    torch.testing.assert_close(found, model.prior.log_probability(indices, numbers, (2, 2)))
    other = model.steered({"text": "d"}, 3, (2, 2), 10**9)
    assert not torch.allclose(found, other[0].log_probability(indices, other[1], (2, 2)))


@pytest.mark.parametrize("shape", [{}, {"positions": "rotary"}, LOCAL], ids=["learned", "rotary", "local"])
def test_it_steers_samples_completions_and_scores_of_any_size_with_guidance(shape, clip):
    model = make(clip, **shape)
    images, known = tiny.images(12, side=16).double()[:, :, :8], torch.zeros(12, 2, 4, dtype=torch.bool)
    known[:, 0, 0] = True
    for draw in (
        lambda text: model.sample(12, (8, 16), {"text": text}, guidance=2.0),
        lambda text: model.complete(images, known, {"text": text}),
        lambda text: model.log_probability(images, {"text": text}),
    ):
        first, same, other = map(draw, ["red car", "red car", "x"])
        assert torch.equal(same, first)
        assert not torch.equal(other, first)
    (row,) = model.sample_rows((8, 8), {"text": "red car"})
    torch.testing.assert_close(row, model.sample(1, (8, 8), {"text": "red car"}))
    if "span" not in shape:
        blocks = model.sample(2, condition={"text": "red car"}, jacobi=2, guidance=1.0)
        torch.testing.assert_close(blocks, model.sample(2, condition={"text": "red car"}, guidance=1.0))


def test_beside_another_condition_and_without_a_text(clip):
    model = make(SeveralConfig(conditioners=(ClassLabelConfig(num_classes=3), clip)))
    both, images = {"class": 1, "text": "red car"}, tiny.images(2).double()
    asked = (
        both,
        {"class": 2, "text": "red car"},
        {"class": 1, "text": "x"},
        {"class": 1},
        {"text": "red car"},
    )
    scores = [model.log_probability(images, each) for each in (*asked, {})]
    assert all(not torch.allclose(scores[0], each) for each in scores[1:])
    other = make(SeveralConfig(conditioners=(clip, ClassLabelConfig(num_classes=3))))
    scores = [other.log_probability(images, each) for each in asked]
    assert all(not torch.allclose(scores[0], each) for each in scores[1:])


def test_texts_are_read_once_while_they_fit(clip, monkeypatch):
    reader, read = build_conditioner(clip), []
    model = open_text_encoder(clip)[0]
    handle = model.register_forward_hook(lambda *_: read.append(1))
    try:
        for _ in range(2):
            with torch.inference_mode():
                reader.tokens({"text": [*TEXTS, TEXTS[0]]}, 4, (2, 2))
            vectors = reader.vectors({"text": TEXTS})
        assert len(read) == 3
        assert not vectors.is_inference()
        monkeypatch.setattr(encoded_text, "KEPT", 8 * 16 * 4)
        reader.tokens({"text": ["a", "b c", "d"]}, 3, (2, 2))
        assert len(read) == 6
        assert [*reader._known] == ["a", "b c", "d"]  # those of the call, whatever they take
        reader.tokens({"text": "d"}, 1, (2, 2))
        assert len(reader._known) < 3
        assert len(read) == 6
    finally:
        handle.remove()


def test_a_long_text_is_cut_as_the_encoder_would_and_a_warning_shows_once_what(name, folders, caplog):
    reader, long = build_conditioner(config_of(folders[name], 30)), " ".join("abcdefghijklmnopqrstuvwxyz")
    most = 12 if name == "CLIPModel" else 30
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert len(reader.vectors({"text": long})) == min(most, 27)
            reader._known.clear()
    messages = [record.getMessage() for record in caplog.records]
    if name == "CLIPModel":
        assert [message.split("`", 2)[2] for message in messages] == [
            " the prior reads 12 of 28 tokens, this is cut: `k l m n o p q r s t u v w x y z`"
        ]
    else:
        assert messages == []


def test_a_run_fills_in_what_it_needs_and_goes_on_bitwise(folders, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    save_model(tiny.tokenizer(), tmp_path / "tokenizer.safetensors")
    captions = ["red car", ["a", "b b"], "c", "d", "e", "f", "g", "h"]
    pairs = [*zip((tiny.images(8)[:, 0].numpy() + 1) / 2, captions, strict=True)]
    begin = {"data": pairs, "conditions": {"text": ""}, "tokenizer": tmp_path / "tokenizer.safetensors"}
    chosen = ["conditioner.kind=text", f"conditioner.encoder={folders['CLIPModel']}", "data.flip=false"]
    begin["overrides"] = [*chosen, "task.condition_dropout=0.2"]
    for steps, folder in ((4, "whole"), (2, "parts")):
        train(tiny.prior_run(steps=steps, pictures=1), out=tmp_path / folder, device="cpu", **begin)
    encoded_text._open.cache_clear()
    train(None, resume=tmp_path / "parts", overrides=["training.steps=4"], data=pairs, device="cpu")
    whole, parts = (load_model(tmp_path / each / "prior.safetensors")[0] for each in ("whole", "parts"))
    assert whole.config.conditioner == msgspec.structs.replace(
        clip, max_tokens=6
    )  # two marks and `red c a r`
    state = parts.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in whole.state_dict().items())
    assert not any(key.startswith("conditioner.") for key in state)
    assert main(["info", str(tmp_path / "whole")]) == 0
    assert f"read by `{folders['CLIPModel']}`, 6 for each text" in " ".join(capsys.readouterr().out.split())
    begin |= {"tokenizer": None, "start_from": tmp_path / "whole"}
    begin["overrides"] = ["conditioner.kind=text", "conditioner.encoder=elsewhere"]
    with pytest.raises(ConfigError, match=r"`conditioner.encoder` is set to elsewhere, but in `.*` it is /"):
        train(tiny.prior_run(), out=tmp_path / "other", device="cpu", **begin)


def test_training_moves_the_projection_and_a_model_comes_back_from_its_file(clip, tmp_path):
    model, path = make(clip).float(), tmp_path / "prior.safetensors"
    prior, tokens = model.steered({"text": TEXTS}, 3, (2, 2), 10**9)
    indices = torch.zeros(3, 4, dtype=torch.int64)
    prior.log_probability(indices, tokens).sum().backward()
    assert model.prior.vector_projection.weight.grad.abs().sum() > 0
    assert model.prior.token_embedding.weight.grad.abs().sum() > 0
    save_model(model, path)
    expected = model.sample(2, condition={"text": "red car"}, guidance=1.0)
    assert torch.equal(load_model(path)[0].sample(2, condition={"text": "red car"}, guidance=1.0), expected)


def test_a_prior_that_moves_to_a_class_keeps_the_projection_of_the_same_encoder(
    name, folders, clip, tmp_path
):
    old, path = make(clip).float(), tmp_path / "prior.safetensors"
    save_model(old, path)
    classes = ClassLabelConfig(num_classes=2, class_names=("a", "b"))
    both = SeveralConfig(conditioners=(classes, config_of(folders[name])))
    run = msgspec.structs.replace(tiny.prior_run(), conditioner=both)
    how = {"names": {"class": ("a", "b")}, "images": None, "seed": 0, "tokenizers": {}}
    moved, before = started_synthesizer(run, path, **how).prior, old.prior.vector_projection.weight
    assert torch.equal(moved.head.weight, old.prior.head.weight)
    assert moved.vector_projection.weight.shape == (16, WIDTHS[name])
    if name == "CLIPModel":
        assert torch.equal(moved.vector_projection.weight, before)


def test_another_encoder_or_none_is_refused_where_a_text_is_read(folders, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(folders["CLIPModel"], folder)
    model = make(config_of(folder))
    shutil.rmtree(folder)
    encoded_text._open.cache_clear()
    model.sample(1)
    hint = r"hint: put the one there that the prior learned with, or a link to it"
    with pytest.raises(CheckpointError, match=rf"cannot be used for the condition `text`: .*\n{hint}"):
        model.sample(1, condition={"text": "red car"})
    networks.save_text_encoder("T5ForConditionalGeneration", folder)
    with pytest.raises(CheckpointError, match=rf"is not the text encoder that .* its digest is .*\n{hint}"):
        model.sample(1, condition={"text": "red car"})


def test_one_weight_or_one_word_makes_it_another(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    digests = {config_of(folders["CLIPModel"]).digest}
    for change in ("weight", "word"):
        folder = tmp_path / change
        shutil.copytree(folders["CLIPModel"], folder)
        if change == "weight":
            tensors = load_file(folder / "model.safetensors")
            tensors["text_model.encoder.layers.1.mlp.fc2.weight"] += 1
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        else:
            words = (folder / "tokenizer.json").read_text(encoding="utf-8")
            (folder / "tokenizer.json").write_text(words.replace('"z"', '"0"'), encoding="utf-8")
        digests.add(config_of(folder).digest)
    assert len(digests) == 3


def test_what_is_no_text_encoder_or_has_no_tokenizer_is_refused(folders, tmp_path, monkeypatch):
    def opened(folder):
        return open_text_encoder(TextConfig(encoder=str(folder)))

    with pytest.raises(CheckpointError, match="for the condition `text`") as caught:
        opened(tmp_path)
    assert caught.value.hint.endswith("or a folder: config.json, model.safetensors, tokenizer.json")
    other = networks.save("segformer", tmp_path / "other")
    with pytest.raises(CheckpointError, match="`text`: it is a SegformerForSemanticSegmentation"):
        opened(other)
    bare = tmp_path / "bare"
    shutil.copytree(folders["CLIPModel"], bare, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(CheckpointError, match="the tokenizer of"):
        opened(bare)
    with pytest.raises(ConfigError, match=r"have no width: `vector_width` is 0.*\nhint: training takes it"):
        build_conditioner(TextConfig(max_tokens=3, encoder="x"))
    encoded_text._open.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"needs transformers, .*\nhint: .* pip install \"vqgan\[clip\]\""):
        opened(other)
