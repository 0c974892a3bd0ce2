import pytest

from vqgan.errors import ConfigError
from vqgan.nn.convolution import SpatialAttention
from vqgan.tokenizer import AutoencoderConfig
from vqgan.tokenizer.autoencoder import Encoder

SIZES = {
    "image_channels": 3,
    "base_channels": 32,
    "channel_multipliers": (1, 2),
    "num_residual_blocks": 1,
    "latent_channels": 8,
    "resolution": 16,
    "attention_resolutions": (8,),
}


@pytest.mark.parametrize(
    ("patch_size", "side", "levels"), [(1, 16, [0]), (1, 8, [1]), (2, 8, [0]), (2, 4, [1])]
)
def test_attention_stands_at_the_levels_of_the_named_resolution(patch_size, side, levels):
    encoder = Encoder(AutoencoderConfig(**{**SIZES, "attention_resolutions": (side,)}, patch_size=patch_size))
    found = [i for i, level in enumerate(encoder.levels) if isinstance(level.attentions[0], SpatialAttention)]
    assert found == levels


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("base_channels", 48, "`base_channels` is 48, expected a multiple of 32"),
        ("num_residual_blocks", 10**9, "`num_residual_blocks` is 1000000000, expected at most 64"),
        ("channel_multipliers", (1,) * 17, "`channel_multipliers` names 17 levels, expected at most 16"),
        ("channel_multipliers", (), "`channel_multipliers` is empty"),
        ("channel_multipliers", (1, 0), "a level is 0 channels wide"),
        ("num_residual_blocks", 0, "`num_residual_blocks` is 0, expected at least 1"),
        ("patch_size", 0, "`patch_size` is 0, expected at least 1"),
        ("dropout", 1.0, "`dropout` is 1.0"),
        ("resolution", 15, "`resolution` is 15, expected a multiple of 2"),
        ("attention_resolutions", (4,), "`attention_resolutions` names 4, which no level has"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(field, value, message):
    with pytest.raises(ConfigError) as caught:
        AutoencoderConfig(**{**SIZES, field: value})
    assert message in caught.value.message


def test_the_first_width_counts_too_where_every_level_is_wider():
    with pytest.raises(ConfigError, match="`base_channels` is 16, expected a multiple of 32"):
        AutoencoderConfig(**{**SIZES, "base_channels": 16, "channel_multipliers": (2, 2)})


def test_the_hint_for_attention_names_the_resolutions_there_are():
    with pytest.raises(ConfigError) as caught:
        AutoencoderConfig(**{**SIZES, "attention_resolutions": (4,)})
    assert caught.value.hint == "the levels have 16, 8"
