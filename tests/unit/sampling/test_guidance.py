"""Guidance gives the tokens of two branches mixed by hand, however they are drawn; none leaves everything as it is."""

from dataclasses import replace

import pytest
import torch

from vqgan.errors import ConfigError
from vqgan.prior import LocalSpan, Prior, PriorConfig, to_tokens, token_positions
from vqgan.sampling import GridNoise, SamplingSettings, fill_grids, sample_grid, window_start
from vqgan.sampling.fill import images_within, memory_costs
from vqgan.sampling.random import NOISE_BYTES
from vqgan.sampling.settings import choose_tokens, filter_logits
from vqgan.types import lengths_on

CODES, CONDITIONS, NULL = 7, 4, 3
WARM = SamplingSettings(temperature=0.9, top_k=6, top_p=0.95, guidance=(0.5, 3.0))
SPAN = LocalSpan(rows=2, columns=1)


def make_prior(lengths=(1,), **changes):
    """Float64: two ways of computing the same logits then never disagree about the largest."""
    torch.manual_seed(0)
    sizes = {"codebook_size": CODES, "condition_size": CONDITIONS, "context_length": 40}
    config = PriorConfig(**sizes, depth=2, width=8, num_heads=2, **changes)
    prior = Prior(config, lengths=lengths).double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return prior


@pytest.fixture(scope="module")
def prior():
    return make_prior()


def problem(count, grid, *, lengths=(1,), share=0.2):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randint(NULL, (count, sum(lengths_on(lengths, grid))), generator=generator),
        torch.randint(CODES, (count, *grid), generator=generator),
        torch.rand(count, *grid, generator=generator) < share,
    )


def fill(prior, tensors, settings, *, window, lengths=(2,), **arguments):
    null = torch.full_like(tensors[0], NULL)
    return fill_grids(
        prior,
        *tensors,
        window=window,
        lengths=lengths,
        settings=settings,
        null_tokens=null,
        **{"memory": 10**9, **arguments},
    )


def by_hand(tensors, settings, next_logits, order="raster"):
    """Two passes for each token, mixed as the formula has it.

    ``next_logits(grid, condition, place, row, column)`` gives what the prior says of one token.
    """
    condition, indices, known = tensors
    grid, (count, rows, columns) = torch.where(known, indices, 0), indices.shape
    noise = GridNoise(
        seed=settings.seed, count=count, grid=(rows, columns), codebook_size=CODES, device=torch.device("cpu")
    )
    start, end = settings.guidance if isinstance(settings.guidance, tuple) else (settings.guidance,) * 2
    for place, cell in enumerate(token_positions(order, (rows, columns)).tolist()):
        row, column = divmod(cell, columns)
        conditioned, free = (
            next_logits(grid, each, place, row, column)
            for each in (condition, torch.full_like(condition, NULL))
        )
        scale = start + (end - start) * place / max(1, rows * columns - 1)
        mixed = conditioned + scale * (conditioned - free)
        if settings.temperature:
            mixed = filter_logits(mixed, settings) + noise.at(row, column)
        grid[:, row, column] = torch.where(known[:, row, column], grid[:, row, column], mixed.argmax(dim=1))
    return grid


@pytest.mark.parametrize("order", ["raster", "spiral_out"])
@pytest.mark.parametrize(
    "settings",
    [WARM, SamplingSettings(guidance=2.0, seed=4), SamplingSettings(temperature=0.0, guidance=(3.0, 0.0))],
    ids=["warm", "plain", "greedy"],
)
@pytest.mark.parametrize("jacobi", [None, 5])
def test_whole_grids(prior, settings, order, jacobi):
    tensors = problem(3, (4, 5), lengths=(2,))

    def next_logits(grid, condition, place, row, column):
        return prior(to_tokens(grid, order), condition)[:, place]

    drawn = fill(prior, tensors, replace(settings, jacobi=jacobi), window=(4, 5), token_order=order)
    assert torch.equal(drawn, by_hand(tensors, settings, next_logits, order))


@pytest.mark.parametrize("lengths", [(None,), (2,), (1, None)], ids=str)
def test_windows(prior, lengths):
    grid, window = (5, 7), (4, 4)
    tensors = problem(2, grid, lengths=lengths)

    def next_logits(cells, condition, place, row, column):
        top, left = window_start(row, 5, 4), window_start(column, 7, 4)
        cut = slice(None), slice(top, top + 4), slice(left, left + 4)
        parts = condition.split(lengths_on(lengths, grid), dim=1)
        seen = [
            part.view(2, *grid)[cut].flatten(1) if length is None else part
            for part, length in zip(parts, lengths, strict=True)
        ]
        return prior(cells[cut].flatten(1), torch.cat(seen, dim=1))[:, 4 * (row - top) + column - left]

    drawn = fill(prior, tensors, WARM, window=window, lengths=lengths)
    assert torch.equal(drawn, by_hand(tensors, WARM, next_logits))


