"""Conditions that are computed from the image itself: edges, palette, low resolution."""

import pytest
import torch

from vqgan.conditioning import (
    Edges,
    EdgesConfig,
    LowResolution,
    LowResolutionConfig,
    Palette,
    PaletteConfig,
)
from vqgan.conditioning.palette import find_colours
from vqgan.errors import ConfigError
from vqgan.images import canny
from vqgan.tokenizer import Tokenizer, TokenizerConfig, VectorQuantizerConfig

EDGES = Edges(EdgesConfig())
PALETTE = Palette(PaletteConfig(colours=((0, 0, 0), (255, 0, 0), (255, 255, 255))))


def low_resolution(factor=2, codes=9):
    """Every pixel is a token; code ``i`` is the brightness -1 + i / 4."""
    tokenizer = Tokenizer(
        TokenizerConfig(
            autoencoder=None, quantizer=VectorQuantizerConfig(codebook_size=codes, codebook_dim=1)
        )
    )
    with torch.no_grad():
        tokenizer.quantizer.codebook.weight.copy_(torch.arange(codes)[:, None] / 4 - 1)
    return LowResolution(LowResolutionConfig(factor=factor, codebook_size=codes), tokenizer)


def pictures(count=2, channels=3, size=(24, 32), seed=0):
    """Random rectangles."""
    images, draw = torch.full((count, channels, *size), -0.5), torch.Generator().manual_seed(seed)
    for image in images:
        for _ in range(6):
            top, left = (int(torch.randint(0, side - 4, (), generator=draw)) for side in size)
            colour = torch.rand(channels, 1, 1, generator=draw) * 2 - 1
            image[:, top : top + 9, left : left + 12] = colour
    return images


def grids(conditioner, value, grid):
    count = len(value)
    return conditioner.tokens({conditioner.name: value}, count, grid).view(count, *grid)


def mirrored_bits(tokens, parts):
    """The tokens of mirrored cells."""
    places = torch.arange(parts**2).view(parts, parts)
    bits = tokens[..., None] >> places.flatten() & 1
    return (bits << places.flip(1).flatten()).sum(dim=-1)


def test_edges_become_the_squares_of_each_cell():
    maps = torch.zeros(1, 6, 12, dtype=torch.bool)
    maps[0, 0, 0] = maps[0, 1, 1] = True  # the first square of the first cell
    maps[0, 2, 5] = True  # row 1, column 2: bit 5
    maps[0, 5, 6] = True  # the second cell's row 2, column 0: bit 6
    expected = torch.tensor([[[1 + 32, 64]]])
    assert torch.equal(grids(EDGES, maps, (1, 2)), expected)
    for other in (maps.to(torch.uint8), maps.long(), maps.repeat_interleave(2, 1).repeat_interleave(2, 2)):
        assert torch.equal(grids(EDGES, other, (1, 2)), expected)


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("cell", [1, 2, 4, 8])
def test_every_edge_is_in_a_token_and_every_mirrored_map_has_mirrored_tokens(parts, cell):
    conditioner = Edges(EdgesConfig(parts=parts))
    maps = torch.rand(2, 3 * cell, 4 * cell, generator=torch.Generator().manual_seed(0)) < 1 / cell**2
    found = grids(conditioner, maps, (3, 4))
    is_edge = maps.view(2, 3, cell, 4, cell).any(dim=4).any(dim=2)
    assert torch.equal(found > 0, is_edge)
    assert found.max() < conditioner.config.vocabulary_size == 2**parts**2
    assert torch.equal(grids(conditioner, maps.flip(2), (3, 4)), mirrored_bits(found, parts).flip(2))


def test_pictures_have_the_tokens_of_their_edges():
    images = pictures()
    expected = canny(images, 0.1, 0.3, 0.5)
    conditioner = Edges(EdgesConfig(low=0.1, high=0.3, sigma=0.5))
    assert expected.any()
    assert torch.equal(grids(conditioner, images, (3, 4)), grids(conditioner, expected, (3, 4)))
    assert torch.equal(conditioner.from_images(images)["edges"], expected)


