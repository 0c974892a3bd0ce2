"""latent-diffusion's vector-quantized first stages have the names of the original's, in other sizes."""

import pytest
import torch

from vqgan.checkpoints.key_maps import TOKENIZER
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig

SIZES = {
    "vq-f4": {"multipliers": (1, 2, 4), "z": 3, "codes": 8192, "attended": ()},
    "vq-f8": {"multipliers": (1, 2, 2, 4), "z": 4, "codes": 16384, "attended": (32,)},
    "vq-f16": {"multipliers": (1, 1, 2, 2, 4), "z": 8, "codes": 16384, "attended": (16,)},
}
"""Width of codes and latents is the same; 256 pixels, 128 channels, 2 blocks everywhere."""


def conv(name, before, after, kernel=3):
    return {f"{name}.weight": (after, before, kernel, kernel), f"{name}.bias": (after,)}


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def block(name, before, after):
    names = norm(f"{name}.norm1", before) | conv(f"{name}.conv1", before, after)
    names |= norm(f"{name}.norm2", after) | conv(f"{name}.conv2", after, after)
    return names | (conv(f"{name}.nin_shortcut", before, after, 1) if before != after else {})


def attention(name, width):
    names = norm(f"{name}.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        names |= conv(f"{name}.{part}", width, width, 1)
    return names


def middle(half, width):
    return (
        block(f"{half}.mid.block_1", width, width)
        | attention(f"{half}.mid.attn_1", width)
        | block(f"{half}.mid.block_2", width, width)
    )


def levels(half, order, widths, before, blocks, attended, resample, last):
    names = {}
    for level in order:
        for index in range(blocks):
            names |= block(f"{half}.{level}.block.{index}", before, widths[level])
            before = widths[level]
            if 256 >> level in attended:
                names |= attention(f"{half}.{level}.attn.{index}", before)
        if level != last:
            names |= conv(f"{half}.{level}.{resample}.conv", before, before)
    return names


def published(*, multipliers, z, codes, attended):
    """Name to shape, as its configuration and its modules give them."""
    widths = [128 * each for each in multipliers]
    order, lowest = range(len(widths)), widths[-1]
    return (
        conv("encoder.conv_in", 3, 128)
        | levels("encoder.down", order, widths, 128, 2, attended, "downsample", order[-1])
        | middle("encoder", lowest)
        | norm("encoder.norm_out", lowest)
        | conv("encoder.conv_out", lowest, z)
        | conv("decoder.conv_in", z, lowest)
        | middle("decoder", lowest)
        | levels("decoder.up", order[::-1], widths, lowest, 3, attended, "upsample", 0)
        | norm("decoder.norm_out", 128)
        | conv("decoder.conv_out", 128, 3)
        | {"quantize.embedding.weight": (codes, z)}
        | conv("quant_conv", z, z, 1)
        | conv("post_quant_conv", z, z, 1)
    )


@pytest.mark.parametrize("name", SIZES)
def test_every_tensor_of_latent_diffusion_has_its_place_and_no_place_stays_empty(name):
    sizes = SIZES[name]
    state = {key: torch.empty(shape, device="meta") for key, shape in published(**sizes).items()}
    config = TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=3,
            base_channels=128,
            channel_multipliers=sizes["multipliers"],
            num_residual_blocks=2,
            latent_channels=sizes["z"],
            resolution=256,
            attention_resolutions=sizes["attended"],
        ),
        quantizer=VectorQuantizerConfig(codebook_size=sizes["codes"], codebook_dim=sizes["z"]),
    )
    with torch.device("meta"):
        wanted = Tokenizer(config).state_dict()
    found = TOKENIZER.rename(state, wanted)
    assert len(found) == len(state)
    assert {key: t.shape for key, t in found.items()} == {key: t.shape for key, t in wanted.items()}
