import numpy as np
import pytest
import torch

from vqgan.config import from_mapping
from vqgan.data.transforms import TransformConfig, transform
from vqgan.errors import ConfigError
from vqgan.images import to_float


def config(**changes) -> TransformConfig:
    return TransformConfig(
        **{"image_size": (4, 6), "image_channels": 3, "crop": "random", "flip": False} | changes
    )


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def noise(*shape: int) -> np.ndarray:
    return chance().integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("crop", ["random", "center"])
def test_an_image_of_the_wanted_size_keeps_its_exact_pixels(crop: str) -> None:
    pixels = noise(4, 6, 3)
    assert torch.equal(transform(pixels, config(crop=crop), chance()), to_float(pixels))


def test_a_flip_mirrors_half_of_the_images_and_nothing_else() -> None:
    pixels = noise(4, 6, 3)
    plain, mirrored = to_float(pixels), to_float(pixels).flip(2)
    results = [transform(pixels, config(flip=True), chance(seed)) for seed in range(200)]
    count = sum(torch.equal(result, mirrored) for result in results)
    assert count + sum(torch.equal(result, plain) for result in results) == 200
    assert 70 < count < 130


def test_random_crops_reach_every_place_and_centre_crops_one() -> None:
    pixels = noise(4, 9, 3)
    places = {float(transform(pixels, config(), chance(seed))[0, 0, 0]) for seed in range(60)}
    assert places == {float(value) for value in to_float(pixels)[0, 0, :4]}
    centred = transform(pixels, config(crop="center"), chance())
    assert torch.equal(centred, to_float(pixels[:, 1:7]))


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (3, 2), (1, 1)])
@pytest.mark.parametrize(("have", "want"), [(1, 3), (3, 1), (1, 1), (3, 3)])
def test_every_image_becomes_the_wanted_size_and_channels(
    shape: tuple[int, int], have: int, want: int
) -> None:
    result = transform(noise(*shape, have), config(image_channels=want), chance())
    assert result.shape == (want, 4, 6)
    assert result.dtype == torch.float32
    assert float(result.abs().max()) <= 1
    if (have, want) == (1, 3):
        assert torch.equal(result[0], result[2])


def test_the_generator_alone_decides() -> None:
    pixels = noise(40, 60, 3)
    first, again, other = (transform(pixels, config(flip=True), chance(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_impossible_sizes_are_refused_with_their_place() -> None:
    values = {"image_size": [0, 6], "image_channels": 3, "crop": "random", "flip": False}
    with pytest.raises(ConfigError, match="`image_size` is"):
        from_mapping(values, TransformConfig)
    with pytest.raises(ConfigError, match="`image_channels` is 0, expected at least 1"):
        from_mapping(values | {"image_size": [4, 6], "image_channels": 0}, TransformConfig)


def ramp(rows: int, columns: int) -> np.ndarray:
    """An image whose value says the column: how far apart two pixels are tells the scale."""
    return np.tile(np.linspace(0, 255, columns).round().astype(np.uint8)[:, None], (rows, 1, 3))


@pytest.mark.parametrize(
    ("resize", "share"), [("cover", 0.75), (4, 0.75), (12, 0.25), (60, 0.05), (None, 0.05), (2, 0.75)]
)
def test_crops_are_as_large_as_the_image_before_them_says(resize: object, share: float) -> None:
    """Of an image of 60 x 120 whose shorter side becomes 12, six columns are a quarter."""
    crops = [transform(ramp(60, 120), config(resize=resize), chance(seed)) for seed in range(20)]
    widths = [float(crop[0, 0, -1] - crop[0, 0, 0]) / 2 * 6 / 5 for crop in crops]
    assert widths == pytest.approx([share] * 20, abs=0.03)


def test_crops_at_the_image_s_own_size_keep_its_exact_pixels() -> None:
    pixels = noise(20, 30, 3)
    crop = transform(pixels, config(resize=None, crop="center"), chance())
    assert torch.equal(crop, to_float(pixels[8:12, 12:18]))


def test_a_range_of_lengths_is_drawn_from_and_looked_at_in_its_middle() -> None:
    drawn = config(resize=(12, 60))
    widths = {float(crop[0, 0, -1] - crop[0, 0, 0]) for crop in crops_of(drawn)}
    assert min(widths) < 0.16
    assert max(widths) > 0.38
    assert drawn.without_chance() == config(resize=36, crop="center")
    assert len({crop.sum().item() for crop in crops_of(drawn.without_chance())}) == 1


def crops_of(how: TransformConfig) -> list[torch.Tensor]:
    return [transform(ramp(60, 120), how, chance(seed)) for seed in range(60)]


@pytest.mark.parametrize("resize", [0, (4, 2), (0, 3)])
def test_impossible_lengths_are_refused(resize: object) -> None:
    with pytest.raises(ConfigError, match="`resize` is"):
        config(resize=resize)
