"""One resolution of the tokenizer's encoder or decoder, and the middle between both."""

from jaxtyping import Float
from torch import Tensor, nn

from vqgan.nn.attention import SpatialAttention
from vqgan.nn.convolution import ResidualBlock
from vqgan.types import Latents


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention if wanted, then a change of resolution.

    Args:
        in_channels: Width of the input.
        out_channels: Width of every block and of the output.
        num_blocks: Number of residual blocks.
        attention: Whether each block is followed by attention.
        dropout: Dropout inside the blocks.
        resample: What halves or doubles the resolution at the end; ``nn.Identity()`` keeps it.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        num_blocks: int,
        attention: bool,
        dropout: float,
        resample: nn.Module,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * num_blocks
        self.blocks = nn.ModuleList(
            ResidualBlock(in_channels=widths[i], out_channels=widths[i + 1], dropout=dropout)
            for i in range(num_blocks)
        )
        self.attentions = nn.ModuleList(
            SpatialAttention(channels=out_channels) if attention else nn.Identity() for _ in range(num_blocks)
        )
        self.resample = resample

    def forward(self, features: Latents) -> Float[Tensor, "b e i j"]:
        """From ``in_channels`` at one resolution to ``out_channels`` at the next."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            features = attention(block(features))
        return self.resample(features)


def middle(*, channels: int, dropout: float, attention: bool) -> nn.Sequential:
    """Block, attention if wanted, block at the lowest resolution; encoder and decoder both have one."""
    return nn.Sequential(
        ResidualBlock(in_channels=channels, out_channels=channels, dropout=dropout),
        SpatialAttention(channels=channels) if attention else nn.Identity(),
        ResidualBlock(in_channels=channels, out_channels=channels, dropout=dropout),
    )