def test_a_cell_of_a_palette_has_the_colour_nearest_to_its_mean():
    images = torch.tensor([1.0, -1.0, -1.0])[:, None, None].repeat(1, 1, 4, 6)  # red
    images[0, :, 0:2, 2:4] = -0.9  # almost black
    images[0, 0, 2:4, 0:2] = torch.tensor([[1.0, -1.0], [-1.0, -1.0]])  # a quarter of red is nearer to black
    images[0, :, 2:4, 2:4] = 1.0
    expected = torch.tensor([[[1, 0, 1], [0, 2, 1]]])
    assert torch.equal(grids(PALETTE, images, (2, 3)), expected)
    assert torch.equal(grids(PALETTE, images.double(), (2, 3)), expected)
    assert torch.equal(grids(PALETTE, expected, (2, 3)), expected)


def test_of_several_labels_in_a_cell_the_most_frequent_counts():
    labels = torch.tensor([[[0, 2, 1, 2], [2, 1, 2, 1]]])
    assert torch.equal(grids(PALETTE, labels, (1, 2)), torch.tensor([[[2, 1]]]))


def test_a_small_copy_is_averaged_and_enlarged_in_squares():
    pixels = torch.tensor([[-1.0, 0.0, 1.0, 1.0], [-1.0, 0.0, 1.0, 1.0], [0.0, 0.5, -1.0, -0.5]])
    image = torch.cat([pixels, torch.tensor([[1.0, 0.5, -0.5, -1.0]])])[None, None]
    small = torch.tensor([[-0.5, 1.0], [0.5, -0.75]])
    codes = torch.tensor([[2, 2, 8, 8], [2, 2, 8, 8], [6, 6, 1, 1], [6, 6, 1, 1]])[None]
    conditioner = low_resolution()
    assert torch.equal(grids(conditioner, image, (4, 4)), codes)
    assert torch.equal(grids(conditioner, small[None, None], (4, 4)), codes)
    larger = image.repeat_interleave(3, 2).repeat_interleave(3, 3)
    assert torch.equal(grids(conditioner, larger, (4, 4)), codes)
    smaller = torch.tensor([[[[0.25]]]])
    assert torch.equal(grids(conditioner, smaller, (4, 4)), torch.full((1, 4, 4), 5))


def test_a_small_copy_of_sides_that_the_factor_does_not_divide_is_whole():
    image = torch.arange(7.0)[:, None].expand(7, 5) / 3 - 1
    found = grids(low_resolution(factor=4), image[None, None].contiguous(), (7, 5))
    assert torch.equal(found, torch.full((1, 7, 5), 4))


def test_a_shared_tokenizer_is_not_kept():
    assert not low_resolution().state_dict()
    with pytest.raises(ConfigError, match="there is no tokenizer to share"):
        LowResolution(LowResolutionConfig(codebook_size=9), None)
    with pytest.raises(ConfigError, match="`codebook_size` is 0, expected at least 1"):
        low_resolution(codes=0)


COMPUTED = [(EDGES, 3, 4), (PALETTE, 3, 4), (low_resolution(), 1, 1)]
"""Each conditioner, channels of its pictures and pixels for each side of a cell."""


@pytest.fixture(params=COMPUTED, ids=lambda each: each[0].name)
def case(request):
    """A conditioner, what two pictures give, and their pixels for each side of a cell."""
    conditioner, channels, cell = request.param
    value = conditioner.from_images(pictures(channels=channels))
    assert list(value) == [conditioner.name]
    return conditioner, value[conditioner.name], cell


