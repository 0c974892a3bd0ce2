"""A denoiser of images: what it learned to see is the measure of a perceptual loss that needs no download."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.config import Config
from vqgan.errors import require
from vqgan.tokenizer import AutoencoderConfig
from vqgan.tokenizer.autoencoder import Decoder, Encoder
from vqgan.types import Images, Latents, grid_size

MIN_SPREAD = 1e-2
"""Added to deviations: of flat images they are 0."""


class DenoiserConfig(Config, frozen=True):
    """A whole denoiser.

    Attributes:
        encoder: The sizes of its convolutions, as of a tokenizer's; its decoder has the same.
    """

    encoder: AutoencoderConfig


class Denoiser(nn.Module):
    """A tokenizer's encoder and decoder without codes between them (a denoising autoencoder, Vincent et al. 2008).

    Args:
        config: What to build; the weights are freshly initialised.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.image_channels = config.encoder.image_channels
        self.encoder = Encoder(config.encoder)
        self.decoder = Decoder(config.encoder)

    def forward(self, images: Images) -> Images:
        """What noisy images most probably show; not clamped to [-1, 1]. It tells the noise's level by itself."""
        return self.decoder(self.encoder(images))

    def check_fits(self, channels: int, height: int, width: int) -> None:
        """Raises ConfigError if images of this size cannot be compared."""
        require(
            channels == self.image_channels,
            f"images of {channels} channels do not fit the denoiser, which learned {self.image_channels}",
            hint="train a denoiser of such images: set its `encoder.image_channels`",
        )
        grid_size((height, width), self.config.encoder.downsample_factor, "denoiser")

    def distance(self, images: Images, others: Images) -> Float[Tensor, " b"]:
        """How different each pair looks, 0 to 4; differentiable with respect to both.

        The squared distance of the features at each place in the mean over places and levels, nearly at unit length as
        those of LPIPS (Zhang et al. 2018). Before, channels are moved and scaled by their mean and deviation over the
        first image: what all places share would hide how they differ.

        Args:
            images: Values in [-1, 1]; height and width are multiples of the encoder's factor.
            others: What is measured, as ``images``.
        """
        pairs = list(zip(self._features(images), self._features(others), strict=True))
        total = images.new_zeros(len(images))
        for features, other in pairs:
            spread, middle = torch.std_mean(features, dim=(2, 3), keepdim=True)
            scaled = [(each - middle) / (spread + MIN_SPREAD) for each in (features, other)]
            ours, theirs = (
                each / (1 + torch.linalg.vector_norm(each, dim=1, keepdim=True)) for each in scaled
            )
            total = total + (ours - theirs).square().sum(dim=1).mean(dim=(1, 2))
        return total / len(pairs)

    def _features(self, images: Images) -> list[Latents]:
        """What the encoder's first convolution and each of its levels give."""
        maps = [self.encoder.input_conv(F.pixel_unshuffle(images, self.encoder.patch_size))]
        for level in self.encoder.levels:
            maps.append(level(maps[-1]))
        return maps
