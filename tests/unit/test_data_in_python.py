"""Images that a program hands to `vqgan.train`, in every form that it may have them."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

import tiny
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.cli.main import main
from vqgan.data import MemoryConfig, source_of
from vqgan.data.loader import check_source
from vqgan.errors import ConfigError, DataError
from vqgan.runs import read_run, resolve, train

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 9, 9, 3)).astype(np.uint8)
LABELS = [index % 3 for index in range(10)]


class Pictures(Dataset):
    """As torchvision's data sets are: PIL pictures and classes by number."""

    classes = ("cat", "dog", "fox")

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, index):
        return Image.fromarray(PIXELS[index]), LABELS[index]


class Varied(Pictures):
    """Augments by chance."""

    def __getitem__(self, index):
        return torch.rand(3, 9, 9), LABELS[index]


def tensors(kind):
    values = torch.from_numpy(PIXELS).movedim(3, 1)
    return values if kind == "uint8" else values / 255


FORMS = {
    "array": lambda folder: PIXELS,
    "array of floats": lambda folder: PIXELS / 255.0,
    "array of 16 bits": lambda folder: PIXELS.astype(np.uint16) * 257,
    "list of arrays": lambda folder: list(PIXELS),
    "pictures": lambda folder: [Image.fromarray(pixels) for pixels in PIXELS],
    "tensor": lambda folder: tensors("uint8"),
    "tensor of floats": lambda folder: tensors("float"),
    "paths": lambda folder: [write(folder, number) for number in range(10)],
    "paths as text": lambda folder: [str(write(folder, number)) for number in range(10)],
    "data set": lambda folder: Pictures(),
    "tensor data set": lambda folder: TensorDataset(tensors("uint8"), torch.tensor(LABELS)),
    "pairs": lambda folder: list(zip(PIXELS, LABELS, strict=True)),
}
NAMES = {"data set": Pictures.classes, "tensor data set": ("0", "1", "2"), "pairs": ("0", "1", "2")}


def write(folder, number):
    path = folder / f"{number}.png"
    Image.fromarray(PIXELS[number]).save(path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_images(form, tmp_path):
    source = source_of(FORMS[form](tmp_path))
    assert np.array_equal(np.stack([source.read(index).pixels for index in range(10)]), PIXELS)
    assert source.class_names == NAMES.get(form, ())
    classes = [source.read(index).class_index for index in range(10)]
    assert classes == (LABELS if form in NAMES else [None] * 10)
    assert source_of(FORMS[form](tmp_path)).fingerprint == source.fingerprint
    check_source(source, 3)
    train_part, held_out = source.part("train"), source.part("heldout")
    assert len(train_part) + len(held_out) == 10


def test_sizes_and_channels_may_differ(tmp_path):
    mixed = [PIXELS[0], np.zeros((5, 7), np.uint8), torch.zeros(1, 4, 4), Image.new("RGBA", (3, 2))]
    source = source_of(mixed)
    assert [source.read(index).pixels.shape for index in range(4)] == [
        (9, 9, 3),
        (5, 7, 3),
        (4, 4, 3),
        (2, 3, 3),
    ]
    assert source.read(3).pixels.min() == 255
    assert source.read(3, 4).pixels.max() == 0
    assert source_of([np.zeros((4, 4, 5), np.uint8)]).read(0, 5).pixels.shape == (4, 4, 5)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("no image", "the image is a str, expected a PIL picture, an array or a tensor"),
        (torch.full((3, 4, 4), -1.0), "the image holds values from -1 to -1"),
        (np.zeros((4, 4, 5), np.uint8), "the image has 5 channels, expected 3"),
        ((PIXELS[0], 1), "its class is 1, expected none, like the first image"),
        ((1, 2, 3), r"cannot read `the list\[1\]`: ValueError"),
    ],
)
def test_an_item_that_is_no_image_is_skipped_with_its_reason(bad, reason):
    source = source_of([PIXELS[0], bad])
    with pytest.raises(DataError, match=reason):
        source.read(1)
    with pytest.raises(DataError, match="9 of 10 tried"):  # before a run has a folder
        check_source(source_of([PIXELS[0]] + [bad] * 9), 3)


def test_a_class_that_a_data_set_does_not_name_is_refused(monkeypatch):
    monkeypatch.setattr(Pictures, "classes", ("cat", "dog"))
    with pytest.raises(DataError, match="its class is 2, expected 0 to 1"):
        source_of(Pictures()).read(2)


def test_the_fingerprint_follows_the_images_unless_they_vary_by_chance(caplog):
    other = PIXELS.copy()
    other[3, 0, 0] += 1
    for form in (list, np.asarray):
        assert source_of(form(PIXELS)).fingerprint != source_of(form(other)).fingerprint
    assert caplog.messages == []
    assert source_of(Varied()).fingerprint == source_of(Varied()).fingerprint
    assert "`the Varied` gives other images when read again" in caplog.text


def test_a_run_on_them_is_resumed_in_python_alone_and_bitwise(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    data = {"data": Pictures(), "eval_data": list(PIXELS[:2]), "device": "cpu"}
    train(tiny.tokenizer_run(steps=4), out=whole, **data)
    train(tiny.tokenizer_run(steps=2), out=parts, **data)
    recorded, _ = read_run(RunFolder(parts))
    assert recorded.data.source == recorded.data.eval_source == MemoryConfig()

    assert main(["train", "tokenizer", "--resume", str(parts), "--steps", "4"]) == 2
    message = capsys.readouterr().err
    assert "the images of this run were given in Python" in message
    assert "vqgan.train(None, resume=RUN, data=...)" in message
    grow = {"resume": parts, "overrides": ["training.steps=4"]}
    with pytest.raises(ConfigError, match="were given in Python"):
        train(None, **grow, data=Pictures())
    with pytest.raises(ConfigError, match="the data has fingerprint"):
        train(None, **grow, **{**data, "data": list(PIXELS)})

    train(None, **grow, **data)
    one, other = (RunFolder(folder).newest().tensors for folder in (whole, parts))
    for file, state in one.items():
        assert all(torch.equal(tensor, other[file][name]) for name, tensor in state.items())


def test_a_prior_takes_its_classes_from_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    settings = {"data": Pictures(), "device": "cpu"}
    first = train(tiny.tokenizer_run(steps=1), out=tmp_path / "tokenizer", **settings)
    prior = train(tiny.prior_run(steps=1), out=tmp_path / "prior", tokenizer=first, **settings)
    assert read_run(RunFolder(prior))[0].conditioner.class_names == Pictures.classes


@pytest.mark.parametrize("wrong", ["data.source.kind=banana", "data.source=[digits]", "data.eval_source=3"])
def test_a_mistake_in_a_source_is_one_where_another_replaces_it(wrong):
    with pytest.raises(ConfigError, match="source"):
        resolve("digits-tokenizer", [wrong], data="digits", eval_data="digits")


def test_a_change_of_a_source_without_its_kind_is_one_of_the_source_that_is_given():
    run = resolve("demo-prior", ["data.source.every=2"], data="agc:games", eval_data="agc:others")
    assert (run.data.source.path, run.data.source.every, run.data.eval_source.every) == ("games", 2, 4)
    with pytest.raises(ConfigError, match="unknown key `evry`"):
        resolve("demo-prior", ["data.source.evry=2"], data="agc:games")
    run = resolve("demo-prior", ["data.source={kind: digits}"], data="agc:games")
    assert run.data.source.path == "games"
