import numpy as np
import pytest
import torch

from vqgan.config import from_mapping
from vqgan.data.transforms import TransformConfig, cut_out, draw_cut, transform
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


def numbered(rows: int, columns: int) -> np.ndarray:
    """An image whose pixels all differ."""
    number = np.arange(rows * columns, dtype=np.uint16).reshape(rows, columns)
    return np.stack([number % 256, number // 256, 0 * number], axis=2).astype(np.uint8)


def surrounded(how: TransformConfig, pixels: np.ndarray, seed: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    """A crop without its context, and where it was found in the image, which is mirrored as the crop is."""
    cut = draw_cut((pixels.shape[0], pixels.shape[1]), how, chance(seed))
    image, (row, column) = cut_out(pixels, how, cut), cut.corner
    assert image.shape[1:] == how.window()
    crop = image[:, row : row + how.image_size[0], column : column + how.image_size[1]]
    whole = to_float(pixels[:, ::-1] if cut.flip else pixels)
    top, left = map(int, cut.start)
    assert (top, left) == cut.start
    assert torch.equal(crop, whole[:, top : top + how.image_size[0], left : left + how.image_size[1]])
    shown = whole[:, top - row :, left - column :][:, : image.shape[1], : image.shape[2]]
    assert torch.equal(image, shown)
    return crop, (*cut.corner, top, left)


@pytest.mark.parametrize("flip", [False, True])
def test_crops_reach_every_border_and_have_context_on_each_side_where_there_is_image(flip: bool) -> None:
    how = config(resize=None, context=2, flip=flip)
    found = [surrounded(how, numbered(12, 15), seed)[1] for seed in range(400)]
    above, beside, top, left = map(np.array, zip(*found, strict=True))
    assert set(top) == set(range(9)) - {1, 7}  # a whole context, or none
    assert set(left) == set(range(10)) - {1, 8}
    assert np.array_equal(above, np.select([top == 0, top == 8], [0, 4], 2))
    assert np.array_equal(beside, np.select([left == 0, left == 9], [0, 4], 2))


def test_without_chance_the_crop_is_the_centre_with_context_on_all_sides() -> None:
    how = config(resize=None, context=3, flip=True).without_chance()
    assert surrounded(how, numbered(20, 30), 0)[1] == (3, 3, 8, 12)


def test_an_image_too_small_for_crop_and_context_is_enlarged() -> None:
    """Six columns and context of three on both sides of an image of 6: all of it is shown, twice as large."""
    how = config(resize=None, context=3)
    cuts = [draw_cut((5, 6), how, chance(seed)) for seed in range(50)]
    assert {cut.scale for cut in cuts} == {2.0}
    assert {cut.start[1] for cut in cuts} == {0.0, 3.0, 6.0}
    assert {cut.coordinates((4, 6)).shape for cut in cuts} == {(1, 4, 6)}


def raster(rows: int, columns: int) -> torch.Tensor:
    return torch.arange(rows * columns).view(1, rows, columns) / (rows * columns)


@pytest.mark.parametrize("context", [0, 2])
def test_coordinates_are_those_of_the_crop_in_the_whole_raster(context: int) -> None:
    how = config(resize=None, context=context, flip=True)
    for seed in range(40):
        top, left = surrounded(how, numbered(12, 15), seed)[1][2:]
        found = draw_cut((12, 15), how, chance(seed)).coordinates((4, 6))
        assert torch.equal(found, raster(12, 15)[:, top : top + 4, left : left + 6])


@pytest.mark.parametrize("shape", [(4, 6), (8, 12), (14, 21)])
def test_coordinates_of_a_whole_picture_are_its_own_raster(shape: tuple[int, int]) -> None:
    cuts = [draw_cut(shape, config(flip=True), chance(seed)) for seed in range(5)]
    assert all(torch.equal(cut.coordinates((4, 6)), raster(4, 6)) for cut in cuts)


def test_coordinates_follow_the_picture_where_it_is_resized() -> None:
    """The lower right quarter of a picture, whatever its own size."""
    for shape in ((40, 60), (13, 19)):
        how = config(resize=8)
        cut = next(cut for seed in range(1000) if min((cut := draw_cut(shape, how, chance(seed))).at) > 0.95)
        whole = cut.whole
        corner = (cut.start[0] * whole[1] + cut.start[1]) / (whole[0] * whole[1])
        assert whole[0] == pytest.approx(8)
        assert cut.coordinates((4, 6))[0, 0, 0].item() == pytest.approx(corner)
        assert 0.95 < cut.coordinates((4, 6))[0, -1, -1].item() < 1


def test_an_impossible_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="`context` is -1, expected at least 0"):
        config(context=-1)
