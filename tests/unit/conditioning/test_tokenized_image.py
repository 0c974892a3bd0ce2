import copy

import pytest
import torch
from torch import nn

from examples import example
from vqgan.conditioning import TokenizedImage, TokenizedImageConfig
from vqgan.conditioning.pictures import as_pictures
from vqgan.errors import ConfigError
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig


def tokenizer_config(channels, codes):
    return TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=channels,
            base_channels=32,
            channel_multipliers=(1,),
            num_residual_blocks=1,
            latent_channels=channels,
            resolution=4,
            attention_resolutions=(),
            patch_size=2,
        ),
        quantizer=VectorQuantizerConfig(codebook_size=codes, codebook_dim=channels),
    )


def by_hand(tokenizer, codebook):
    """The code of a cell becomes the one nearest to the mean of its four pixels."""
    tokenizer.encoder = nn.AvgPool2d(2)
    with torch.no_grad():
        tokenizer.to_codebook.weight.copy_(torch.eye(len(codebook[0]))[:, :, None, None])
        tokenizer.to_codebook.bias.zero_()
        tokenizer.quantizer.codebook.weight.copy_(torch.tensor(codebook))
    return tokenizer


def depth():
    config = TokenizedImageConfig(codebook_size=3, image="depth", tokenizer=tokenizer_config(1, 3))
    conditioner = TokenizedImage(config)
    by_hand(conditioner.tokenizer, [[-1.0], [0.0], [1.0]])
    return conditioner


def segmentation():
    """Codes: all label 0, all label 1, all label 2, half 0 and half 2."""
    config = TokenizedImageConfig(codebook_size=4, image="segmentation", tokenizer=tokenizer_config(3, 4))
    conditioner = TokenizedImage(config)
    codebook = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5]]
    by_hand(conditioner.tokenizer, codebook)
    return conditioner


LABELS = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 2, 2], [2, 0, 2, 1]]])
"""Cells: four times 0; four times 1; two each of 0 and 2; three 2 and one 1."""


def test_depth_becomes_the_codes_of_its_cells():
    # The means of the cells are -0.75, 0.25, 0.9 and -0.2.
    pixels = [[-1.0, -1.0, 0.0, 0.5], [-1.0, 0.0, 0.25, 0.25], [0.9, 0.9, -0.2, -0.2], [0.9, 0.9, -0.3, -0.1]]
    found = depth().tokens({"depth": torch.tensor([[pixels]])}, 1, (2, 2))
    assert torch.equal(found, torch.tensor([[0, 1, 2, 1]]))


def test_labels_become_the_codes_of_their_shares_in_each_cell():
    assert torch.equal(
        segmentation().tokens({"segmentation": LABELS}, 1, (2, 2)), torch.tensor([[0, 1, 3, 2]])
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool])
def test_a_map_of_labels_and_one_hot_labels_are_the_same(dtype):
    one_hot = torch.nn.functional.one_hot(LABELS, 3).movedim(-1, 1).to(dtype)
    expected = segmentation().tokens({"segmentation": LABELS.to(torch.uint8)}, 1, (2, 2))
    assert torch.equal(segmentation().tokens({"segmentation": one_hot}, 1, (2, 2)), expected)


def test_one_picture_serves_all_images_or_one_each():
    conditioner = depth()
    pictures = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    assert torch.equal(conditioner.tokens({"depth": pictures}, 3, (1, 1)), torch.tensor([[0], [1], [2]]))
    assert torch.equal(conditioner.tokens({"depth": pictures[2:]}, 2, (1, 1)), torch.tensor([[2], [2]]))


def test_the_weights_of_its_own_tokenizer_are_its_own():
    assert {name.split(".")[0] for name in depth().state_dict()} == {"tokenizer"}


def test_a_shared_tokenizer_is_used_but_not_kept():
    shared = by_hand(Tokenizer(tokenizer_config(1, 3)), [[-1.0], [0.0], [1.0]])
    conditioner = TokenizedImage(TokenizedImageConfig(codebook_size=3), shared)
    found = conditioner.tokens({"image": torch.ones(1, 1, 2, 2)}, 1, (1, 1))
    assert torch.equal(found, torch.tensor([[2]]))
    assert not conditioner.state_dict()
    assert not list(conditioner.parameters())


