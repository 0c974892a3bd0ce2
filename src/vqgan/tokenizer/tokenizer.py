"""The tokenizer: images to grids of codebook indices and back."""

from dataclasses import dataclass

import torch
from jaxtyping import Integer
from torch import Tensor, nn

from vqgan.config import Config, require
from vqgan.errors import ConfigError
from vqgan.tokenizer.decoder import Decoder
from vqgan.tokenizer.encoder import AutoencoderConfig, Encoder
from vqgan.tokenizer.quantizers import QuantizerConfig, build_quantizer
from vqgan.tokenizer.quantizers.base import Quantized
from vqgan.tokenizer.sizes import grid_size
from vqgan.types import Images, Indices, Latents


class TokenizerConfig(Config, frozen=True):
    """A whole tokenizer: the sizes of its autoencoder, and its quantizer."""

    autoencoder: AutoencoderConfig
    quantizer: QuantizerConfig


@dataclass(frozen=True)
class Reconstruction:
    """The result of a tokenizer's forward pass.

    Attributes:
        images: The reconstructed images, not clamped to [-1, 1].
        quantized: Vectors, indices and the quantizer's loss.
        latents: What was quantized.
    """

    images: Images
    quantized: Quantized
    latents: Latents


class Tokenizer(nn.Module):
    """Encoder, quantizer and decoder.

    Args:
        config: What to build; the weights are freshly initialised.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        width, codebook_dim = config.autoencoder.latent_channels, config.quantizer.codebook_dim
        self.encoder = Encoder(config.autoencoder)
        self.to_codebook = nn.Conv2d(width, codebook_dim, 1)
        self.quantizer = build_quantizer(config.quantizer)
        self.from_codebook = nn.Conv2d(codebook_dim, width, 1)
        self.decoder = Decoder(config.autoencoder)

    @property
    def downsample_factor(self) -> int:
        """Pixels per token, along each side."""
        return self.config.autoencoder.downsample_factor

    @property
    def codebook_size(self) -> int:
        """Number of codes; with a remapped codebook that of the codes in use."""
        return self.quantizer.codebook_size

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.config.autoencoder.image_channels

    def grid_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The token grid (h, w) of images of ``size`` (H, W).

        Raises:
            ConfigError: If height or width is not a multiple of ``downsample_factor``.
        """
        return grid_size(size, self.downsample_factor)

    def latents(self, images: Images) -> Latents:
        """What the quantizer gets: the encoder's output at the width of the codebook.

        Args:
            images: Values in [-1, 1]; height and width multiples of ``downsample_factor``. They are taken to
                the device and the precision of the weights.

        Raises:
            ConfigError: If size or channels do not fit (``tokenizer/sizes.py`` has ways to make them fit), or
                the images are not a batch of numbers in [-1, 1].
        """
        check_images(images, self.image_channels)
        self.grid_size((images.shape[2], images.shape[3]))
        return self.to_codebook(self.encoder(images.to(self.to_codebook.weight)))

    def forward(self, images: Images) -> Reconstruction:
        """Encodes, quantizes and decodes, for training. Raises as :meth:`latents`."""
        latents = self.latents(images)
        quantized = self.quantizer(latents)
        return Reconstruction(self.decode_latents(quantized.quantized), quantized, latents)

    def encode(self, images: Images) -> Indices:
        """The images as grids of codebook indices. Arguments and errors as in :meth:`latents`."""
        return self.quantizer.encode(self.latents(images))

    def decode(self, indices: Integer[Tensor, "b h w"]) -> Images:
        """The images of grids of codebook indices of any integer type, not clamped to [-1, 1].

        Raises:
            ConfigError: If an index is negative or not below ``codebook_size``.
        """
        indices = indices.to(self.from_codebook.weight.device, torch.int64)
        check_indices(indices, self.codebook_size)
        return self.decode_latents(self.quantizer.lookup(indices))

    def decode_latents(self, quantized: Latents) -> Images:
        """The images of codebook vectors (b d h w), ``d = codebook_dim``, not clamped to [-1, 1]."""
        return self.decoder(self.from_codebook(quantized.to(self.from_codebook.weight.dtype)))


def check_indices(indices: Integer[Tensor, "b h w"], codebook_size: int) -> None:
    """Raises ConfigError unless all are codes: ``0 <= index < codebook_size``."""
    if not indices.numel():
        return
    low, high = (int(bound) for bound in indices.aminmax())
    if low < 0 or high >= codebook_size:
        raise ConfigError(
            f"indices reach from {low} to {high}; the codebook has 0 to {codebook_size - 1}",
            hint="decode with the tokenizer that encoded them",
        )


def check_images(images: Tensor, channels: int) -> None:
    """Raises ConfigError unless these are images as the tokenizer takes them: (b c H W), floating point.

    Example:
        >>> check_images(torch.zeros(1, 3, 8, 8), 3)
        >>> check_images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 3)
        Traceback (most recent call last):
            ...
        vqgan.errors.ConfigError: the images hold torch.uint8, expected floating-point values in [-1, 1]
        hint: `vqgan.read_images` gives such images
    """
    hint = "`vqgan.read_images` gives such images"
    require(images.ndim == 4, f"the images have {images.ndim} dimensions, expected 4 (b c H W)", hint=hint)
    require(
        images.is_floating_point(),
        f"the images hold {images.dtype}, expected floating-point values in [-1, 1]",
        hint=hint,
    )
    require(
        images.shape[1] == channels,
        f"the images have {images.shape[1]} channels; the tokenizer was built for {channels}",
        hint="convert the images, or use a tokenizer that was trained on such images",
    )
