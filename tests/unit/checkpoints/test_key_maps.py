import pytest
import torch

from vqgan.checkpoints.key_maps import DIFFUSERS, DISCRIMINATOR, LLAMAGEN, PERCEPTUAL, TOKENIZER
from vqgan.errors import CheckpointError
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig

with torch.device("meta"):
    NETWORKS = {
        "tokenizer": Tokenizer(
            TokenizerConfig(
                autoencoder=AutoencoderConfig(
                    image_channels=3,
                    base_channels=32,
                    channel_multipliers=(1, 2, 2),
                    num_residual_blocks=2,
                    latent_channels=8,
                    resolution=32,
                    attention_resolutions=(8, 16),
                ),
                quantizer=VectorQuantizerConfig(codebook_size=8, codebook_dim=4),
            )
        ),
        "discriminator": PatchDiscriminator(),
        "perceptual": PerceptualNetwork(),
    }


def test_numbers_are_kept_and_tensors_passed_on():
    tensor, name = torch.randn(2), "decoder.levels.3.blocks.2.shortcut.bias"
    renamed = TOKENIZER.rename({"decoder.up.3.block.2.nin_shortcut.bias": tensor}, [name, "to_codebook.bias"])
    assert list(renamed) == [name]
    assert renamed[name] is tensor


def test_running_statistics_belong_to_their_module():
    names = [f"layers.3.{leaf}" for leaf in ("running_mean", "num_batches_tracked")]
    keys = [name.replace("layers", "main") for name in names]
    assert list(DISCRIMINATOR.rename(dict.fromkeys(keys, torch.zeros(1)), names)) == names


def test_unknown_keys_are_refused_counted_and_shown():
    state = {f"odd{i}.weight": torch.zeros(1) for i in range(7)} | {"quant_conv.bias": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        TOKENIZER.rename(state, ["to_codebook.bias"])
    assert caught.value.message.startswith(
        "7 of 8 keys of the checkpoint are unknown for this kind of model: `odd0.weight`, "
    )
    assert caught.value.message.endswith("`odd4.weight`, …")
    assert "configuration" in caught.value.hint


@pytest.mark.parametrize(
    ("keys", "network"),
    [
        (TOKENIZER, "tokenizer"),
        (LLAMAGEN, "tokenizer"),
        (DIFFUSERS, "tokenizer"),
        (DISCRIMINATOR, "discriminator"),
        (PERCEPTUAL, "perceptual"),
    ],
)
def test_no_two_tensors_have_the_same_name_and_each_comes_back(keys, network):
    state = NETWORKS[network].state_dict()
    theirs = keys.published(state)
    assert len(set(theirs.values())) == len(state)
    back = keys.rename({key: state[name] for name, key in theirs.items()}, state)
    assert {name: tensor.shape for name, tensor in back.items()} == {n: t.shape for n, t in state.items()}


def test_two_names_of_a_codebook_are_not_both_taken():
    keys = ("quantize.embed.weight", "quantize.embedding.weight")
    with pytest.raises(CheckpointError, match="are two names of one tensor"):
        TOKENIZER.rename(dict.fromkeys(keys, torch.zeros(1)), ["quantizer.codebook.weight"])


def test_what_no_model_needs_is_dropped():
    state = {
        "blocks.0.attn.mask": torch.zeros(1),
        "colorize": torch.zeros(1),
        "quant_conv.bias": torch.zeros(2),
    }
    assert list(TOKENIZER.rename(state, ["to_codebook.bias"])) == ["to_codebook.bias"]
