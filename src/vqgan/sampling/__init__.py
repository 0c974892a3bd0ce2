"""Decoding: how token grids are drawn from a prior."""

from vqgan.sampling.filters import Decoding
from vqgan.sampling.random import GridNoise
from vqgan.sampling.sampler import sample_grid
from vqgan.sampling.sliding_window import sample_sliding, usable_window, window_start

__all__ = ["Decoding", "GridNoise", "sample_grid", "sample_sliding", "usable_window", "window_start"]
