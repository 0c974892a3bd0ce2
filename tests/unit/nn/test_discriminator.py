import pytest
import torch
from torch import nn

from vqgan.nn.discriminator import PatchDiscriminator


def test_width_doubles_up_to_eightfold():
    network = PatchDiscriminator(image_channels=3, base_channels=4, num_layers=5)
    widths = [layer.out_channels for layer in network.layers if isinstance(layer, nn.Conv2d)]
    assert widths == [4, 8, 16, 32, 32, 32, 1]


@pytest.mark.parametrize(("num_layers", "width"), [(1, 16), (2, 34), (3, 70)])
def test_each_layer_doubles_the_patch_that_a_logit_sees(num_layers, width):
    torch.manual_seed(0)
    network = PatchDiscriminator(base_channels=4, num_layers=num_layers).eval()
    images = torch.zeros(1, 3, 128, 128, requires_grad=True)
    logits = network(images)
    logits[0, 0, 7, 7].backward()
    rows = images.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    assert rows.max() - rows.min() + 1 == width


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


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_smallest_images_leave_one_patch_and_smaller_ones_none(num_layers):
    network = PatchDiscriminator(base_channels=4, num_layers=num_layers)
    side = network.min_side
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 1, 1, 1)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        network(torch.zeros(2, 3, side, side - 1))
