"""The second stage: an autoregressive transformer over token sequences, and how they run through a grid.

The transformer itself knows neither pixels nor grids.
"""

from vqgan.prior.kv_cache import KVCache, SteadyCache
from vqgan.prior.prior import Prior, PriorConfig, PriorShape
from vqgan.prior.reading import Group, Reader, make_reader, read
from vqgan.prior.token_order import TokenOrder, check_token_order, to_indices, to_tokens, token_positions

__all__ = [
    "Group",
    "KVCache",
    "Prior",
    "PriorConfig",
    "PriorShape",
    "Reader",
    "SteadyCache",
    "TokenOrder",
    "check_token_order",
    "make_reader",
    "read",
    "to_indices",
    "to_tokens",
    "token_positions",
]
