"""Guessing blocks of tokens gives the tokens of drawing them one by one, in fewer passes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqgan.errors import ConfigError
from vqgan.prior import Prior, PriorConfig
from vqgan.sampling import SamplingSettings, fill_grids, sample_grid
from vqgan.sampling.jacobi import sample_grid_jacobi

CODES = 6


def make_prior(spread):
    """With a larger spread the prior is surer of what comes next."""
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=CODES, condition_size=4, context_length=32, depth=2, width=8, num_heads=2
    )
    model = Prior(config).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return model


PRIORS = {spread: make_prior(spread) for spread in (0.3, 1.5)}


def problem(batch, grid, share, seed):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randint(4, (batch, 2), generator=generator),
        torch.randint(CODES, (batch, *grid), generator=generator),
        torch.rand(batch, *grid, generator=generator) < share,
    )


@settings(max_examples=30, deadline=None)
@given(
    spread=st.sampled_from([0.3, 1.5]),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    block=st.integers(2, 40),
    batch=st.integers(1, 3),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    order=st.sampled_from(["raster", "alternate", "spiral_out"]),
    values=st.sampled_from([{}, {"temperature": 0.0}, {"temperature": 0.8, "top_k": 4, "top_p": 0.9}]),
    seed=st.integers(0, 1000),
)
def test_the_fixed_point_is_the_sequential_grid(spread, grid, block, batch, share, order, values, seed):
    tensors, how = problem(batch, grid, share, seed), SamplingSettings(seed=seed, jacobi=block, **values)
    expected = sample_grid(PRIORS[spread], *tensors, settings=how, token_order=order)
    found = sample_grid_jacobi(PRIORS[spread], *tensors, settings=how, token_order=order)
    assert torch.equal(found, expected)


def test_passes_are_saved_where_guesses_are_right():
    tensors = problem(1, (5, 6), 0.0, 0)
    passes = {}
    for spread, prior in PRIORS.items():
        reports = []
        sample_grid_jacobi(prior, *tensors, settings=SamplingSettings(jacobi=8), on_progress=reports.append)
        passes[spread] = reports[-1].values["passes"]
        assert [report.step for report in reports] == sorted({report.step for report in reports})
        assert reports[-1].step == 30
    assert passes[1.5] < passes[0.3] <= 30


def test_where_nothing_is_uncertain_a_pass_draws_a_whole_block():
    """A prior that always gives the same token: after the first pass every guess is right."""
    prior = make_prior(0.3)
    torch.nn.init.zeros_(prior.head.weight)
    reports = []
    sample_grid_jacobi(
        prior,
        *problem(2, (5, 6), 0.0, 0),
        settings=SamplingSettings(temperature=0.0, jacobi=10),
        on_progress=reports.append,
    )
    assert [report.step for report in reports] == [10, 20, 30]


def test_one_token_a_block_is_refused():
    with pytest.raises(ConfigError, match="`jacobi` is 1, expected at least 2 tokens\nhint: omit it"):
        SamplingSettings(jacobi=1)


def test_grids_beyond_the_window_are_refused():
    arguments = {
        "window": (3, 3),
        "lengths": (2,),
        "settings": SamplingSettings(jacobi=4),
        "memory": 10**9,
    }
    with pytest.raises(ConfigError, match="`jacobi` works on grids that the prior sees whole, 3 x 3"):
        fill_grids(PRIORS[0.3], *problem(1, (4, 4), 0.0, 0), **arguments)
    found = fill_grids(PRIORS[0.3], *problem(1, (3, 3), 0.0, 0), **arguments)
    assert torch.equal(
        found, sample_grid(PRIORS[0.3], *problem(1, (3, 3), 0.0, 0), settings=SamplingSettings())
    )
