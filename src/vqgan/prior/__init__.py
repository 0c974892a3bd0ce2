"""The second stage: an autoregressive transformer over token sequences, and how they run through a grid.

The transformer itself knows neither pixels nor grids.
"""

from vqgan.prior.kv_cache import KVCache
from vqgan.prior.prior import Prior, PriorConfig
from vqgan.prior.token_order import TokenOrder, check_token_order, to_indices, to_tokens, token_positions

__all__ = [
    "KVCache",
    "Prior",
    "PriorConfig",
    "TokenOrder",
    "check_token_order",
    "to_indices",
    "to_tokens",
    "token_positions",
]
