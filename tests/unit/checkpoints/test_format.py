import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

import tiny
from vqgan.checkpoints import format, renamed
from vqgan.checkpoints.format import (
    build_model,
    digest_of,
    load_model,
    read_header,
    read_training,
    save_model,
)
from vqgan.checkpoints.tensors import read_description, read_tensors, write_tensors
from vqgan.config import canonical_json
from vqgan.errors import CheckpointError, ConfigError
from vqgan.version import __version__

MODELS = {
    "tokenizer": tiny.tokenizer,
    "synthesizer": tiny.synthesizer,
    "classifier": tiny.classifier,
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(path):
    save_model(tiny.tokenizer(), path, step=7)
    return path


def rewrite(path, *, tensors=None, **changes):
    """The file with other metadata (None removes an entry) or other tensors."""
    metadata, _ = read_description(path)
    entries = {**metadata, **{f"vqgan.{name}": value for name, value in changes.items()}}
    own = {name: tensor.clone() for name, tensor in (tensors or read_tensors(path)).items()}
    write_tensors(path, own, {name: value for name, value in entries.items() if value is not None})


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    return str(caught.value)


def test_a_model_comes_back_bit_by_bit(model, path):
    save_model(model, path)
    loaded, _ = load_model(path)
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_loading_needs_no_other_file(model, path, monkeypatch, tmp_path):
    save_model(model, path)
    moved = tmp_path / "elsewhere" / "x.bin"
    moved.parent.mkdir()
    path.rename(moved)
    monkeypatch.chdir("/")
    assert load_model(moved)[0].config == model.config


def test_the_metadata_say_everything(model, path):
    digest = save_model(model, path, weights="ema", step=12)
    metadata, shapes = read_description(path)
    assert metadata == {
        "vqgan.format": "1",
        "vqgan.kind": type(model).__name__.lower(),
        "vqgan.config": canonical_json(model.config),
        "vqgan.version": __version__,
        "vqgan.weights": "ema",
        "vqgan.step": "12",
        "vqgan.digest": digest,
    }
    header = read_header(path)
    assert (header.weights, header.step, header.digest) == ("ema", 12, digest)
    assert header.shapes == shapes
    assert header.training == {}


def test_the_digest_is_that_of_names_types_shapes_and_bytes_in_name_order():
    weight, count = torch.tensor([[1.0, -2.0]]), torch.tensor(3)
    expected = hashlib.sha256(
        b"a|torch.int64|()|" + count.numpy().tobytes() + b"b|torch.float32|(1, 2)|" + weight.numpy().tobytes()
    ).hexdigest()
    assert digest_of({"b": weight, "a": count}) == expected
    assert digest_of({"a": count, "b": weight.T.contiguous().T}) == expected
    for other in (
        {"a": count, "c": weight},
        {"a": count, "b": weight.double()},
        {"a": count, "b": weight.view(2)},
        {"a": count, "b": -weight},
    ):
        assert digest_of(other) != expected


def test_the_same_weights_have_the_same_digest_and_others_another(tmp_path):
    digests = [
        save_model(tiny.tokenizer(seed), tmp_path / f"{i}.safetensors", step=i)
        for i, seed in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_averaged_weights_take_the_place_of_the_models_own(path):
    model, average = tiny.tokenizer(0), tiny.tokenizer(1).state_dict()
    save_model(model, path, tensors=average, weights="ema")
    assert torch.equal(load_model(path)[0].state_dict()["to_codebook.weight"], average["to_codebook.weight"])


@pytest.mark.parametrize(("name", "shape"), [("odd", (1,)), ("to_codebook.bias", (5,))])
def test_tensors_that_the_model_has_not_are_not_written(path, name, shape):
    with pytest.raises(ConfigError, match=f"the model has no tensor `{name}` of the shape"):
        save_model(tiny.tokenizer(), path, tensors={name: torch.zeros(shape)})
    assert not path.exists()


def test_training_networks_travel_along_and_are_left_out_on_loading(path):
    network = torch.nn.Linear(2, 3)
    save_model(tiny.tokenizer(), path, training={"discriminator": ({"num_layers": 2}, network)})
    assert read_header(path).training == {"discriminator": {"num_layers": 2}}
    stored = read_training(path, "discriminator")
    assert torch.equal(stored["weight"], network.weight)
    assert read_training(path, "perceptual") == {}
    assert load_model(path)[0].state_dict().keys() == tiny.tokenizer().state_dict().keys()


def test_training_a_loaded_model_never_changes_the_file(saved):
    before = saved.read_bytes()
    model, _ = load_model(saved)
    model(tiny.images(1)).images.sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert saved.read_bytes() == before
    assert not torch.equal(model.state_dict()["to_codebook.bias"], read_tensors(saved)["to_codebook.bias"])


def test_weights_lie_in_memory_of_their_own_as_the_processor_likes_them(saved):
    model, _ = load_model(saved)
    assert all(parameter.data_ptr() % 64 == 0 for parameter in model.parameters())


def test_half_precision_is_widened_without_loss(path):
    model = tiny.tokenizer().bfloat16()
    save_model(model, path)
    weight = load_model(path)[0].to_codebook.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight.bfloat16(), model.to_codebook.weight)


def test_a_newer_format_is_refused_with_the_way_out(saved):
    rewrite(saved, format="2")
    assert refused(saved) == (
        f"`{saved}` has format 2; this version reads up to 1\nhint: upgrade with `pip install --upgrade vqgan`"
    )


def test_foreign_files_of_tensors_are_told_apart(path):
    save_file({"a": torch.zeros(1)}, path)
    assert "is a safetensors file without a `vqgan.format` entry" in refused(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "diffusion"}, "`kind` of the metadata of `"),
        ({"kind": "synthesizer"}, "holds an invalid configuration"),
        ({"config": None}, "damaged metadata: KeyError 'config'"),
        ({"config": "{"}, "damaged metadata"),
        ({"config": "[1]"}, "`config` of the metadata of `"),
        ({"config": "[" * 100_000}, "damaged metadata: RecursionError"),
        ({"format": "²"}, "damaged metadata"),
        ({"format": "-3"}, "`format` of the metadata of `"),
        ({"weights": "best"}, "`weights` of the metadata of `"),
        ({"step": "many"}, "damaged metadata"),
        ({"training": "3"}, "`training` of the metadata of `"),
        ({"digest": "0" * 64}, "is damaged: its tensors do not have its digest"),
    ],
)
def test_damaged_metadata_are_refused(saved, changes, reason):
    rewrite(saved, **changes)
    assert reason in refused(saved)


