"""The prior as a second judge of pictures: how probable are their codes?"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.errors import ConfigError, require
from vqgan.prior import to_tokens
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.types import Condition, ConditionTokens, Indices


class PriorJudge:
    """The mean negative logarithm of the probability of codes, with gradients for what chose them.

    Args:
        model: With a prior that sees a whole picture, or one of local span.
        shape: Of the pictures (b, 3, H, W).
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
        count, grid = shape[0], model.tokenizer.grid_size((shape[2], shape[3]))
        require(
            model.usable_window(grid) == grid,
            f"the prior cannot judge {shape[2]}x{shape[3]} pixels: it sees "
            f"{'x'.join(str(side * model.tokenizer.downsample_factor) for side in model.config.window)} at once",
            hint="make pictures of that size, or take a prior of local span",
        )
        self._model, self._grid = model, grid
        with torch.no_grad():
            self._condition: ConditionTokens = model.condition_tokens(condition, count, grid, memory)

    def __call__(self, shares: Float[Tensor, "b h w K"], indices: Indices) -> Float[Tensor, " b"]:
        """For each picture, in nats a token; the value is that of the codes, the gradient that of the shares.

        They get one as what the prior is to predict, and, unless its span is local, as what it reads before the others.
        """
        prior, order = self._model.prior, self._model.config.token_order
        tokens = to_tokens(indices, order)
        change = to_tokens(shares - shares.detach(), order).to(prior.head.weight)
        rows = prior.token_embedding.weight[: change.shape[-1]]
        logits = prior(tokens, self._condition, self._grid, added=change @ rows)
        nats = -logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
        chosen = nats.gather(2, tokens[..., None])[..., 0]
        return (chosen + (change * nats).sum(dim=-1)).mean(dim=1)
