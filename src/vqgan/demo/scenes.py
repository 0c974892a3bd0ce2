"""Scenes of two handwritten digits, drawn by a program that says in words what they show."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vqgan.data.digits import open_digits
from vqgan.types import Images

NAMES = [
    f"a{'n' * (word == 'eight')} {word}"
    for word in ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
]
RELATIONS = "left of", "above"
"""What the first digit is to the second."""

SIDE = 32
"""Pixels of a scene's side."""

HELD_OUT = 5
"""Every fifth of the digits that people wrote is seen by no training."""

_SIZE, _TURN, _ALONG, _ACROSS = 0.47, 0.1, 0.04, 0.15
"""Half a digit's side and its largest shifts in halves of the scene's, the largest angle in radians."""

Facts = Int[Tensor, "n 3"]
"""The digits of each scene, the one to the left or above first, and the number of their relation."""

ALL = torch.cartesian_prod(torch.arange(10), torch.arange(10), torch.arange(2))
"""Of the 200 scenes that differ in what they show."""


def captions(facts: Facts) -> list[str]:
    """What each scene shows.

    Example:
        >>> captions(torch.tensor([[3, 7, 0], [2, 8, 1]]))
        ['a three left of a seven', 'a two above an eight']
    """
    return [f"{NAMES[first]} {RELATIONS[how]} {NAMES[second]}" for first, second, how in facts.tolist()]


@dataclass(frozen=True)
class Handwriting:
    """Digits that people wrote.

    Attributes:
        digits: Of each class its pictures, 0 for paper and 1 for ink.
    """

    digits: list[Float[Tensor, "_ 8 8"]]

    @classmethod
    def open(cls, *, held_out: bool) -> "Handwriting":
        """Those for training, or those that no training sees. Raises ConfigError if scikit-learn is not installed."""
        source = open_digits()
        assert source.classes is not None, "digits are classes"
        kept = (np.arange(len(source)) % HELD_OUT == 0) == held_out
        images = torch.from_numpy(source.images[kept, :, :, 0] / np.float32(255))
        classes = torch.from_numpy(source.classes[kept])
        return cls([images[classes == digit] for digit in range(10)])

    def draw(self, facts: Facts, generator: torch.Generator) -> Images:
        """A scene (n 3 32 32) for each: digits of random hands, a little shifted, turned and scaled."""

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(len(facts), *shape, generator=generator) - 1

        ink = torch.zeros(len(facts), 1, SIDE, SIDE)
        for place, toward in enumerate((-0.5, 0.5)):
            chosen = torch.rand(len(facts), generator=generator).tolist()
            digits = (self.digits[digit] for digit in facts[:, place].tolist())
            written = torch.stack([each[int(u * len(each))] for each, u in zip(digits, chosen, strict=True)])
            shift = torch.stack([toward + _ALONG * uniform(), _ACROSS * uniform()], dim=1)
            shift = torch.where(facts[:, 2:] == 0, shift, shift.flip(1))
            angle, size = _TURN * uniform(), _SIZE * (1 + 0.1 * uniform())
            cos, sin = angle.cos() / size, angle.sin() / size
            turn = torch.stack([torch.stack([cos, sin], dim=1), torch.stack([-sin, cos], dim=1)], dim=1)
            maps = torch.cat([turn, -turn @ shift[:, :, None]], dim=2)
            grid = F.affine_grid(maps, [len(facts), 1, SIDE, SIDE], align_corners=False)
            ink = torch.maximum(ink, F.grid_sample(written[:, None], grid, align_corners=False))
        return (2 * ink - 1).expand(-1, 3, -1, -1).contiguous()
