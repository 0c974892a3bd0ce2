"""The table row of a large picture, on pictures whose answers are known."""

import pytest
import torch
from torch import Tensor

from vqgan.errors import ConfigError
from vqgan.evaluation.texture_numbers import texture_numbers


def noise(seed: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(3, height, width, generator=generator) - 0.5) * 0.5


def features(images: Tensor) -> Tensor:
    return torch.cat([images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)


def test_a_picture_of_the_same_kind_is_near_and_another_is_far():
    real, training = [noise(1, 64, 32)], [noise(2, 64, 64)]
    alike = texture_numbers(noise(3, 96, 96), real, training, features, period=16, size=16, rings=3)
    other = texture_numbers(noise(3, 96, 96) * 0.3 + 0.4, real, training, features, period=16, size=16)
    assert abs(alike["seam_rows"] - 1) < 5 * alike["seam_rows_error"]
    assert alike["repetition"] < 0.2
    assert 20 < alike["nearest_least"] <= alike["nearest"] < 80  # two independent noises of variance 1/48
    for name in ("frechet", "frechet_ring_0", "frechet_ring_2", "spectrum_db", "colour"):
        assert alike[name] < other[name] / 4, name


def test_what_is_copied_or_broken_shows():
    training = [noise(2, 96, 96)]
    copied = training[0].clone()
    copied[:, ::16] = 1
    numbers = texture_numbers(training[0], [noise(1, 64, 32)], training, features, size=16)
    assert numbers["nearest"] == 0
    assert "seam_rows" not in numbers
    numbers = texture_numbers(copied, [noise(1, 64, 32)], training, features, period=16, size=16)
    assert numbers["seam_rows"] > 3
    assert numbers["seam_columns"] < 1.1
    third = noise(5, 96, 32)
    thrice = torch.cat([third, third, third], dim=2)
    numbers = texture_numbers(thrice, [noise(1, 64, 32)], training, features, size=16)
    assert numbers["repetition"] > 0.99
    assert numbers["repetition_columns"] == 32


def test_a_picture_that_is_too_small_for_its_rings_is_refused():
    with pytest.raises(ConfigError, match="3 rings of patches of 16 pixels do not fit"):
        texture_numbers(noise(3, 64, 64), [noise(1, 64, 32)], [noise(2, 64, 64)], features, size=16, rings=3)
