import pytest
import torch

from vqgan.conditioning import Coordinates, CoordinatesConfig
from vqgan.errors import ConfigError

CONDITIONER = Coordinates(CoordinatesConfig(num_values=8, downsample_factor=2))


def test_the_default_map_runs_over_the_whole_picture():
    # 4 x 4 pixels: value / 16; the averages of the four cells are 2.5, 4.5, 10.5 and 12.5 sixteenths.
    assert torch.equal(CONDITIONER.tokens(None, 2, (2, 2)), torch.tensor([[1, 2, 5, 6]] * 2))


def test_a_map_of_one_part_is_averaged_over_each_cell():
    pixels = torch.zeros(2, 1, 2, 4)
    pixels[1, 0] = torch.tensor([[0.0, 0.5, 1.0, 1.0], [0.5, 1.0, 1.0, 1.0]])
    found = CONDITIONER.tokens({"coordinates": pixels}, 2, (1, 2))
    assert torch.equal(found, torch.tensor([[0, 0], [4, 7]]))


def test_the_value_one_becomes_the_last_token():
    found = CONDITIONER.tokens({"coordinates": torch.ones(1, 1, 2, 2)}, 1, (1, 1))
    assert torch.equal(found, torch.tensor([[7]]))


def test_one_map_serves_all_images():
    found = CONDITIONER.tokens({"coordinates": torch.full((1, 1, 2, 2), 0.5)}, 3, (1, 1))
    assert torch.equal(found, torch.tensor([[4], [4], [4]]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0.5], "`coordinates` is of type `list`, expected a tensor"),
        (torch.zeros(1, 1, 4, 2), r"has the shape \(1, 1, 4, 2\), expected \(1, 1, 4, 4\) or \(3, 1, 4, 4\)"),
        (torch.zeros(2, 1, 4, 4), "has the shape"),
        (torch.zeros(4, 4), "has the shape"),
        (torch.full((1, 1, 4, 4), 1.5), "leaves the range, expected 0 <= value <= 1"),
        (torch.full((1, 1, 4, 4), float("nan")), "leaves the range"),
    ],
)
def test_maps_that_do_not_fit_are_named(value, message):
    with pytest.raises(ConfigError, match=message):
        CONDITIONER.tokens({"coordinates": value}, 3, (2, 2))


@pytest.mark.parametrize("name", ["num_values", "downsample_factor"])
def test_impossible_configurations_are_refused(name):
    with pytest.raises(ConfigError, match=f"`{name}` is 0"):
        CoordinatesConfig(**{"num_values": 8, "downsample_factor": 2, name: 0})
