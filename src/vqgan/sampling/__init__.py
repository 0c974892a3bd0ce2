"""Decoding: how token grids are drawn from a prior."""

from vqgan.sampling.fill import fill_grids
from vqgan.sampling.filters import Decoding
from vqgan.sampling.plan import Plan, plan_windows, window_start
from vqgan.sampling.random import GridNoise
from vqgan.sampling.sampler import sample_grid
from vqgan.sampling.sliding_window import sample_sliding, usable_window

__all__ = [
    "Decoding",
    "GridNoise",
    "Plan",
    "fill_grids",
    "plan_windows",
    "sample_grid",
    "sample_sliding",
    "usable_window",
    "window_start",
]
