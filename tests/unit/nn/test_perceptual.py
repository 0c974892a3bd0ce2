import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vqgan.errors import ConfigError
from vqgan.nn.perceptual import PerceptualNetwork


@pytest.fixture(scope="module")
def lpips():
    torch.manual_seed(0)
    network = PerceptualNetwork()
    state = {
        key: value
        if key in ("shift", "scale")
        else torch.randn(value.shape) * (2 / max(1, value[0].numel())) ** 0.5
        for key, value in network.state_dict().items()
    }
    state |= {key: value.abs() for key, value in state.items() if key.startswith("heads")}
    network.load_state_dict(state)
    return network


def test_it_stays_frozen_and_in_evaluation_mode_inside_a_model_that_trains(lpips):
    model = nn.ModuleDict({"perceptual": lpips}).train()
    assert model.training
    assert not any(module.training for module in lpips.modules())
    assert not any(parameter.requires_grad for parameter in lpips.parameters())


def test_weights_that_were_never_loaded_show_at_once():
    images = torch.zeros(1, 3, 16, 16)
    assert PerceptualNetwork()(images, images).isnan().all()


def test_a_missing_weight_is_refused(lpips):
    state = lpips.state_dict()
    state.pop("heads.3.weight")
    with pytest.raises(RuntimeError, match=r"heads\.3\.weight"):
        PerceptualNetwork().load_state_dict(state)


def test_equal_images_have_distance_zero_and_others_more(lpips):
    images = torch.rand(2, 3, 32, 16) * 2 - 1
    distances = lpips(images, torch.stack([images[0], -images[1]]))
    assert distances[0] == 0
    assert distances[1] > 0


def test_distance_is_symmetric_and_counts_each_image_for_itself(lpips):
    first, second = torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 3, 16, 16) * 2 - 1
    assert_close(lpips(first, second), lpips(second, first))
    assert_close(lpips(first, second)[1:], lpips(first[1:], second[1:]))


def test_gradient_reaches_both_images(lpips):
    first = (torch.rand(1, 3, 16, 16) * 2 - 1).requires_grad_()
    second = (torch.rand(1, 3, 16, 16) * 2 - 1).requires_grad_()
    lpips(first, second).sum().backward()
    assert first.grad.abs().sum() > 0
    assert second.grad.abs().sum() > 0


def test_grey_images_count_as_colour_images_of_three_equal_channels(lpips):
    first, second = torch.rand(1, 1, 16, 16) * 2 - 1, torch.rand(1, 1, 16, 16) * 2 - 1
    assert_close(lpips(first, second), lpips(first.expand(-1, 3, -1, -1), second.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (1, 3, 15, 16)])
def test_images_that_do_not_fit_are_refused(lpips, shape):
    with pytest.raises(ConfigError, match="do not fit the perceptual loss") as caught:
        lpips(torch.zeros(shape), torch.zeros(shape))
    assert caught.value.hint.startswith("it needs 16 pixels a side, 1 or 3 channels")
