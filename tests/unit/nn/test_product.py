import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vqgan.nn import product
from vqgan.nn.product import Linear


def results(layer, rows):
    """The product, and the gradients of input, weight and bias."""
    rows = rows.clone().requires_grad_()
    out = layer(rows)
    return [out, *torch.autograd.grad(out.square().sum(), (rows, *layer.parameters()))]


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(256, 24), (2, 73, 24)])
def test_as_a_convolution_product_and_gradients_are_the_same(monkeypatch, shape, has_bias):
    torch.manual_seed(0)
    layer, rows = Linear(24, 40, bias=has_bias), torch.randn(*shape)
    exact = [each.float() for each in results(copy.deepcopy(layer).double(), rows.double())]
    plain = results(layer, rows)
    monkeypatch.setattr(product, "MKL_IS_SLOW", True)
    called = []
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *all: called.append(1) or convolve(*all))
    for found, like, right in zip(results(layer, rows), plain, exact, strict=True):
        assert found.shape == like.shape
        scale = right.abs().max()
        assert_close(found / scale, right / scale, rtol=0, atol=1e-6)
    assert called


@pytest.mark.parametrize(("rows", "dtype"), [(127, torch.float32), (64, torch.float32), (256, torch.float64)])
def test_few_rows_and_double_precision_go_the_public_way(monkeypatch, rows, dtype):
    monkeypatch.setattr(product, "MKL_IS_SLOW", True)
    monkeypatch.setattr(torch.nn.functional, "conv2d", None)
    layer, given = Linear(3, 2).to(dtype), torch.randn(rows, 3, dtype=dtype)
    assert torch.equal(layer(given), nn.Linear.forward(layer, given))


def test_the_public_way_has_second_derivatives():
    layer = Linear(3, 2).double()
    rows = torch.randn(128, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, rows[:4])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx512_f": True, "cpu_name": "AMD EPYC 9554"}, True),
        ({"avx512_f": False, "cpu_name": "AMD EPYC 7763"}, False),
        ({"avx512_f": True, "cpu_name": "Intel(R) Xeon(R)"}, False),
        ({}, False),
    ],
)
def test_the_choice_goes_by_the_kind_of_processor(monkeypatch, found, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert product._mkl_is_slow() is expected
