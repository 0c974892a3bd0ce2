"""The classifier of ImageNet: what it sees in known photographs, and files that are not its own."""

import importlib.machinery

import pytest
import torch

from vqgan.checkpoints import imagenet
from vqgan.checkpoints.imagenet import PACKAGE, load_efficientnet_lite
from vqgan.errors import CheckpointError, ConfigError
from vqgan.images import to_float
from vqgan.nn.efficientnet_lite import EfficientNetLite

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


def test_another_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / imagenet._FILE).write_bytes(b"weights")
    found = importlib.machinery.ModuleSpec(PACKAGE, None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(imagenet, "find_spec", lambda name: found)
    with pytest.raises(CheckpointError, match="is not the file that was published"):
        load_efficientnet_lite()
