"""The classifier of ImageNet: what it sees in known photographs, and files that are not its own."""

import importlib.machinery

import msgspec
import pytest
import torch

import tiny
from vqgan.checkpoints import imagenet
from vqgan.checkpoints.format import digest_of
from vqgan.checkpoints.imagenet import NAMES, PACKAGE, imagenet_labels, load_efficientnet_lite
from vqgan.errors import CheckpointError, ConfigError
from vqgan.images import to_float
from vqgan.nn.efficientnet_lite import EfficientNetLite
from vqgan.runs import resolve, train
from vqgan.training.tokenizer_task import PerceptualConfig

# Each whole photograph, squeezed into a square.
KNOWN = {"chelsea": (285, 0.77), "coffee": (967, 0.90)}


@pytest.mark.parametrize("name", KNOWN)
def test_a_cat_is_a_cat_and_a_cup_is_a_cup(name):
    pytest.importorskip(PACKAGE)
    photographs = pytest.importorskip("skimage.data")
    pixels = getattr(photographs, name)()
    images = to_float(pixels[None])
    network = load_efficientnet_lite()
    probabilities = network(images)[0]
    wanted, share = KNOWN[name]
    assert int(probabilities.argmax()) == wanted
    assert float(probabilities[wanted]) == pytest.approx(share, abs=0.02)
    assert network.features(images).shape == (1, 1280)


def test_it_has_the_published_number_of_weights():
    network = EfficientNetLite()
    assert sum(each.numel() for each in network.parameters()) == 4_652_008
    assert not any(each.requires_grad for each in network.parameters())
    assert not network.train().training


def test_grey_images_are_shown_in_three_channels_and_others_refused():
    network, grey = EfficientNetLite(), torch.rand(1, 1, 30, 40) * 2 - 1
    torch.testing.assert_close(network.features(grey), network.features(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ConfigError, match="2 channels, expected 1 or 3"):
        network.features(torch.zeros(1, 2, 30, 40))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed"):
        load_efficientnet_lite()
    assert imagenet_labels() == ()


def test_another_file_is_refused(monkeypatch, tmp_path, caplog):
    (tmp_path / "models").mkdir()
    (tmp_path / imagenet._FILE).write_bytes(b"weights")
    found = importlib.machinery.ModuleSpec(PACKAGE, None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(imagenet, "find_spec", lambda name: found)
    with pytest.raises(CheckpointError, match="is not the file that was published"):
        load_efficientnet_lite()
    assert imagenet_labels() == ()
    assert "classes have no names" in caplog.text


def test_its_classes_have_names():
    pytest.importorskip(NAMES)
    names = imagenet_labels()
    assert len({*names}) == 1000
    assert names[517] == "crane (517)"
    assert [names[number] for number, _ in KNOWN.values()] == ["Egyptian cat", "espresso"]


def test_the_distance_is_that_of_unit_vectors_at_four_depths():
    torch.manual_seed(0)
    network = EfficientNetLite()
    images, others = (torch.rand(2, 3, 40, 32) * 2 - 1 for _ in range(2))
    taken = []
    chosen = [network.blocks[number] for number in (0, 2, 4, 10)]
    hooks = [block.register_forward_hook(lambda _, __, output: taken.append(output)) for block in chosen]
    network.features(torch.zeros(1, 3, 32, 32))  # at 224 pixels
    assert [each.shape[-1] for each in taken] == [112, 56, 28, 14]
    taken.clear()
    distance = network.distance(images, others)
    for hook in hooks:
        hook.remove()
    expected = torch.zeros(2)
    for ours, theirs in zip(taken[:4], taken[4:], strict=True):
        cosines = torch.nn.functional.cosine_similarity(ours, theirs, dim=1)
        expected += (2 - 2 * cosines).mean(dim=(1, 2)) / 4
    torch.testing.assert_close(distance, expected, rtol=1e-3, atol=1e-5)
    assert network.distance(images, images).tolist() == [0, 0]


def test_it_prefers_a_shifted_photograph_to_a_blurred_one():
    pytest.importorskip(PACKAGE)
    pixels = pytest.importorskip("skimage.data").chelsea()
    whole = to_float(pixels[None])
    images, shifted = whole[..., 100:164, 100:164], whole[..., 100:164, 101:165]
    blurred = torch.nn.functional.avg_pool2d(whole, 7, 1, 3)[..., 100:164, 100:164]
    network = load_efficientnet_lite()
    shifted_error, blurred_error = ((images - each).square().mean() for each in (shifted, blurred))
    assert shifted_error > blurred_error / 4
    assert network.distance(images, shifted) < network.distance(images, blurred) / 2


def test_a_run_compares_by_it_and_keeps_its_digest(tmp_path):
    pytest.importorskip(PACKAGE)
    source = tiny.data(tmp_path / "images")
    perceptual = PerceptualConfig(weights="imagenet-lite")
    run = tiny.tokenizer_run(source, steps=1)
    run = msgspec.structs.replace(run, task=msgspec.structs.replace(run.task, perceptual=perceptual))
    run = msgspec.structs.replace(run, data=msgspec.structs.replace(run.data, image_size=(16, 16)))
    out = train(run, out=tmp_path / "run", device="cpu")
    kept = resolve(out / "config.yaml").task.perceptual
    assert kept.weights == "imagenet-lite"
    assert kept.digest == digest_of(load_efficientnet_lite().state_dict())[:12]