def test_a_window_of_the_tokens_is_that_of_the_value(case):
    conditioner, value, cell = case
    grid = (24 // cell, 32 // cell)
    part = value[..., 2 * cell : 6 * cell, 4 * cell : 8 * cell]
    assert torch.equal(grids(conditioner, part, (4, 4)), grids(conditioner, value, grid)[:, 2:6, 4:8])


def test_the_tokens_of_a_mirrored_picture_are_mirrored(case):
    conditioner, _, cell = case
    grid, images = (
        (24 // cell, 32 // cell),
        pictures(channels=1 if conditioner.name == "low_resolution" else 3),
    )
    found, mirrored = grids(conditioner, images, grid), grids(conditioner, images.flip(3), grid)
    assert len(found.unique()) > 2
    expected = mirrored_bits(found, 3) if conditioner is EDGES else found
    assert torch.equal(mirrored, expected.flip(2))


def test_one_value_serves_all_images(case):
    conditioner, value, cell = case
    grid = (24 // cell, 32 // cell)
    found = conditioner.tokens({conditioner.name: value[:1]}, 3, grid)
    assert torch.equal(found, grids(conditioner, value[:1].repeat_interleave(3, 0), grid).flatten(1))


def test_colours_are_those_of_the_clusters():
    centres = torch.tensor([[20.0, 30.0, 200.0], [240.0, 10.0, 10.0], [120.0, 120.0, 120.0]])
    noise = torch.randn(300, 3, 3, generator=torch.Generator().manual_seed(0)) * 4
    points = (centres + noise).flatten(0, 1)
    found = find_colours(points, 3, torch.Generator().manual_seed(1))
    assert (torch.tensor(found) - centres[[0, 1, 2]]).abs().max() <= 1
    few = find_colours(torch.tensor([[5.0], [5.0], [9.0]]), 4, torch.Generator().manual_seed(1))
    assert few == ((5,), (9,))


def value(*shape, fill=0.0):
    return torch.full(shape, fill)


@pytest.mark.parametrize(
    ("conditioner", "given", "message"),
    [
        (EDGES, None, r"the condition `edges` is missing\nhint: give .*pictures \(b c H W\), or maps"),
        (EDGES, "street.png", "`edges` has the type `str`, expected a tensor of pictures"),
        (EDGES, value(1, 8, 8), r"`edges` is a map of torch.float32, expected labels as integers"),
        (EDGES, value(1, 8, 8).long() + 255, "the labels of `edges` range from 255 to 255, expected 0 to 1"),
        (EDGES, value(1, 3, 8, 8, fill=200.0), r"the images hold values from 200 to 200, expected \[-1, 1\]"),
        (
            EDGES,
            value(1, 3, 8, 12),
            r"`edges` has 1 pictures of 8 x 12 pixels, expected 1 or 2 with the same",
        ),
        (
            EDGES,
            value(1, 3, 9, 9),
            "pixels in each of 2 x 2 square cells\nhint: give it the size of the image",
        ),
        (EDGES, value(3, 8, 8).bool(), "`edges` has 3 pictures of 8 x 8 pixels, expected 1 or 2"),
        (EDGES, value(1, 1, 1).bool(), "`edges` has 1 pictures of 1 x 1 pixels"),
        (PALETTE, None, r"the condition `palette` is missing\nhint: give .*or labels \(b 2 2\)"),
        (PALETTE, value(1, 1, 8, 8), "`palette` has 1 channels, expected 3"),
        (PALETTE, value(1, 2, 2).long() - 1, "the labels of `palette` range from -1 to -1, expected 0 to 2"),
        (PALETTE, value(1, 3, 8, 8, fill=float("nan")), "`palette` holds values that are not finite"),
        (PALETTE, value(1, 3, 8, 6), "`palette` has 1 pictures of 8 x 6 pixels"),
        (low_resolution(), None, r"`low_resolution` is missing\nhint: give .*of the shape \(2, 1, 1, 1\)"),
        (low_resolution(), value(1, 3, 2, 2), "`low_resolution` has 3 channels, expected 1"),
        (
            low_resolution(),
            value(1, 1, 2, 3),
            "pictures of 2 x 3 pixels, expected the proportions of the image, 2 x 2\nhint: crop it; a small copy has 1 x 1",
        ),
        (
            low_resolution(),
            value(3, 1, 2, 2),
            "`low_resolution` has 3 pictures of 2 x 2 pixels, expected 1 or 2",
        ),
    ],
)
def test_values_that_do_not_fit_are_named(conditioner, given, message):
    with pytest.raises(ConfigError, match=message):
        conditioner.tokens({conditioner.name: given}, 2, (2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EdgesConfig(low=0.5), "`low` is 0.5, expected at most `high` = 0.4"),
        (lambda: EdgesConfig(parts=4), "`parts` is 4, expected 1 to 3"),
        (lambda: EdgesConfig(sigma=-1.0), "`sigma` is -1.0, expected a number of at least 0"),
        (lambda: LowResolutionConfig(factor=1), "`factor` is 1, expected at least 2"),
        (lambda: PaletteConfig(num_colours=0), "`num_colours` is 0, expected at least 1"),
        (lambda: PaletteConfig(colours=((1, 2), (3,))), "`colours` have 1 and 2 channels, expected the same"),
        (lambda: PaletteConfig(colours=((),)), "`colours` have 0 channels"),
        (lambda: PaletteConfig(colours=((0, 256),)), "`colours` holds 256, expected 0 to 255"),
        (lambda: Palette(PaletteConfig()), "there are no colours: .*\nhint: give them; training fills them"),
    ],
)
def test_impossible_configurations_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
