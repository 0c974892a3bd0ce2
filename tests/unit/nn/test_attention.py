import torch
from torch import nn
from torch.testing import assert_close

from vqgan.nn.convolution import SpatialAttention


def test_attention_equals_the_formula_written_out():
    torch.manual_seed(0)
    layer = SpatialAttention(channels=32).double()
    features = torch.randn(2, 32, 3, 4, dtype=torch.float64)
    normed = layer.norm(features)
    query, key, value = (part(normed).flatten(2) for part in (layer.query, layer.key, layer.value))
    weights = (torch.einsum("bci,bcj->bij", query, key) * 32**-0.5).softmax(dim=2)
    attended = torch.einsum("bij,bcj->bci", weights, value).view(2, 32, 3, 4)
    assert_close(layer(features), features + layer.projection(attended))


def test_attention_adds_to_its_input():
    layer = SpatialAttention(channels=32)
    nn.init.zeros_(layer.projection.weight)
    nn.init.zeros_(layer.projection.bias)
    features = torch.randn(1, 32, 2, 2)
    assert torch.equal(layer(features), features)