@pytest.mark.parametrize(("key", "value"), [("codebook_size", 1 << 62), ("codebook_dim", 1 << 40)])
def test_sizes_that_do_not_fit_are_refused_before_memory_is_taken(saved, key, value, monkeypatch):
    config = json.loads(canonical_json(tiny.tokenizer_config()))
    config["quantizer"][key] = value
    rewrite(saved, config=json.dumps(config))
    monkeypatch.setattr(format, "read_tensors", pytest.fail)
    message = refused(saved)
    assert "describes a model that cannot be built" in message or "of another shape" in message


def test_missing_and_unexpected_tensors_are_counted_and_the_first_five_shown(saved):
    tensors = read_tensors(saved)
    gone = [name for name in tensors if name.startswith("encoder.")]
    kept = {name: tensor for name, tensor in tensors.items() if name not in gone}
    rewrite(saved, tensors={**kept, "odd": torch.zeros(1), "to_codebook.bias": torch.zeros(5)})
    message = refused(saved)
    first, missing, unexpected, shape, hint = message.splitlines()
    assert first.endswith(
        f"does not fit the tokenizer it describes: {len(gone)} missing, 1 unexpected, 1 of another shape"
    )
    assert missing.count(",") == 5
    assert missing.endswith(", …")
    assert unexpected.split() == ["unexpected", "odd"]
    assert shape.endswith("to_codebook.bias (5,) instead of (4,)")
    assert hint.startswith("hint: ")


def test_a_flipped_bit_in_the_weights_is_seen(saved):
    data = bytearray(saved.read_bytes())
    data[-5] ^= 4
    saved.write_bytes(data)
    assert "its tensors do not have its digest" in refused(saved)


def test_a_file_cut_off_anywhere_is_refused(saved):
    data = saved.read_bytes()
    for length in (0, 7, 100, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:length])
        assert "is truncated" in refused(saved) or "cannot be read" in refused(saved)


def test_a_model_is_described_without_memory_for_it():
    model = build_model("tokenizer", json.loads(canonical_json(tiny.tokenizer_config())), where="here")
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_file_with_an_old_name_of_a_field_still_opens(saved, monkeypatch):
    monkeypatch.setitem(renamed.RENAMED, ("autoencoder", "old_channels"), "base_channels")
    config = json.loads(canonical_json(tiny.tokenizer_config()))
    config["autoencoder"]["old_channels"] = config["autoencoder"].pop("base_channels")
    rewrite(saved, config=json.dumps(config))
    assert load_model(saved)[0].config == tiny.tokenizer_config()
