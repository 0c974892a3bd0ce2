"""Continuations of each image while it is drawn: after each block of rows, the one that a judge likes best goes on.

This is blockwise best-of-K (Mudgal et al. 2024, "Controlled Decoding from Language Models"). A judge sees what is drawn
so far, and nothing is made up for the rest: the drawn rows are decoded alone, as if the image ended there, and what is
below is grey, so that the picture has its final size for judges that crop or resize.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch.nn import functional as F

from vqgan.errors import require
from vqgan.prior import KVCache, Prior, TokenOrder
from vqgan.sampling.judge import Judge, now, scores_by
from vqgan.sampling.settings import SamplingSettings
from vqgan.types import Images, Indices, is_whole


@dataclass
class Beam:
    """Draws several continuations of each block of rows, and goes on with the one that a judge likes best.

    Attributes:
        judge: A function of images (b c H W) that gives each a score (b), higher is better; or one for each image.
        width: Continuations of each image, each with noise of its own; 1 draws as without a judge.
        rows: Rows of tokens in a block: the more, the more of a picture is there to be judged.
        seconds: How long decoding and judging took, for each block so far.
        kept: Scores of the continuations that went on so far.
        all: Scores of all continuations so far.
        decode: Makes pictures of grids; given by what draws.

    Raises:
        ConfigError: If a number is not whole, or below 1.
    """

    judge: Judge | Sequence[Judge]
    width: int = 4
    rows: int = 4
    seconds: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)
    decode: Callable[[Indices], Images] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("rows", self.rows)):
            is_right = is_whole(value) and value >= 1
            require(is_right, f"the beam's `{name}` is {value!r}, expected a whole number of at least 1")

    def of(self, images: range, count: int) -> "Beam":
        """That of some of so many images. Raises ConfigError if there are not as many judges."""
        judges = [self.judge] * count if callable(self.judge) else self.judge
        what = f"there are {len(judges)} judges for {count} images"
        require(len(judges) == count, what, hint="give one for all, or one for each")
        return replace(self, judge=judges[images.start : images.stop])

    def check(
        self, prior: Prior, settings: SamplingSettings, token_order: TokenOrder, *, is_seen: bool
    ) -> None:
        """Raises ConfigError if grids, which the prior sees whole if ``is_seen``, cannot be drawn in this way."""
        for is_met, need in (
            (prior.config.span is None, "full attention, the span of this prior is local"),
            (is_seen, "images that the prior sees whole, on larger ones its window slides"),
            (token_order in ("raster", "alternate"), f"row after row, this prior's order is `{token_order}`"),
            (settings.jacobi is None, "tokens that are drawn one by one, `jacobi` guesses them"),
            (not settings.is_greedy, "chance, at `temperature` 0 all continuations are the same"),
        ):
            require(is_met, f"a beam needs {need}", hint="keep the best of many images instead")

    def go_on(self, grid: Indices, cache: KVCache, place: int, after: int) -> None:
        """Where a block ends between two places, lets all continuations of each image go on from the best one.

        The batch has all images of the first continuation, then those of the next; with guidance all of it once more.
        """
        assert self.decode is not None
        assert isinstance(self.judge, Sequence)
        (height, columns), count = grid.shape[1:], len(self.judge)
        if after < height * columns and after // (self.rows * columns) == place // (self.rows * columns):
            return
        began, drawn = now(grid), after // columns
        pictures = self.decode(grid[: self.width * count, :drawn])
        below = pictures.shape[2] // drawn * (height - drawn)
        found = scores_by([*self.judge] * self.width, F.pad(pictures, (0, 0, 0, below)))
        kept, best = found.view(self.width, count).max(dim=0)
        first = torch.arange(0, len(grid), self.width * count)[:, None] + torch.arange(count)
        rows = (first + best * count).repeat(1, self.width).flatten().to(grid.device)
        grid.copy_(grid[rows])
        for store in cache.layers:
            store.copy_(store[:, rows])
        self.all.extend(found.tolist())
        self.kept.extend(kept.tolist())
        self.seconds.append(now(grid) - began)
