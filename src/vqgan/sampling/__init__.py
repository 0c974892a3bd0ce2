"""How token grids are drawn from a prior."""

from vqgan.sampling.beam import Beam
from vqgan.sampling.fill import check_grid, fill_grids
from vqgan.sampling.plan import Plan, plan_windows, usable_window, window_start
from vqgan.sampling.random import GridNoise, check_seed
from vqgan.sampling.refine import refine_grids
from vqgan.sampling.sampler import sample_grid
from vqgan.sampling.scores import score_grids
from vqgan.sampling.settings import Guidance, SamplingSettings
from vqgan.sampling.sliding_window import sample_sliding
from vqgan.sampling.wavefront import sample_wavefront
