"""The convolutional autoencoder: images to latents, and latents back to images."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.config import Config, Count, Probability
from vqgan.errors import require
from vqgan.nn.convolution import NORM_GROUPS, Downsample, GroupNorm, Level, Upsample, middle
from vqgan.types import Images, Latents

MAX_BLOCKS, MAX_LEVELS = 64, 16
"""More would only be built from a damaged or hostile file, and take all memory."""


class AutoencoderConfig(Config, frozen=True):
    """The sizes of encoder and decoder.

    Attributes:
        image_channels: Channels of the images, 3 for colour.
        base_channels: Width at the first level, before its multiplier.
        channel_multipliers: Width of each level in units of ``base_channels``; one level more halves the
            grid.
        num_residual_blocks: Blocks per level of the encoder; the decoder has one more.
        latent_channels: Width of the encoder's output and the decoder's input.
        resolution: Side of the square image that ``attention_resolutions`` refer to; other sizes work
            too.
        attention_resolutions: Sides of feature maps, at ``resolution``, whose levels get attention.
        dropout: Dropout inside the residual blocks.
        patch_size: Side of the pixel patches that the first convolution sees as one position. Much cheaper
            than levels at full resolution; published models have 1.
        middle_attention: Whether attention stands between the two blocks at the lowest resolution.
    """

    image_channels: Count
    base_channels: Count
    channel_multipliers: tuple[int, ...]
    num_residual_blocks: Count
    latent_channels: Count
    resolution: int
    attention_resolutions: tuple[int, ...]
    dropout: Probability = 0.0
    patch_size: Count = 1
    middle_attention: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        blocks, levels = self.num_residual_blocks, len(self.channel_multipliers)
        require(blocks <= MAX_BLOCKS, f"`num_residual_blocks` is {blocks}, expected at most {MAX_BLOCKS}")
        require(
            levels <= MAX_LEVELS,
            f"`channel_multipliers` names {levels} levels, expected at most {MAX_LEVELS}",
        )
        require(
            self.base_channels % NORM_GROUPS == 0,
            f"`base_channels` is {self.base_channels}, expected a multiple of {NORM_GROUPS}",
        )
        require(len(self.channel_multipliers) >= 1, "`channel_multipliers` is empty, expected one per level")
        for multiplier in self.channel_multipliers:
            width = self.base_channels * multiplier
            require(
                width >= 1 and width % NORM_GROUPS == 0,
                f"a level is {width} channels wide, expected a positive multiple of {NORM_GROUPS}",
                hint="choose `base_channels` so that its product with each of `channel_multipliers` is one",
            )
        require(
            self.resolution >= 1 and self.resolution % self.downsample_factor == 0,
            f"`resolution` is {self.resolution}, expected a multiple of {self.downsample_factor}",
        )
        reached = [self.level_resolution(level) for level in range(len(self.channel_multipliers))]
        for side in self.attention_resolutions:
            require(
                side in reached,
                f"`attention_resolutions` names {side}, which no level has",
                hint=f"the levels have {', '.join(map(str, reached))}",
            )

    @property
    def downsample_factor(self) -> int:
        """Pixels per latent, along each side."""
        return self.patch_size * 2 ** (len(self.channel_multipliers) - 1)

    def level_width(self, level: int) -> int:
        """Channels at ``level``; level 0 has the highest resolution."""
        return self.base_channels * self.channel_multipliers[level]

    def level_resolution(self, level: int) -> int:
        """Side of the feature map at ``level`` for images of ``resolution``."""
        return self.resolution // (self.patch_size * 2**level)

    def has_attention(self, level: int) -> bool:
        """Whether the blocks of ``level`` are followed by attention."""
        return self.level_resolution(level) in self.attention_resolutions


class Encoder(nn.Module):
    """Halves the resolution level by level, then (by default) attends over the whole grid.

    Args:
        config: The sizes; height and width of the images must be multiples of its ``downsample_factor``.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        num_levels = len(config.channel_multipliers)
        width = config.base_channels
        self.input_conv = nn.Conv2d(config.image_channels * config.patch_size**2, width, 3, padding=1)
        self.levels = nn.ModuleList()
        for level in range(num_levels):
            before, width = width, config.level_width(level)
            self.levels.append(
                Level(
                    in_channels=before,
                    out_channels=width,
                    num_blocks=config.num_residual_blocks,
                    attention=config.has_attention(level),
                    dropout=config.dropout,
                    resample=Downsample(channels=width) if level < num_levels - 1 else nn.Identity(),
                )
            )
        self.middle = middle(channels=width, dropout=config.dropout, attention=config.middle_attention)
        self.output_norm = GroupNorm(width)
        self.output_conv = nn.Conv2d(width, config.latent_channels, 3, padding=1)

    def forward(self, images: Images) -> Latents:
        """From images (b c H W) in [-1, 1] to (b d h w) with ``d = latent_channels``."""
        hidden = self.input_conv(F.pixel_unshuffle(images, self.patch_size))
        for level in self.levels:
            hidden = level(hidden)
        return self.output_conv(F.silu(self.output_norm(self.middle(hidden))))


class Decoder(nn.Module):
    """Attends (by default) over the whole grid, then doubles the resolution level by level.

    ``levels[0]`` has the highest resolution, as in the encoder: the decoder runs through them backwards. Each
    has one residual block more than the encoder's.

    Args:
        config: The sizes, the same as the encoder's.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        last = len(config.channel_multipliers) - 1
        width = config.level_width(last)
        self.input_conv = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.middle = middle(channels=width, dropout=config.dropout, attention=config.middle_attention)
        self.levels = nn.ModuleList(
            Level(
                in_channels=config.level_width(min(level + 1, last)),
                out_channels=config.level_width(level),
                num_blocks=config.num_residual_blocks + 1,
                attention=config.has_attention(level),
                dropout=config.dropout,
                resample=Upsample(channels=config.level_width(level)) if level > 0 else nn.Identity(),
            )
            for level in range(last + 1)
        )
        width = config.level_width(0)
        self.output_norm = GroupNorm(width)
        self.output_conv = nn.Conv2d(width, config.image_channels * config.patch_size**2, 3, padding=1)

    @property
    def last_weight(self) -> Tensor:
        """The weight of the last convolution, on which the adversarial loss is balanced."""
        return self.output_conv.weight

    def forward(self, latents: Latents) -> Images:
        """From (b d h w) with ``d = latent_channels`` to images, not clamped to [-1, 1]."""
        return F.pixel_shuffle(self.output_conv(self.features(latents)), self.patch_size)

    def features(self, latents: Latents) -> Float[Tensor, "b e i j"]:
        """What the last convolution reads."""
        hidden = self.middle(self.input_conv(latents))
        for level in reversed(self.levels):
            hidden = level(hidden)
        return F.silu(self.output_norm(hidden))