def test_a_copy_of_the_whole_shares_the_copied_tokenizer():
    shared = by_hand(Tokenizer(tokenizer_config(1, 3)), [[-1.0], [0.0], [1.0]])
    parts = nn.ModuleList([shared, TokenizedImage(TokenizedImageConfig(codebook_size=3), shared)])
    twin = copy.deepcopy(parts)
    with torch.no_grad():
        shared.quantizer.codebook.weight.neg_()
    ones = {"image": torch.ones(1, 1, 2, 2)}
    assert int(twin[1].tokens(ones, 1, (1, 1))) == 2
    assert int(parts[1].tokens(ones, 1, (1, 1))) == 0


def test_nothing_keeps_gradients():
    pixels = torch.zeros(1, 1, 2, 2, requires_grad=True)
    assert not depth().tokens({"depth": pixels}, 1, (1, 1)).requires_grad


def test_pictures_are_encoded_within_the_memory(tmp_path):
    conditioner = TokenizedImage(example(TokenizedImageConfig, tmp_path)).eval()
    factor, channels = conditioner.tokenizer.downsample_factor, conditioner.tokenizer.image_channels
    value = {conditioner.name: torch.zeros(1, channels, 8 * factor, 6 * factor)}
    expected = conditioner.tokens(value, 1, (8, 6))
    assert torch.equal(conditioner.tokens(value, 1, (8, 6), memory=10**9), expected)
    with pytest.raises(ConfigError, match="not even row by row"):
        conditioner.tokens(value, 1, (8, 6), memory=1000)


@pytest.mark.parametrize(
    ("make", "value", "message"),
    [
        (depth, None, r"the condition `depth` is missing\nhint: give .*of the shape \(2, 1, 4, 4\)"),
        (depth, [0.5], r"`depth` has the type `list`, expected a tensor of pictures \(b 1 H W\)"),
        (depth, torch.zeros(4, 4), r"`depth` has the shape \(4, 4\)"),
        (
            depth,
            torch.zeros(1, 4, 4),
            r"`depth` is a map of torch.float32, .*\nhint: give pictures as \(b 1 H W\)",
        ),
        (depth, torch.zeros(1, 3, 4, 4), "`depth` has 3 channels, expected 1"),
        (depth, torch.zeros(1, 1, 4, 6), "`depth` has 1 pictures of 4 x 6 pixels, expected 1 or 2 of 4 x 4"),
        (depth, torch.zeros(3, 1, 4, 4), "`depth` has 3 pictures of 4 x 4 pixels, expected 1 or 2"),
        (depth, torch.full((1, 1, 4, 4), float("nan")), "`depth` holds values that are not finite"),
        (depth, torch.full((1, 1, 4, 4), 255, dtype=torch.uint8), "holds torch.uint8 that is not one-hot"),
        (segmentation, torch.ones(1, 3, 4, 4, dtype=torch.int64), "holds torch.int64 that is not one-hot"),
        (
            segmentation,
            torch.full((1, 4, 4), 3),
            "the labels of `segmentation` range from 3 to 3, expected 0 to 2",
        ),
        (segmentation, torch.full((1, 4, 4), -1), "range from -1 to -1"),
    ],
)
def test_pictures_that_do_not_fit_are_named(make, value, message):
    conditioner = make()
    with pytest.raises(ConfigError, match=message):
        conditioner.tokens({conditioner.name: value}, 2, (2, 2))


def test_a_map_as_coco_stuff_publishes_it_is_refused_with_what_it_needs():
    with pytest.raises(ConfigError, match=r"range from 0 to 255, expected 0 to 182\nhint: .* need 1 added"):
        as_pictures(torch.tensor([[[0, 255]]]), "segmentation", channels=None, labels=183)


def test_a_missing_tokenizer_is_named():
    with pytest.raises(ConfigError, match="there is no tokenizer to share\nhint: a condition that shares"):
        TokenizedImage(TokenizedImageConfig(codebook_size=3))


@pytest.mark.parametrize("is_shared", [True, False])
def test_another_number_of_codes_is_refused(is_shared):
    sizes = tokenizer_config(1, 3)
    with pytest.raises(ConfigError, match=r"`conditioner\.codebook_size` is 4, expected its tokenizer's 3"):
        TokenizedImage(
            TokenizedImageConfig(codebook_size=4, tokenizer=None if is_shared else sizes), Tokenizer(sizes)
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"image": "a b"}, "`image` is a b, expected a name"), ({"codebook_size": -1}, "`codebook_size` is -1")],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        TokenizedImageConfig(**{"codebook_size": 3, **changes})
