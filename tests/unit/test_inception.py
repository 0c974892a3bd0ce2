"""FID's Inception: its file, and what it sees against the same network written down step by step."""

import math

import pytest
import torch
import torch.nn.functional as F

import networks
from vqgan.checkpoints import inception
from vqgan.checkpoints.inception import load_inception
from vqgan.errors import CheckpointError, ConfigError
from vqgan.nn.inception import Inception


@pytest.fixture(scope="module")
def state():
    return networks.inception_state()


@pytest.fixture(scope="module")
def loaded(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    found = load_inception(path)
    path.unlink()  # 96 MB
    return found


def mean_of_neighbours(x):
    """Of those that there are: nine within, six at a border, four in a corner."""
    total = sum(
        F.pad(x, (1, 1, 1, 1))[:, :, i:, j:][:, :, : x.shape[2], : x.shape[3]]
        for i in range(3)
        for j in range(3)
    )
    count = F.conv2d(torch.ones_like(x[:1, :1]), torch.ones(1, 1, 3, 3), padding=1)
    return total / count


class Written:
    """The network by the names of its file."""

    def __init__(self, state):
        self.state = state

    def layer(self, x, name, stride=1, padding=0):
        get = {
            key.removeprefix(f"{name}."): each
            for key, each in self.state.items()
            if key.startswith(f"{name}.")
        }
        x = F.conv2d(x, get["conv.weight"], stride=stride, padding=padding)
        mean, variance = get["bn.running_mean"], get["bn.running_var"]
        scale = get["bn.weight"] / (variance + 0.001).sqrt()
        return ((x - mean[:, None, None]) * scale[:, None, None] + get["bn.bias"][:, None, None]).clamp(min=0)

    def chain(self, x, block, *steps):
        for name, *where in steps:
            x = self.layer(x, f"Mixed_{block}.branch{name}", *where)
        return x

    def a(self, x, block):
        return torch.cat([
            self.chain(x, block, ("1x1",)),
            self.chain(x, block, ("5x5_1",), ("5x5_2", 1, 2)),
            self.chain(x, block, ("3x3dbl_1",), ("3x3dbl_2", 1, 1), ("3x3dbl_3", 1, 1)),
            self.chain(mean_of_neighbours(x), block, ("_pool",)),
        ], 1)  # fmt: skip

    def c(self, x, block):
        wide, tall = (0, 3), (3, 0)
        return torch.cat([
            self.chain(x, block, ("1x1",)),
            self.chain(x, block, ("7x7_1",), ("7x7_2", 1, wide), ("7x7_3", 1, tall)),
            self.chain(x, block, ("7x7dbl_1",), ("7x7dbl_2", 1, tall), ("7x7dbl_3", 1, wide), ("7x7dbl_4", 1, tall),
                       ("7x7dbl_5", 1, wide)),
            self.chain(mean_of_neighbours(x), block, ("_pool",)),
        ], 1)  # fmt: skip

    def e(self, x, block, pool):
        short = self.chain(x, block, ("3x3_1",))
        long = self.chain(x, block, ("3x3dbl_1",), ("3x3dbl_2", 1, 1))
        return torch.cat([
            self.chain(x, block, ("1x1",)),
            self.chain(short, block, ("3x3_2a", 1, (0, 1))),
            self.chain(short, block, ("3x3_2b", 1, (1, 0))),
            self.chain(long, block, ("3x3dbl_3a", 1, (0, 1))),
            self.chain(long, block, ("3x3dbl_3b", 1, (1, 0))),
            self.chain(pool, block, ("_pool",)),
        ], 1)  # fmt: skip

    def features(self, images):
        x = F.interpolate(images, size=(299, 299), mode="bilinear", align_corners=False, antialias=False)
        for name, *where in (("1a_3x3", 2), ("2a_3x3",), ("2b_3x3", 1, 1)):
            x = self.layer(x, f"Conv2d_{name}", *where)
        x = F.max_pool2d(x, 3, 2)
        for name in ("3b_1x1", "4a_3x3"):
            x = self.layer(x, f"Conv2d_{name}")
        x = F.max_pool2d(x, 3, 2)
        for block in ("5b", "5c", "5d"):
            x = self.a(x, block)
        assert x.shape[1:] == (288, 35, 35)
        threes = ("3x3dbl_1",), ("3x3dbl_2", 1, 1), ("3x3dbl_3", 2)
        x = torch.cat(
            [self.chain(x, "6a", ("3x3", 2)), self.chain(x, "6a", *threes), F.max_pool2d(x, 3, 2)], 1
        )
        for block in ("6b", "6c", "6d", "6e"):
            x = self.c(x, block)
        assert x.shape[1:] == (768, 17, 17)
        sevens = ("7x7x3_1",), ("7x7x3_2", 1, (0, 3)), ("7x7x3_3", 1, (3, 0)), ("7x7x3_4", 2)
        parts = (
            self.chain(x, "7a", ("3x3_1",), ("3x3_2", 2)),
            self.chain(x, "7a", *sevens),
            F.max_pool2d(x, 3, 2),
        )
        x = torch.cat(parts, 1)
        x = self.e(x, "7b", mean_of_neighbours(x))
        lowest = F.pad(x, (1, 1, 1, 1), value=-math.inf)
        x = self.e(x, "7c", lowest.unfold(2, 3, 1).unfold(3, 3, 1).amax((4, 5)))
        assert x.shape[1:] == (2048, 8, 8)
        return x.mean((2, 3))


def test_it_sees_what_the_network_written_down_sees(loaded, state):
    network, _, published = loaded
    images = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(1)) * 2 - 1
    features = network.features(images)
    torch.testing.assert_close(features, Written(state).features(images), rtol=1e-4, atol=1e-4)
    assert float((features[0] - features[1]).abs().max()) > 0.01
    expected = features @ state["fc.weight"].T  # without the bias
    torch.testing.assert_close(network.scores(features), expected, rtol=1e-4, atol=1e-4)
    assert not published


