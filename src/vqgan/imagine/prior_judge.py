"""The prior as a second judge of pictures: how probable are their codes?"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.errors import ConfigError, require
from vqgan.prior import to_tokens
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.types import Condition, Indices

_KEPT = 24
"""Numbers of the width that a layer keeps of a token for the backward pass."""


class PriorJudge:
    """The mean negative logarithm of the probability of codes, with gradients for what chose them.

    Args:
        model: With a prior that sees a whole picture, or one of local span.
        shape: Of the codes (b h w).
        condition: What steers the prior.
        memory: Bytes beside the weights for what the condition needs.

    Raises:
        ConfigError: If there is no such prior, or the condition does not fit.
    """

    def __init__(
        self,
        model: Tokenizer | Synthesizer,
        shape: Sequence[int],
        *,
        condition: Condition | None,
        memory: int,
    ) -> None:
        if not isinstance(model, Synthesizer):
            hint = "open a run of a prior, or omit it"
            raise ConfigError("`prior_weight` is given, but the model has no prior", hint=hint)
        grid, factor = (shape[1], shape[2]), model.tokenizer.downsample_factor
        asked, seen = ("x".join(str(side * factor) for side in each) for each in (grid, model.config.window))
        require(
            model.usable_window(grid) == grid,
            f"the prior cannot judge {asked} pixels: it sees {seen} at once",
            hint="make pictures of that size, or take a prior of local span",
        )
        self._model, self._grid = model, grid
        with torch.no_grad():
            self._prior, self._condition = model.steered(condition, shape[0], grid, memory)

    @property
    def bytes(self) -> int:
        """About what a picture's codes take here, to the end of the backward pass."""
        prior, places = self._model.config.prior, self._condition.shape[1] + math.prod(self._grid)
        element = self._model.prior.head.weight.element_size()
        return places * (element * prior.depth * _KEPT * prior.width + 40 * prior.codebook_size)

    def __call__(self, shares: Float[Tensor, "b h w K"], indices: Indices) -> Float[Tensor, " b"]:
        """For each picture, in nats a token; the value is that of the codes, the gradient that of the shares.

        They get one as what the prior is to predict, and, unless its span is local, as what it reads before the others.
        """
        prior, order = self._prior, self._model.config.token_order
        tokens = to_tokens(indices, order)
        change = to_tokens(shares - shares.detach(), order).to(prior.head.weight)
        rows = prior.token_embedding.weight[: change.shape[-1]]
        logits = prior(tokens, self._condition, self._grid, added=change @ rows)
        nats = -logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
        chosen = nats.gather(2, tokens[..., None])[..., 0]
        return (chosen + (change * nats).sum(dim=-1)).mean(dim=1)
