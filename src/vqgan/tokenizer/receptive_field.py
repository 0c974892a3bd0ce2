"""How far a tokenizer's convolutions see: the context that the codes at a crop's border need."""

import msgspec
import torch
from torch import nn

from vqgan.nn.convolution import NORM_GROUPS
from vqgan.tokenizer.autoencoder import AutoencoderConfig, Encoder


@torch.enable_grad()
def receptive_field(config: AutoencoderConfig | None) -> int:
    """How many pixels beyond its own square the convolutions that make a latent see, along each side at most.

    Measured by gradients in an encoder of these layers with random weights. Norms and attention are left out. With
    fixed statistics a norm scales each channel, which moves nothing; but in use its statistics, and what attention
    gathers, come from the whole image. So this is where the direct influence of pixels ends, not every influence:
    with so much context the codes are nearly, not exactly, those of the whole image.

    Example:
        >>> sizes = dict(image_channels=3, base_channels=32, latent_channels=8, resolution=8)
        >>> layers = dict(channel_multipliers=(1,), num_residual_blocks=1, attention_resolutions=())
        >>> receptive_field(AutoencoderConfig(**sizes, **layers))
        8
    """
    if config is None:  # pixels are tokens
        return 0
    levels, factor = len(config.channel_multipliers), config.downsample_factor
    narrow = msgspec.structs.replace(
        config,
        image_channels=1,
        base_channels=NORM_GROUPS,
        channel_multipliers=(1,) * levels,
        latent_channels=1,
        attention_resolutions=(),
        dropout=0.0,
        middle_attention=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Encoder(narrow).double().requires_grad_(False)
    for block in list(encoder.modules()):
        for name, part in block.named_children():
            if isinstance(part, nn.GroupNorm):
                setattr(block, name, nn.Identity())
    cells = 4
    while True:  # one row of cells is enough: the layers are square
        cells *= 2
        image = torch.zeros(1, 1, factor, cells * factor, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(encoder(image)[..., cells // 2].sum(), image)
        seen = gradient.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
        first, last = int(seen[0]), int(seen[-1])
        if first > 0 and last < cells * factor - 1:
            start = cells // 2 * factor
            return max(start - first, last - (start + factor - 1))
