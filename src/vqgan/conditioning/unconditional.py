"""No condition: one start token, from which the first image token is predicted."""

import torch

from vqgan.conditioning.base import Conditioner, Grid
from vqgan.config import Config, Natural
from vqgan.types import Condition, ConditionTokens


class UnconditionalConfig(Config, frozen=True, tag_field="kind", tag="unconditional"):
    """Nothing steers the prior.

    Attributes:
        start_token: The token in front of every image. In a shared vocabulary some published models use
            another than 0.
    """

    start_token: Natural = 0

    @property
    def name(self) -> str:
        """There is no value of this name."""
        return "unconditional"

    @property
    def vocabulary_size(self) -> int:
        """Condition tokens there are: those up to the start token."""
        return self.start_token + 1

    def num_tokens(self, grid: Grid) -> int:
        """One, for every grid."""
        return 1


class Unconditional(Conditioner):
    """One start token for every image."""

    needs_value = False
    is_spatial = False
    config: UnconditionalConfig

    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """The start token, ``count`` times."""
        return torch.full((count, 1), self.config.start_token)
