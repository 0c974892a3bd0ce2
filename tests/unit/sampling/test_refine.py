"""Tokens drawn again given all others: the probabilities are those of whole grids, and many sweeps reach p(unknown | known)."""

from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch

from vqgan.prior import LocalSpan, Prior, PriorConfig, to_tokens
from vqgan.sampling import SamplingSettings, fill_grids, refine, refine_grids

CODES = 3
SPAN = LocalSpan(rows=1, columns=2)


def make(span=None, *, has_map=False, codes=CODES, std=0.7, **changes):
    torch.manual_seed(10)
    sizes = {"depth": 2, "width": 16, "num_heads": 2, "context_length": 60}
    if span is not None:
        sizes["positions"] = "rotary"
    config = PriorConfig(codebook_size=codes, condition_size=2, span=span, **{**sizes, **changes})
    places = torch.cartesian_prod(torch.arange(-1, 5), torch.arange(10))
    prior = Prior(config, places, lengths=(None,) if has_map else (1,)).double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return prior


def inputs(grid, *, batch, codes=CODES, has_map=False):
    generator = torch.Generator().manual_seed(1)
    count = grid[0] * grid[1] if has_map else 1
    return (
        torch.randint(2, (batch, count), generator=generator),
        torch.randint(codes, (batch, *grid), generator=generator),
    )


@torch.no_grad()
def log_joint(prior, condition, grids, order="raster"):
    """Logarithm of the probability of whole grids."""
    return prior.log_probability(to_tokens(grids, order), condition, (grids.shape[1], grids.shape[2])).sum(
        dim=1
    )


READINGS = [
    ({}, "raster", False),
    ({}, "spiral_in", False),
    ({"positions": "relative_bias"}, "raster", True),
    ({"span": SPAN}, "raster", False),
    ({"span": SPAN, "positions": "relative_bias"}, "raster", True),
    ({"span": LocalSpan(rows=2, columns=1)}, "raster", True),
]


@pytest.mark.parametrize(("kinds", "order", "has_map"), READINGS)
@pytest.mark.parametrize("at_once", [2, 99])
def test_the_probabilities_given_all_others_are_those_of_whole_grids(kinds, order, has_map, at_once):
    prior, grid = make(has_map=has_map, **kinds), (5, 4)
    condition, indices = inputs(grid, batch=2, has_map=has_map)
    reading = refine._reading(prior, condition, indices, order)
    cells = to_tokens(torch.arange(20).view(1, *grid), order)[0].tolist()
    for place in (0, 1, 7, 18, 19, 4):  # back again, as the next sweep does
        row, column = divmod(cells[place], 4)
        tried, scores = refine._posterior(reading, place, indices[:, row, column], CODES, at_once)
        expected = []
        for code in range(CODES):
            other = indices.clone()
            other[:, row, column] = code
            expected.append(log_joint(prior, condition, other, order))
        expected = torch.stack(expected, dim=1).log_softmax(dim=1)
        assert tried.tolist() == [[0, 1, 2]] * 2
        torch.testing.assert_close(scores.log_softmax(dim=1), expected, rtol=1e-9, atol=1e-9)
        indices[:, row, column] = (indices[:, row, column] + 1) % CODES  # what follows must know it
        reading.settle(place)


@pytest.mark.parametrize(("kinds", "order", "has_map"), [READINGS[0], READINGS[1], READINGS[3]])
def test_many_sweeps_draw_from_the_distribution_that_enumeration_gives(kinds, order, has_map):
    temperature = 2.0 if order == "spiral_in" else 1.0
    prior, count = make(depth=1, width=8, std=1.0, **kinds), 2000
    indices = torch.randint(CODES, (1, 2, 3), generator=torch.Generator().manual_seed(1)).expand(count, 2, 3)
    condition = torch.zeros(count, 1, dtype=torch.int64)
    known = torch.tensor([[True, False, False], [False, True, True]]).expand(count, 2, 3)
    settings = SamplingSettings(temperature=temperature, refine=16, seed=5)
    how = {"settings": settings, "token_order": order, "memory": 2**30}
    drawn = fill_grids(prior, condition, indices, known, window=(2, 3), lengths=(1,), **how)
    refined = refine_grids(prior, condition, drawn, known, **how)
    assert torch.equal(refined[known], indices[known])

    every = indices[:27].clone()
    every[~known[:27]] = torch.tensor([*product(range(3), repeat=3)]).flatten()
    expected = (log_joint(prior, condition[:27], every, order) / temperature).softmax(dim=0)

    def off(grids):
        """Total variation between the grids and what is expected; 2000 exact draws have about 0.03."""
        numbers = grids[~known].view(-1, 3) @ torch.tensor([9, 3, 1])
        return float((torch.bincount(numbers, minlength=27) / count - expected).abs().sum() / 2)

    assert off(refined) < 0.07
    if order == "raster":
        assert off(drawn) > 0.15


def test_a_sweep_has_its_own_noise_which_neither_batch_nor_memory_changes():
    prior = make(codes=7)
    condition, indices = inputs((4, 5), batch=3, codes=7)
    known = torch.zeros(3, 4, 5, dtype=torch.bool)
    known[:, ::3] = True
    known[1] = True
    settings, reports = SamplingSettings(refine=2, seed=3, top_k=5), []
    arguments = (prior, condition, indices, known)
    found = refine_grids(
        *arguments, settings=settings, candidates=4, memory=2**30, on_progress=reports.append
    )
    assert torch.equal(found[1], indices[1])
    assert [report.step for report in reports] == list(range(3, 61, 3))
    assert (reports[-1].phase, reports[-1].total) == ("refine", 60)
    for memory in (1, 2**17):
        again = refine_grids(*arguments, settings=settings, candidates=4, memory=memory)
        assert torch.equal(found, again)
    last = [each[2:] for each in arguments[1:]]
    alone = refine_grids(prior, *last, settings=replace(settings, seed=5), candidates=4, memory=2**30)
    assert torch.equal(found[2:], alone)
    once = refine_grids(*arguments, settings=replace(settings, refine=1), candidates=4, memory=2**30)
    assert not torch.equal(found, once)
    assert torch.equal(indices, inputs((4, 5), batch=3, codes=7)[1])  # what was given is left alone


def test_at_temperature_0_every_sweep_raises_the_probability():
    prior = make(SPAN, codes=7)
    condition, indices = inputs((4, 5), batch=4, codes=7)
    known = torch.rand(4, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    found = [log_joint(prior, condition, indices)]
    for sweeps in (1, 2, 3):
        settings = SamplingSettings(refine=sweeps, temperature=0.0)
        grids = refine_grids(prior, condition, indices, known, settings=settings, candidates=3, memory=2**30)
        found.append(log_joint(prior, condition, grids))
    assert all(bool((after >= before - 1e-9).all()) for before, after in pairwise(found))
    assert bool((found[-1] > found[0]).all())


def test_nothing_to_draw_costs_nothing():
    prior = make()
    condition, indices = inputs((4, 5), batch=1)
    for known, sweeps in ((indices >= 0, 3), (indices < 0, 0)):
        settings = SamplingSettings(refine=sweeps)
        assert refine_grids(prior, condition, indices, known, settings=settings, memory=2**30) is indices
