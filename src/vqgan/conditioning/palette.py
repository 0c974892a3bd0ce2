"""The nearest of a few colours for each cell of the image, computed from the image itself."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vqgan.conditioning.base import Conditioner, Grid, PerCell
from vqgan.conditioning.pictures import as_pictures, check_cells
from vqgan.config import Count
from vqgan.errors import require
from vqgan.tokenizer.quantizers.vector import nearest, spread
from vqgan.types import Condition, ConditionTokens, Images, check_values

MAX_PASSES = 100
"""Of k-means; it usually ends much earlier, when no point changes its colour."""


class PaletteConfig(PerCell, frozen=True, tag_field="kind", tag="palette"):
    """The image's own colours, of a few that there are, steer the prior.

    Attributes:
        num_colours: How many colours are found, when training starts, where ``colours`` is empty.
        colours: 0 to 255 in each channel; label ``i`` means the ``i``-th. Empty means that they are found in the data
            when training starts. A conditioner without colours cannot be built.
    """

    num_colours: Count = 8
    colours: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        channels = {len(colour) for colour in self.colours}
        require(
            not self.colours or (len(channels) == 1 and 0 not in channels),
            f"`colours` have {' and '.join(map(str, sorted(channels)))} channels, expected the same for all",
        )
        wrong = [value for colour in self.colours for value in colour if not 0 <= value <= 255]
        require(not wrong, f"`colours` holds {wrong[0] if wrong else ''}, expected 0 to 255")

    @property
    def vocabulary_size(self) -> int:
        """One token for each colour."""
        return len(self.colours) or self.num_colours


class Palette(Conditioner):
    """The label of the colour nearest to a cell's mean colour."""

    is_spatial = True
    config: PaletteConfig

    def __init__(self, config: PaletteConfig) -> None:
        super().__init__(config)
        require(
            bool(config.colours),
            "there are no colours: `colours` is empty",
            hint="give them; training fills them from the data",
        )

    def from_images(self, images: Images) -> Condition:
        """The images: pictures are averaged over the cells."""
        return {self.name: images}

    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """Labels of pictures, or given labels, in raster order; one picture serves all images, or one each.

        The value is a tensor: pictures (b c H W) with values in [-1, 1], or integer labels (b H W). Where a cell has
        several pixels, the most frequent label counts, of equally frequent ones the lowest.

        Raises:
            ConfigError: If it is neither, or its sides are not the same multiple of the grid's.
        """
        value = self.required(
            condition,
            hint=f'give `condition={{"{self.name}": tensor}}`: pictures (b c H W), or labels (b {grid[0]} {grid[1]})',
        )
        colours, is_map = self.config.colours, isinstance(value, Tensor) and value.ndim == 3
        pictures = as_pictures(value, self.name, channels=len(colours[0]), labels=len(colours))
        check_cells(pictures, self.name, count, grid)
        if is_map:
            labels = F.adaptive_avg_pool2d(pictures, grid).argmax(dim=1).flatten(1)
        else:
            check_values(pictures)
            cells = mean_colours(pictures, grid)
            with torch.autocast(cells.device.type, enabled=False):
                labels = nearest(cells.flatten(0, 1), cells.new_tensor(colours)).view(len(cells), -1)
        return labels.expand(count, -1)


def mean_colours(images: Images, grid: Grid) -> Float[Tensor, "b n c"]:
    """The mean colour of each cell, 0 to 255, rounded: distances between such colours are exact in any order."""
    pixels = ((images.float() + 1) * 127.5).round().clamp(0, 255)
    return F.adaptive_avg_pool2d(pixels, grid).round().flatten(2).movedim(1, 2)


def find_colours(
    points: Float[Tensor, "p c"], count: int, generator: torch.Generator
) -> tuple[tuple[int, ...], ...]:
    """Colours that represent all, by k-means from the start of k-means++; from dark to bright.

    Args:
        points: Colours, 0 to 255.
        count: How many to find; where there are fewer different points, fewer.
        generator: A CPU generator.

    Example:
        >>> greys = torch.tensor([[0.0], [2.0], [100.0], [102.0], [104.0]])
        >>> find_colours(greys, 2, torch.Generator().manual_seed(0))
        ((1,), (102,))
    """
    colours = spread(points, count, generator)
    labels: Int[Tensor, " p"] | None = None
    for _ in range(MAX_PASSES):
        before, labels = labels, nearest(points, colours)
        if before is not None and torch.equal(before, labels):
            break
        sums = torch.zeros_like(colours).index_add_(0, labels, points)
        counts = labels.bincount(minlength=count)[:, None]
        colours = torch.where(counts > 0, sums / counts.clamp(min=1), colours)
    found = {tuple(int(value) for value in colour) for colour in colours.round().tolist()}
    return tuple(sorted(found, key=lambda colour: (sum(colour), colour)))
