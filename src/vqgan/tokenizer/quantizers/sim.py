"""A frozen random table behind a learned linear map (SimVQ, Zhu et al. 2024)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.tokenizer.quantizers.vector import NearestConfig, NearestQuantizer


class SimQuantizerConfig(NearestConfig, frozen=True, tag_field="kind", tag="sim"):
    """A codebook whose vectors all move together: a table of random ones, and a linear map that is learned."""


class SimQuantizer(NearestQuantizer):
    """Nearest neighbour among the rows of ``frozen @ map.T``.

    A code that no latent chooses moves with the others, because the map is that of all: none dies, with any number of
    codes, so none can be re-seeded. The map begins as the identity.

    Args:
        config: Sizes and behaviour.
    """

    frozen: Tensor

    def __init__(self, config: SimQuantizerConfig) -> None:
        super().__init__(config)
        size, width = config.codebook_size, config.codebook_dim
        self.register_buffer("frozen", torch.randn(size, width) / width**0.5)
        self.map = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.map.weight)

    def table(self) -> Float[Tensor, "rows d"]:
        """All vectors, of length 1 if ``normalize``, in at least fp32."""
        dtype = torch.promote_types(self.map.weight.dtype, torch.float32)
        with torch.autocast(self.frozen.device.type, enabled=False):
            rows = F.linear(self.frozen.to(dtype), self.map.weight.to(dtype))
        return F.normalize(rows, dim=1) if self.config.normalize else rows