def test_it_has_the_published_number_of_weights():
    """That of torchvision's Inception-v3 with 1,000 classes, 27,161,264, without its second output, and with 1,008."""
    network = Inception()
    second = 768 * 128 + 2 * 128 + 25 * 128 * 768 + 2 * 768 + 769 * 1000
    assert sum(each.numel() for each in network.parameters()) == 27_161_264 - second + 8 * 2049
    assert not any(each.requires_grad for each in network.parameters())
    assert not network.train().training


def test_a_file_of_before_pytorchs_archives_without_counters_is_the_same(loaded, state, tmp_path):
    old = {name: each for name, each in state.items() if "num_batches_tracked" not in name}
    assert len(old) == 5 * 94 + 2
    torch.save(old, path := tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    network, digest, _ = load_inception(path)
    path.unlink()
    assert digest != loaded[1]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, loaded[0].state_dict()[name])


def test_the_published_file_is_known_by_its_digest(state, tmp_path, monkeypatch):
    torch.save(state, path := tmp_path / "weights.pth")
    monkeypatch.setattr(inception, "_SHA256", load_inception(path)[1])
    assert load_inception(path)[2]
    path.unlink()


def test_every_key_must_fit(tmp_path):
    state = {
        "Mixed_5b.branch1x1.conv.weight": torch.zeros(64, 192, 3, 3),
        "AuxLogits.fc.bias": torch.zeros(1),
    }
    torch.save(state, path := tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="471 missing, 1 unexpected, 1 of another shape") as caught:
        load_inception(path)
    assert "AuxLogits.fc.bias" in str(caught.value)
    assert "pt_inception-2015-12-05-6726825d.pth" in caught.value.hint


def test_grey_images_are_shown_in_three_channels_and_others_refused(loaded):
    network, grey = loaded[0], torch.rand(1, 1, 30, 40) * 2 - 1
    torch.testing.assert_close(network.features(grey), network.features(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ConfigError, match="2 channels, expected 1 or 3"):
        network.features(torch.zeros(1, 2, 30, 40))
