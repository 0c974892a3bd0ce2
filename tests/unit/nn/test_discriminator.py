import pytest
import torch
from torch import nn

from vqgan.nn.discriminator import PatchDiscriminator


@pytest.mark.parametrize(("num_layers", "side"), [(1, 30), (2, 14), (3, 6)])
def test_each_layer_halves_the_grid_of_patches(num_layers, side):
    network = PatchDiscriminator(image_channels=1, base_channels=4, num_layers=num_layers)
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 1, side, side)


def test_width_doubles_up_to_eightfold():
    network = PatchDiscriminator(image_channels=3, base_channels=4, num_layers=5)
    widths = [layer.out_channels for layer in network.layers if isinstance(layer, nn.Conv2d)]
    assert widths == [4, 8, 16, 32, 32, 32, 1]


def test_a_patch_of_the_default_is_70_pixels_wide():
    torch.manual_seed(0)
    network = PatchDiscriminator(base_channels=4).eval()
    images = torch.zeros(1, 3, 128, 128, requires_grad=True)
    logits = network(images)
    logits[0, 0, 7, 7].backward()
    rows = images.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    assert rows.max() - rows.min() + 1 == 70


def test_the_default_has_the_published_size():
    with torch.device("meta"):
        network = PatchDiscriminator()
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_765_633


def test_weights_start_small():
    torch.manual_seed(0)
    network = PatchDiscriminator(base_channels=32)
    weights = torch.cat([layer.weight.flatten() for layer in network.layers if isinstance(layer, nn.Conv2d)])
    assert abs(weights.std().item() - 0.02) < 1e-3
    norms = torch.cat([layer.weight for layer in network.layers if isinstance(layer, nn.BatchNorm2d)])
    assert abs(norms.mean().item() - 1.0) < 1e-2
