import json

import pytest
import torch

from parity import original
from reference import store
from vqgan.checkpoints.key_maps import DISCRIMINATOR_KEYS, PERCEPTUAL_KEYS, TOKENIZER_KEYS, rename
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.lpips import LPIPS
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig

PUBLISHED = json.loads((store.ROOT / "published_keys.json").read_text())
STAGES = [
    (name, prefix)
    for name, layout in PUBLISHED.items()
    for prefix in ("", "first_stage_model.", "cond_stage_model.")
    if f"{prefix}quantize.embedding.weight" in layout
]


def described(name, prefix):
    """The recorded names and shapes below a prefix, as tensors without content."""
    return original.part(
        {key: torch.empty(shape, device="meta") for key, shape in PUBLISHED[name].items()}, prefix
    )


def shapes(state):
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def test_every_published_layout_but_the_gumbel_one_has_a_first_stage_here():
    assert len(PUBLISHED) == 13
    assert {name for name, _ in STAGES} == {name for name in PUBLISHED if "gumbel" not in name}


@pytest.mark.parametrize(("name", "prefix"), STAGES)
def test_published_first_stages_have_the_names_and_shapes_of_ours(name, prefix):
    state = {
        key: value
        for key, value in described(name, prefix).items()
        if key.startswith(("enc", "dec", "qu", "post"))
    }
    codes, width = state["quantize.embedding.weight"].shape
    config = TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=state["encoder.conv_in.weight"].shape[1],
            base_channels=128,
            channel_multipliers=(1, 1, 2, 2, 4),
            num_residual_blocks=2,
            latent_channels=256,
            resolution=256,
            attention_resolutions=(16,),
        ),
        quantizer=VectorQuantizerConfig(codebook_size=codes, codebook_dim=width),
    )
    with torch.device("meta"):
        ours = Tokenizer(config)
    assert shapes(rename(state, TOKENIZER_KEYS)) == shapes(ours.state_dict())


@pytest.mark.parametrize(
    ("name", "num_layers"),
    [("vqgan_f16_1024 (VQLPIPS n_layers=3)", 3), ("vqgan_f16_16384 (VQLPIPS n_layers=2)", 2)],
)
def test_published_losses_have_the_names_and_shapes_of_ours(name, num_layers):
    with torch.device("meta"):
        judge, perceptual = PatchDiscriminator(num_layers=num_layers), LPIPS()
    found = rename(described(name, "loss.discriminator."), DISCRIMINATOR_KEYS)
    assert shapes(found) == shapes(judge.state_dict())
    found = rename(described(name, "loss.perceptual_loss."), PERCEPTUAL_KEYS)
    assert shapes(found) == shapes(perceptual.state_dict())
