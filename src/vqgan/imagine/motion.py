"""How pictures move while they are drawn, for films."""

import math
from typing import Annotated

import torch.nn.functional as F

from vqgan.config import Bounds, Config, Count, Positive
from vqgan.errors import require
from vqgan.types import Images

Pair = Annotated[tuple[float, float], Bounds("two numbers", lambda v: all(map(math.isfinite, v)))]


class Motion(Config, frozen=True):
    """How a picture moves while it is drawn, for films; what enters at its border is the picture mirrored.

    Attributes:
        zoom: Enlargement in a step.
        turn: Degrees in a step, anticlockwise.
        shift: Pixels in a step, to the right and down.
        every: Steps from one move to the next, which is so many times as large: latents are encoded again each time.

    Raises:
        ConfigError: If a number is not finite, or one move would enlarge by more than a million.
    """

    zoom: Positive = 1.0
    turn: Annotated[float, Bounds("a number of degrees", math.isfinite)] = 0.0
    shift: Pair = (0.0, 0.0)
    every: Count = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.every * abs(math.log(self.zoom)) <= math.log(1e6),
            f"`zoom` is {self.zoom}, and that {self.every} times: expected at most a millionfold",
            hint="films zoom slowly: 1.005",
        )

    @property
    def moves(self) -> bool:
        """Whether anything changes."""
        return (self.zoom, self.turn, self.shift) != (1, 0, (0, 0))

    def moved(self, images: Images) -> Images:
        """The images after one move, values in [-1, 1]."""
        height, width = images.shape[2:]
        angle, scale = math.radians(self.turn * self.every), self.zoom**self.every
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        across, down = (
            -2 * each * self.every / side for each, side in zip(self.shift, (width, height), strict=True)
        )
        # Where each pixel comes from; turning in coordinates from -1 to 1 takes the proportions into account.
        rows = [[cos, -sin * height / width, across], [sin * width / height, cos, down]]
        grid = F.affine_grid(images.new_tensor([rows]).expand(len(images), 2, 3), list(images.shape), False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False).clamp(-1, 1)
