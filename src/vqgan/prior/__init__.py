"""The second stage: an autoregressive transformer over token sequences; it knows neither pixels nor grids."""

from vqgan.prior.kv_cache import KVCache
from vqgan.prior.prior import Prior, PriorConfig

__all__ = ["KVCache", "Prior", "PriorConfig"]
