"""Budgets of memory: they change what is computed together and what is kept, never a token."""

import logging
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from vqgan.errors import ConfigError
from vqgan.prior import KVCache, Prior, PriorConfig
from vqgan.prior import prior as prior_module
from vqgan.sampling import SamplingSettings, fill_grids
from vqgan.sampling.fill import images_within, memory_costs
from vqgan.sampling.plan import plan_within
from vqgan.sampling.random import NOISE_BYTES

CODES = 7
WINDOW = (4, 4)
SETTINGS = SamplingSettings(temperature=0.9, top_k=6, top_p=0.95)


@pytest.fixture(scope="module")
def prior():
    """Float64: products of another batch never change which logit is the largest."""
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=CODES, condition_size=CODES, context_length=32, depth=2, width=8, num_heads=2
    )
    model = Prior(config).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def problem(count, grid, *, is_spatial=True, share=0.1):
    generator = torch.Generator().manual_seed(1)
    length = grid[0] * grid[1] if is_spatial else 1
    return (
        torch.randint(CODES, (count, length), generator=generator),
        torch.randint(CODES, (count, *grid), generator=generator),
        torch.rand(count, *grid, generator=generator) < share,
    )


def fill(prior, tensors, *, seed=0, jacobi=None, is_spatial=True, **arguments):
    return fill_grids(
        prior,
        *tensors,
        window=WINDOW,
        lengths=(None,) if is_spatial else (1,),
        settings=replace(SETTINGS, seed=seed, jacobi=jacobi),
        **{"memory": 10**9, **arguments},
    )


@pytest.mark.parametrize(("grid", "is_spatial"), [((4, 4), False), ((4, 6), True)])
def test_a_batch_of_64_gives_the_tokens_of_single_runs(prior, grid, is_spatial):
    tensors = problem(64, grid, is_spatial=is_spatial)
    together = fill(prior, tensors, seed=3, is_spatial=is_spatial)
    for image in range(0, 64, 7):
        alone = [tensor[image : image + 1] for tensor in tensors]
        found = fill(prior, alone, seed=3 + image, is_spatial=is_spatial)
        assert torch.equal(found, together[image : image + 1])


@pytest.mark.parametrize("grid", [(4, 4), (6, 9)])
@pytest.mark.parametrize("memory", [1, NOISE_BYTES + 100_000, 10**9])
def test_a_budget_changes_no_token(prior, grid, memory):
    tensors, reports = problem(5, grid), []
    found = fill(prior, tensors, memory=memory, on_progress=reports.append)
    assert torch.equal(found, fill(prior, tensors))
    steps = [report.step for report in reports]
    assert steps == sorted(steps)
    assert (steps[-1], reports[-1].total) == (5 * grid[0] * grid[1],) * 2
    parts = list(dict.fromkeys(report.images for report in reports))
    assert [image for part in parts for image in part] == list(range(5))
    if memory in (1, 10**9):
        assert len(parts) == (5 if memory == 1 else 1)


def test_what_does_not_fit_is_read_again(prior, caplog):
    caplog.set_level(logging.INFO)
    tensors, passes = problem(1, (8, 9), share=0.0), []
    for memory in (10**9, NOISE_BYTES + 80_000, 1):
        reports = []
        fill(prior, tensors, memory=memory, on_progress=reports.append)
        passes.append(reports[-1].values["token_passes"])
    assert passes == sorted(passes)
    assert passes[0] < passes[1] < passes[2]
    said = [f"{most:,.0f} token passes for each image instead of {passes[0]:,.0f}" for most in passes[1:]]
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == said


@pytest.fixture
def peak(monkeypatch):
    """The most bytes of keys and values that were there at one time, as a list of one number."""
    alive, most = weakref.WeakSet(), [0]

    class Counted(KVCache):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            alive.add(self)
            most[0] = max(most[0], sum(store.nbytes for cache in alive for store in cache.layers))

    monkeypatch.setattr(prior_module, "KVCache", Counted)
    return most


@pytest.mark.parametrize("jacobi", [None, 5])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_whole_grids_keep_within_the_budget(prior, peak, jacobi, share):
    tensors, parts = problem(12, (4, 4), share=share), {}
    for memory in (NOISE_BYTES + 1, NOISE_BYTES + 100_000, NOISE_BYTES + 250_000, 10**9):
        reports, peak[0] = [], 0
        fill(prior, tensors, memory=memory, jacobi=jacobi, on_progress=reports.append)
        parts[memory] = len({report.images for report in reports})
        a_token = 2 * 2 * 8 * 8
        assert peak[0] <= max(memory - NOISE_BYTES, 31 * a_token)  # one image is drawn in any case
    counts = list(parts.values())
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (12, 1)
    assert 1 < counts[1] < 12


def test_how_many_whole_grids_fit(prior):
    """By hand: 31 tokens of 256 bytes kept, 16 read at 16 * 64 bytes, logits of a block at 8 * 7 * 8."""
    needed, costs = 31 * 256 + 16 * 1024 + 448, memory_costs(prior)
    for block, images in ((1, 3), (9, 2)):
        assert images_within(3 * needed, costs, prefix=16, last=31, block=block) == images
    assert images_within(3 * needed - 1, costs, prefix=16, last=31, block=1) == 2
    assert images_within(0, costs, prefix=16, last=31, block=1) == 0


@pytest.mark.parametrize("is_spatial", [True, False])
def test_windows_keep_within_the_budget(prior, peak, is_spatial):
    tensors, passes = problem(3, (8, 9), share=0.2, is_spatial=is_spatial), []
    for memory in (1, NOISE_BYTES + 60_000, NOISE_BYTES + 90_000, NOISE_BYTES + 250_000, 10**9):
        reports, peak[0] = [], 0
        fill(prior, tensors, memory=memory, is_spatial=is_spatial, on_progress=reports.append)
        passes.append(max(report.values["token_passes"] for report in reports))
        assert peak[0] <= max(0, memory - NOISE_BYTES)
    assert passes == sorted(passes, reverse=True)
    assert passes[0] > passes[-1]


def test_windows_are_planned_for_as_many_images_as_fit(prior):
    given, sizes = np.zeros((8, 9), dtype=bool), {"condition": 16, "costs": memory_costs(prior)}
    plan, images = plan_within(given, WINDOW, memory=10**9, **sizes)
    assert images > 3
    assert plan.passes < plan_within(given, WINDOW, memory=0, **sizes)[0].passes
    assert plan_within(~given, WINDOW, memory=10**9, **sizes)[1] == 10**9
    plan, images = plan_within(given, WINDOW, memory=0, **sizes)
    assert (images, plan.most_kept) == (1, 0)


def test_a_seed_out_of_range_is_told_as_it_was_given(prior):
    with pytest.raises(ConfigError, match=rf"`seed` is {2**63 - 2}, .* for each of 3 images"):
        fill(prior, problem(3, (4, 4)), seed=2**63 - 2, memory=1)
