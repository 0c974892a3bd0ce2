"""How far layers reach, for stacks whose reach and effects are computed by hand."""

import msgspec
import numpy as np
import torch
from torch import nn

from tiny import tokenizer_config
from vqgan.evaluation.reach import pixels_that_are_moved, pixels_that_move, reach_figure, sides_with
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.receptive_field import receptive_field


def of_ones(layer):
    nn.init.ones_(layer.weight)
    return layer.double()


def test_two_convolutions_reach_five_pixels_with_the_squares_of_a_pyramid():
    stack = nn.Sequential(*(of_ones(nn.Conv2d(1, 1, 3, padding=1, bias=False)) for _ in range(2)))
    effects = pixels_that_move(stack, torch.zeros(2, 1, 9, 9, dtype=torch.float64), (4, 4))
    line = torch.tensor([1.0, 2, 3, 2, 1], dtype=torch.float64) ** 2
    expected = torch.zeros(9, 9, dtype=torch.float64)
    expected[2:7, 2:7] = line[:, None] * line
    torch.testing.assert_close(effects, expected.expand(2, 9, 9))
    # Of 19^2 parts of the effect 9^2 are in the middle, and 17^2 in three pixels a side.
    half, most, every = sides_with(effects, (4, 4), 1)
    assert 81 / 361 < 0.5 < 289 / 361 < 0.9
    assert half.tolist() == [3, 3]
    assert most.tolist() == every.tolist() == [5, 5]
    assert sides_with(effects, (4, 4), 1, [0.2, 0.8])[0].tolist() == [1, 1]
    assert sides_with(effects, (4, 4), 1, [0.2, 0.81])[1].tolist() == [5, 5]


def test_a_stride_and_what_follows_it_reach_ten_pixels():
    """A cell is four pixels; the second layer sees it and its neighbours, each of which sees one pixel more."""
    stack = nn.Sequential(
        of_ones(nn.Conv2d(1, 1, 6, stride=4, padding=1, bias=False)),
        of_ones(nn.Conv2d(1, 1, 3, padding=1, bias=False)),
    )
    effects = pixels_that_move(stack, torch.zeros(1, 1, 24, 32, dtype=torch.float64), (3, 4))
    assert sides_with(effects, (3, 4), 4, [1.0])[0].tolist() == [3 * 4 + 2]
    assert effects[0].nonzero().amin(dim=0).tolist() == [3 * 4 - 5, 4 * 4 - 5]


def test_a_code_moves_what_its_transposed_convolution_writes():
    write = of_ones(nn.ConvTranspose2d(1, 2, 4, stride=2, padding=1, bias=False))
    indices = torch.zeros(2, 5, 5, dtype=torch.int64)
    effects = pixels_that_are_moved(
        lambda codes: write(codes[:, None].double()), indices, (2, 2), torch.tensor([1, 3])
    )
    assert effects[0].unique().tolist() == [0, 2]  # one in each of two channels
    assert effects[1].unique().tolist() == [0, 18]
    assert effects[0].count_nonzero() == 16
    # Four pixels a side: half of sixteen are not in the inner four.
    assert [side.tolist() for side in sides_with(effects, (2, 2), 2)] == [[4, 4], [4, 4], [4, 4]]
    assert sides_with(effects, (2, 2), 2, [0.25])[0].tolist() == [2, 2]


def test_random_signs_give_the_squares_of_all_channels_in_the_mean():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, padding=1).double()
    images = torch.zeros(1, 2, 5, 5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda each: layer(each)[0, :, 2, 2], images)
    found = pixels_that_move(layer, images.expand(4000, 2, 5, 5), (2, 2)).mean(dim=0)
    torch.testing.assert_close(found, jacobian.square().sum(dim=(0, 1, 2)), rtol=0.1, atol=0)


def test_an_encoder_without_norms_reaches_as_far_as_its_convolutions():
    torch.manual_seed(0)
    config = tokenizer_config(patch_size=1)
    layers = msgspec.structs.replace(config.autoencoder, middle_attention=False)
    model = Tokenizer(msgspec.structs.replace(config, autoencoder=layers)).double()
    for block in list(model.modules()):
        for name, part in block.named_children():
            if isinstance(part, nn.GroupNorm):
                setattr(block, name, nn.Identity())
    side = 64
    effects = pixels_that_move(model.latents, torch.rand(1, 1, side, side, dtype=torch.float64), (32, 32))
    expected = 2 * receptive_field(layers) + 1
    assert sides_with(effects, (32, 32), 1, [1.0])[0].tolist() == [expected]
    assert expected < side


def test_the_figure_marks_the_squares():
    effects = torch.zeros(1, 6, 6)
    effects[0, 2:4, 2:4] = 1
    effects[0, 0, 0] = 0.4
    drawn = reach_figure({"encoder": effects, "decoder": effects}, (1, 1), 2)
    assert drawn.shape == (96 + 12 + 12, 2 * 100 + 4, 3)
    orange = (drawn[20:-4, 4:100] == (255, 150, 0)).all(axis=2)
    inside = np.zeros((96, 96), bool)
    inside[32:64, 32:64] = True
    inside[34:62, 34:62] = False
    np.testing.assert_array_equal(orange, inside)  # a border of two pixels, in those sixteen times as large


def test_a_square_reaches_beyond_the_image_where_its_cell_is_at_the_border():
    assert sides_with(torch.ones(1, 4, 4), (0, 0), 2, [1.0])[0].tolist() == [6]
