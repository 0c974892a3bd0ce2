"""The tokenizer: images to grids of codebook indices and back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Integer
from torch import Tensor, nn

from vqgan.config import Config
from vqgan.errors import require
from vqgan.tokenizer.autoencoder import AutoencoderConfig, Decoder, Encoder
from vqgan.tokenizer.quantizers import QuantizerConfig, VectorQuantizerConfig, build_quantizer
from vqgan.tokenizer.quantizers.base import Quantized
from vqgan.types import (
    Images,
    Indices,
    Latents,
    check_grids,
    check_images,
    check_indices,
    check_values,
    grid_size,
    height_and_width,
)


class TokenizerConfig(Config, frozen=True):
    """A whole tokenizer: the sizes of its autoencoder, and its quantizer.

    Attributes:
        autoencoder: None makes a tokenizer of pixels, without layers: each pixel is a token and the codes are colours
            of ``quantizer.codebook_dim`` channels (as in Chen et al. 2020, "Generative Pretraining from Pixels").
        quantizer: What chooses the codes.
        label_names: Of a tokenizer of label maps, a name for each label: images have a channel for each, 1 where it is
            and 0 elsewhere, and decoded ones the labels' logits. Training fills it. Empty for pictures.
    """

    autoencoder: AutoencoderConfig | None
    quantizer: QuantizerConfig
    label_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        quantizer = self.quantizer
        finds_nearest = isinstance(quantizer, VectorQuantizerConfig) and not quantizer.normalize
        require(
            self.autoencoder is not None or finds_nearest,
            "without `autoencoder` the codes are colours: expected a `quantizer` of kind `vector` without `normalize`",
            hint="describe an autoencoder, or set `quantizer.kind=vector` and `quantizer.normalize=false`",
        )
        names, channels = len(self.label_names), self.image_channels
        require(
            names in (0, channels), f"`label_names` are {names}, expected one for each of {channels} channels"
        )

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.quantizer.codebook_dim if self.autoencoder is None else self.autoencoder.image_channels

    @property
    def downsample_factor(self) -> int:
        """Pixels per token, along each side."""
        return 1 if self.autoencoder is None else self.autoencoder.downsample_factor


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
    """Encoder, quantizer and decoder; the first and the last do nothing where the codes are colours.

    Args:
        config: What to build; the weights are freshly initialised.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        sizes, width = config.autoencoder, config.quantizer.codebook_dim
        self.encoder = nn.Identity() if sizes is None else Encoder(sizes)
        self.to_codebook = nn.Identity() if sizes is None else nn.Conv2d(sizes.latent_channels, width, 1)
        self.quantizer = build_quantizer(config.quantizer)
        self.from_codebook = nn.Identity() if sizes is None else nn.Conv2d(width, sizes.latent_channels, 1)
        self.decoder = nn.Identity() if sizes is None else Decoder(sizes)
        if sizes is None:
            nn.init.zeros_(self.weight)  # the codebook: there are no colours yet

    @property
    def downsample_factor(self) -> int:
        """Pixels per token, along each side."""
        return self.config.downsample_factor

    @property
    def codebook_size(self) -> int:
        """Number of codes; with a remapped codebook that of the codes in use."""
        return self.quantizer.codebook_size

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.config.image_channels

    @property
    def weight(self) -> Tensor:
        """One of the weights, for their device and their precision."""
        return next(self.parameters())

    def grid_size(self, size: tuple[int, int] | int) -> tuple[int, int]:
        """The token grid (h, w) of images of ``size``: (H, W), or one number for a square.

        Raises:
            ConfigError: If height or width is not a multiple of ``downsample_factor``.
        """
        return grid_size(height_and_width(size), self.downsample_factor)

    def latents(self, images: Images) -> Latents:
        """What the quantizer gets: the encoder's output at the width of the codebook.

        Args:
            images: Values in [-1, 1]; height and width multiples of ``downsample_factor``. They are taken to
                the device and the precision of the weights.

        Raises:
            ConfigError: If size or channels do not fit (``tokenizer/sizes.py`` has ways to make them fit), or
                the images are not a batch of numbers in [-1, 1].
        """
        self.check(images)
        return self.to_codebook(self.encoder(images.to(self.weight)))

    def check(self, images: Images) -> None:
        """Raises ConfigError unless these are images of this tokenizer's channels, their size divisible."""
        check_images(images, self.image_channels)
        grid_size((images.shape[2], images.shape[3]), self.downsample_factor)

    def forward(self, images: Images, added: Callable[[Quantized], Latents] | None = None) -> Reconstruction:
        """Encodes, quantizes and decodes, for training; ``added`` to what is decoded. Raises as :meth:`latents`."""
        latents = self.latents(images)
        quantized = self.quantizer(latents)
        vectors = quantized.quantized if added is None else quantized.quantized + added(quantized)
        return Reconstruction(self.decode_latents(vectors), quantized, latents)

    def encode(self, images: Images) -> Indices:
        """The images as grids of codebook indices. Arguments and errors as in :meth:`latents`.

        Raises:
            ConfigError: Also if a value is not finite, or far outside [-1, 1].
        """
        latents = self.latents(images)
        check_values(images)
        return self.quantizer.encode(latents)

    def decode(self, indices: Integer[Tensor, "b h w"]) -> Images:
        """The images of grids of codebook indices of any integer type, not clamped to [-1, 1].

        Raises:
            ConfigError: If they are not a batch of grids, or an index is negative or not below ``codebook_size``.
        """
        check_grids(indices)
        indices = indices.to(self.weight.device, torch.int64)
        check_indices(indices, self.codebook_size)
        return self.decode_latents(self.quantizer.lookup(indices))

    def __repr__(self) -> str:
        """One line; ``tree()`` has every layer."""
        name, millions = type(self.quantizer).__name__, sum(p.numel() for p in self.parameters()) / 1e6
        return (
            f"Tokenizer({name}, {self.codebook_size:,} codes of width {self.quantizer.codebook_dim}, "
            f"factor {self.downsample_factor}, {self.image_channels} channels, {millions:.1f}M parameters)"
        )

    def tree(self) -> str:
        """All layers, as PyTorch prints them."""
        return super().__repr__()

    def decode_latents(self, quantized: Latents) -> Images:
        """The images of codebook vectors (b d h w), ``d = codebook_dim``, not clamped to [-1, 1]."""
        return self.decoder(self.from_codebook(quantized.to(self.weight.dtype)))
