"""Where the image has edges: one token for each cell, computed from the image itself."""

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from vqgan.conditioning.base import Conditioner, Grid, PerCell
from vqgan.conditioning.pictures import as_pictures, check_cells
from vqgan.config import Bounds, Positive, Weight
from vqgan.errors import require
from vqgan.images import canny
from vqgan.types import Condition, ConditionTokens, Images, check_values


class EdgesConfig(PerCell, frozen=True, tag_field="kind", tag="edges"):
    """The image's own edges steer the prior.

    Attributes:
        low: Where an edge goes on, as :func:`vqgan.images.canny` has it.
        high: Where an edge begins.
        sigma: Pixels by which the image is smoothed before.
        parts: Each cell is divided into ``parts`` x ``parts`` squares.
    """

    low: Positive = 0.2
    high: Positive = 0.4
    sigma: Weight = 1.0
    parts: Annotated[int, Bounds("1 to 3", lambda value: 1 <= value <= 3)] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.low <= self.high, f"`low` is {self.low}, expected at most `high` = {self.high}")

    @property
    def vocabulary_size(self) -> int:
        """One token for each pattern of squares: 512 of 3 x 3."""
        return 1 << self.parts**2


class Edges(Conditioner):
    """Which squares of a cell an edge passes through, as the bits of one token; the first square is the lowest bit.

    The token means what it says, in the same way for every model. The codes of an edge map would not: the
    tokenizer has never seen such a picture. Of sides that are not divisible by ``parts``, neighbouring squares share
    a row or a column of pixels, so that a mirrored map has mirrored tokens.
    """

    is_spatial = True
    config: EdgesConfig

    def from_images(self, images: Images) -> Condition:
        """The edge maps (b H W)."""
        return {self.name: canny(images, self.config.low, self.config.high, self.config.sigma)}

    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """Tokens of the edges of pictures, or of given edge maps; one serves all images, or one each.

        The value is a tensor: pictures (b c H W) with values in [-1, 1], of the size of the image (``sigma`` counts
        their pixels); or maps (b H W) of any number of pixels for each cell, bool or 0 and 1, True on an edge.

        Raises:
            ConfigError: If it is neither, or its sides are not the same multiple of the grid's.
        """
        value = self.required(
            condition,
            hint=f'give `condition={{"{self.name}": tensor}}`: pictures (b c H W), or maps (b H W) of edges',
        )
        is_map, parts = isinstance(value, Tensor) and value.ndim == 3, self.config.parts
        labels = value.long() if is_map and value.dtype == torch.bool else value
        pictures = as_pictures(labels, self.name, channels=None, labels=2)
        check_cells(pictures, self.name, count, grid)
        if not is_map:
            check_values(pictures)
        edges = pictures[:, -1] if is_map else self.from_images(pictures)[self.name].float()
        squares = F.adaptive_max_pool2d(edges[:, None], (grid[0] * parts, grid[1] * parts)).long()
        bits = torch.arange(parts**2, device=squares.device).view(parts, 1, parts)
        cells = (squares.view(-1, grid[0], parts, grid[1], parts) << bits).sum(dim=(2, 4))
        return cells.flatten(1).expand(count, -1)
