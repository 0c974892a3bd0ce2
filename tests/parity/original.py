"""Builds our modules from recorded configurations and weights of the original, for the parity tests."""

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vqgan.checkpoints.key_maps import DISCRIMINATOR, PERCEPTUAL, TOKENIZER
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig


def tokenizer_config(params: Mapping[str, Any]) -> TokenizerConfig:
    """``model.params`` of a recorded VQModel, in our words."""
    sizes = params["ddconfig"]
    return TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=sizes["in_channels"],
            base_channels=sizes["ch"],
            channel_multipliers=tuple(sizes["ch_mult"]),
            num_residual_blocks=sizes["num_res_blocks"],
            latent_channels=sizes["z_channels"],
            resolution=sizes["resolution"],
            attention_resolutions=tuple(sizes["attn_resolutions"]),
            dropout=sizes["dropout"],
        ),
        quantizer=VectorQuantizerConfig(
            codebook_size=params["n_embed"], codebook_dim=params["embed_dim"], loss_convention="original"
        ),
    )


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries below ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def tokenizer(
    params: Mapping[str, Any], state: Mapping[str, Tensor], *, dtype: torch.dtype = torch.float32
) -> Tokenizer:
    """Our tokenizer with the recorded weights."""
    model = Tokenizer(tokenizer_config(params))
    model.load_state_dict(TOKENIZER.rename(state, model.state_dict()))
    return model.to(dtype)


def discriminator(
    state: Mapping[str, Tensor], *, num_layers: int = 3, dtype: torch.dtype = torch.float32
) -> PatchDiscriminator:
    """Our discriminator with the recorded weights."""
    width = state["main.0.weight"].shape[0]
    model = PatchDiscriminator(image_channels=3, base_channels=width, num_layers=num_layers)
    model.load_state_dict(DISCRIMINATOR.rename(state, model.state_dict()))
    return model.to(dtype)


def procedural_lpips() -> PerceptualNetwork:
    """LPIPS with weights computed from their original names, as the manifest says."""
    model = PerceptualNetwork()
    ours = model.state_dict()
    state = {}
    for name, key in PERCEPTUAL.published(ours).items():
        is_weight = not key.startswith("scaling_layer")
        state[key] = _procedural(f"perceptual_loss.{key}", ours[name].shape) if is_weight else ours[name]
    model.load_state_dict(PERCEPTUAL.rename(state, ours))
    return model


def _procedural(key: str, shape: torch.Size) -> Tensor:
    i = torch.arange(shape.numel(), dtype=torch.float64)
    scale = (2.0 / shape[1:].numel()) ** 0.5 if len(shape) > 1 else 0.1
    weight = scale * torch.sin(0.37 * i + zlib.crc32(key.encode()) % 1000)
    weight = weight.abs() if ".lin" in key else weight
    return weight.to(torch.float32).view(shape)
