"""Budgets of memory: they change what is computed together and what is kept, never a token."""

import logging

import numpy as np
import pytest
import torch

from vqgan.errors import ConfigError
from vqgan.prior import Prior, PriorConfig
from vqgan.sampling import Decoding, fill_grids, share_memory

CODES = 7
WINDOW = (4, 4)
DECODING = Decoding(temperature=0.9, top_k=6, top_p=0.95)


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


def fill(prior, tensors, *, seed=0, is_spatial=True, **settings):
    return fill_grids(
        prior,
        *tensors,
        window=WINDOW,
        is_spatial=is_spatial,
        decoding=DECODING,
        seed=seed,
        **{"memory": 10**9, **settings},
    )


@pytest.mark.parametrize(("grid", "is_spatial"), [((4, 4), False), ((4, 6), True)])
def test_a_batch_of_64_gives_the_tokens_of_64_single_runs(prior, grid, is_spatial):
    tensors = problem(64, grid, is_spatial=is_spatial)
    together = fill(prior, tensors, seed=3, is_spatial=is_spatial)
    for image in range(64):
        alone = [tensor[image : image + 1] for tensor in tensors]
        found = fill(prior, alone, seed=3 + image, is_spatial=is_spatial)
        assert torch.equal(found, together[image : image + 1])


@pytest.mark.parametrize("grid", [(4, 4), (6, 9)])
@pytest.mark.parametrize("memory", [1, 100_000, 10**9])
def test_a_budget_changes_no_token(prior, grid, memory):
    tensors, reports = problem(5, grid), []
    found = fill(prior, tensors, memory=memory, on_progress=reports.append)
    assert torch.equal(found, fill(prior, tensors))
    steps = [report.step for report in reports]
    assert steps == sorted(steps)
    assert (steps[-1], reports[-1].total) == (5 * grid[0] * grid[1],) * 2
    parts = list(dict.fromkeys(report.images for report in reports))
    assert [image for part in parts for image in part] == list(range(5))
    assert len(parts) == {1: 5, 10**9: 1}.get(memory, len(parts))


def test_what_does_not_fit_is_read_again(prior, caplog):
    caplog.set_level(logging.INFO)
    tensors, passes = problem(1, (8, 9), share=0.0), []
    for memory in (10**9, 70_000, 1):
        reports = []
        fill(prior, tensors, memory=memory, on_progress=reports.append)
        passes.append(reports[-1].values["token_passes"])
    assert passes == sorted(passes)
    assert passes[0] < passes[1] < passes[2]
    said = [f"{most:,.0f} token passes for each image instead of {passes[0]:,.0f}" for most in passes[1:]]
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == said


def test_shares_stay_within_the_budget(prior):
    given = np.zeros((8, 9), dtype=bool)
    kept_token = 2 * 2 * 8 * 8
    for memory in (10**4, 10**5, 10**6, 10**7):
        share = share_memory(prior, given, WINDOW, condition=16, count=100, memory=memory)
        assert 1 <= share.images <= 100
        if share.most_kept is not None:
            assert share.images == 1
            assert share.most_kept * kept_token <= memory
    assert share_memory(prior, given, WINDOW, condition=16, count=3, memory=10**9).images == 3
    assert share_memory(prior, ~given, WINDOW, condition=16, count=3, memory=10**9).images == 3


def test_no_memory_at_all_is_refused(prior):
    with pytest.raises(ConfigError, match="`memory` is 0 bytes, expected a positive number"):
        fill(prior, problem(1, (4, 4)), memory=0)
