"""The second stage: an autoregressive transformer over token sequences, and how they run through a grid.

The transformer itself knows neither pixels nor grids.
"""

from vqgan.prior.prior import Prior, PriorConfig, PriorShape
from vqgan.prior.reader import make_reader
from vqgan.prior.recorded import record
from vqgan.prior.token_order import TokenOrder, check_token_order, to_indices, to_tokens, token_positions
from vqgan.prior.transformer import Group, KVCache
