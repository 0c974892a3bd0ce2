"""The second stage: an autoregressive transformer over token sequences, and how they run through a grid.

It does not know that its tokens were pixels; where positions ask for it, it knows their rows and columns.
"""

from vqgan.prior.branches import Branches, LocalStore
from vqgan.prior.cache import KVCache, Unkept
from vqgan.prior.local import wavefront_size, windows_of
from vqgan.prior.prior import Prior, PriorConfig
from vqgan.prior.reader import make_reader
from vqgan.prior.recorded import record
from vqgan.prior.token_order import (
    TokenOrder,
    check_token_order,
    sequence_places,
    to_indices,
    to_tokens,
    token_positions,
)
from vqgan.prior.transformer import Group, LocalSpan, PriorShape