@pytest.mark.parametrize("lengths", [(1,), (1, None)], ids=str)
@pytest.mark.parametrize("grid", [(3, 4), (6, 3)])
def test_a_wavefront(lengths, grid):
    local_prior = make_prior(lengths, positions="rotary", span=SPAN)
    tensors = problem(2, grid, lengths=lengths)

    def next_logits(cells, condition, place, row, column):
        return local_prior(cells.flatten(1), condition, grid)[:, place]

    drawn = fill(local_prior, tensors, WARM, window=grid, lengths=lengths)
    assert torch.equal(drawn, by_hand(tensors, WARM, next_logits))


@pytest.mark.parametrize("guidance", [0.0, (0.0, 0.0)])
def test_none_is_the_plain_prior_and_reads_no_second_half(prior, guidance, monkeypatch):
    tensors, rows, read = problem(3, (4, 5), lengths=(2,)), set(), Prior.read
    plain = sample_grid(prior, *tensors, settings=SamplingSettings(seed=3))

    def noting(self, groups, **how):
        rows.update(len(group.entries) for group in groups)
        return read(self, groups, **how)

    monkeypatch.setattr(Prior, "read", noting)
    drawn = fill(prior, tensors, SamplingSettings(seed=3, guidance=guidance), window=(4, 5))
    assert torch.equal(drawn, plain)
    assert rows == {3}
    fill(prior, tensors, WARM, window=(4, 5))
    assert rows == {3, 6}


@pytest.mark.parametrize("memory", [NOISE_BYTES, NOISE_BYTES + 40_000])
def test_the_memory_counts_both_rows_of_an_image_and_changes_no_token(prior, memory):
    tensors, reports = problem(6, (4, 5), lengths=(2,), share=0.0), []
    whole = fill(prior, tensors, WARM, window=(4, 5))
    drawn = fill(prior, tensors, WARM, window=(4, 5), memory=memory, on_progress=reports.append)
    assert torch.equal(drawn, whole)
    sizes = {"prefix": 2, "last": 21, "block": 1}
    plain, guided = (images_within(40_000, memory_costs(prior, branches), **sizes) for branches in (1, 2))
    assert plain // 2 == guided == 2
    at_once = {len(report.images) for report in reports}
    assert at_once == ({1} if memory == NOISE_BYTES else {2})


def test_reports_show_each_image_once(prior):
    reports = []
    drawn = fill(prior, problem(3, (4, 5), lengths=(2,)), WARM, window=(4, 5), on_progress=reports.append)
    assert {report.indices.shape for report in reports} == {(3, 4, 5)}
    assert torch.equal(reports[-1].indices, drawn)
    assert reports[-1].step == reports[-1].total == 60


def test_the_last_seeds_can_be_drawn(prior):
    tensors = problem(3, (4, 5), lengths=(2,))
    drawn = fill(prior, tensors, replace(WARM, seed=2**63 - 3), window=(4, 5))
    alone = [each[2:] for each in tensors]
    assert torch.equal(drawn[2:], fill(prior, alone, replace(WARM, seed=2**63 - 1), window=(4, 5)))


def test_both_rows_get_the_token_of_the_mixture():
    logits = torch.tensor([[0.0, 1.0, 0.9], [0.0, 2.0, 0.0]])  # the condition speaks for the last code
    chosen = choose_tokens(logits, SamplingSettings(temperature=0.0, guidance=1.0), None)
    assert chosen.tolist() == [2, 2]


def test_it_needs_null_tokens(prior):
    tensors = problem(1, (4, 5), lengths=(2,))
    with pytest.raises(ConfigError, match="`guidance` needs null tokens"):
        fill_grids(prior, *tensors, window=(4, 5), lengths=(2,), settings=WARM, memory=10**9)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), (0.0, -1.0), (float("nan"), 1.0)])
def test_numbers_that_are_no_scales_are_refused(value):
    with pytest.raises(ConfigError, match=r"`guidance` is .*, expected a number of at least 0, or a pair"):
        SamplingSettings(guidance=value)
