from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vqgan.prior import Prior, PriorConfig
from vqgan.sampling import (
    GridNoise,
    SamplingSettings,
    plan_windows,
    sample_grid,
    sample_sliding,
)
from vqgan.sampling.settings import choose_tokens
from vqgan.types import lengths_on

CODES = 7
LENGTHS = [(2,), (None,), (2, None), (None, 1, None)]
"""Conditions: tokens for the whole image, a map, and several together."""


def make_prior():
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=CODES, condition_size=CODES, context_length=130, depth=1, width=8, num_heads=2
    )
    model = Prior(config).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


PRIOR = make_prior()


def local(position, size, window):
    """Where the token stands in its window, as the published formula has it, which is for even windows."""
    half = window // 2
    if window % 2:
        return max(min(position, half), position - (size - window))
    if position <= half:
        return position
    return window - (size - position) if size - position < half else half


def cut(condition, lengths, grid, cells):
    """The condition tokens of a window: of maps those of its cells, of others all."""
    parts = condition.split(lengths_on(lengths, grid), dim=1)
    return torch.cat(
        [
            part.view(-1, *grid)[cells].flatten(1) if length is None else part
            for part, length in zip(parts, lengths, strict=True)
        ],
        dim=1,
    )


def slow_restatement(condition, indices, known, window, lengths, decoding, seed):
    """The rule as one reads it: the whole window, known or not, goes through the prior for every token."""
    (batch, rows, columns), stride = indices.shape, decoding.window_stride
    grid = torch.where(known, indices, 0)
    noise = GridNoise(
        seed=seed, count=batch, grid=(rows, columns), codebook_size=CODES, device=torch.device("cpu")
    )
    for row in range(rows):
        for column in range(columns):
            (down, i), (across, j) = divmod(row, stride), divmod(column, stride)
            i += local(down * stride, rows, window[0])  # the window is that of the block's first token
            j += local(across * stride, columns, window[1])
            cells = (
                slice(None),
                slice(row - i, row - i + window[0]),
                slice(column - j, column - j + window[1]),
            )
            seen = cut(condition, lengths, (rows, columns), cells)
            logits = PRIOR(grid[cells].flatten(1), seen).view(batch, *window, CODES)[:, i, j]
            chosen = choose_tokens(logits, decoding, noise.at(row, column))
            unknown = ~known[:, row, column]
            grid[unknown, row, column] = chosen[unknown]
    return grid


def problem(batch, grid, *, lengths, share, seed):
    generator = torch.Generator().manual_seed(seed)
    length = sum(lengths_on(lengths, grid))
    return (
        torch.randint(CODES, (batch, length), generator=generator),
        torch.randint(CODES, (batch, *grid), generator=generator),
        torch.rand(batch, *grid, generator=generator) < share,
    )


@settings(max_examples=16, deadline=None)
@given(
    window=st.tuples(st.integers(2, 4), st.integers(2, 5)),
    extra=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    batch=st.integers(1, 2),
    lengths=st.sampled_from(LENGTHS),
    share=st.sampled_from([0.0, 0.3]),
    temperature=st.sampled_from([0.0, 1.0]),
    most_kept=st.sampled_from([None, 0, 30, 60]),
    is_parallel=st.booleans(),
    stride=st.integers(1, 2),
    seed=st.integers(0, 2**40),
)
def test_every_shape_equals_whole_windows_for_every_token(
    window, extra, batch, lengths, share, temperature, most_kept, is_parallel, stride, seed
):
    assume(stride == 1 or (min(window) > 3 and any(extra)))
    grid = (window[0] + extra[0], window[1] + extra[1])
    condition, indices, known = problem(batch, grid, lengths=lengths, share=share, seed=seed % 1000)
    decoding = SamplingSettings(temperature=temperature, window_stride=stride)
    plan = plan_windows(
        known.all(dim=0).numpy(),
        window,
        condition=sum(lengths_on(lengths, window)),
        most_kept=most_kept,
        is_parallel=is_parallel,
        stride=stride,
    )
    found = sample_sliding(
        PRIOR,
        condition,
        indices,
        known,
        window=window,
        lengths=lengths,
        settings=replace(decoding, seed=seed),
        plan=plan,
    )
    expected = slow_restatement(condition, indices, known, window, lengths, decoding, seed)
    assert torch.equal(found, expected)
    assert torch.equal(found[known], indices[known])


@pytest.mark.parametrize(
    ("stride", "window", "grid"), [(1, (4, 5), (9, 9)), (2, (4, 5), (13, 14)), (3, (3, 6), (3, 17))]
)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_blocks_of_tokens_share_a_window(stride, window, grid, lengths):
    condition, indices, known = problem(2, grid, lengths=lengths, share=0.1, seed=3)
    decoding = SamplingSettings(window_stride=stride, seed=4)
    found = sample_sliding(
        PRIOR, condition, indices, known, window=window, lengths=lengths, settings=decoding
    )
    assert torch.equal(found, slow_restatement(condition, indices, known, window, lengths, decoding, seed=4))
    exact = replace(decoding, window_stride=1)
    same = slow_restatement(condition, indices, known, window, lengths, exact, seed=4)
    assert torch.equal(found, same) == (stride == 1)


def test_a_grid_of_the_window_is_what_the_cached_sampler_makes():
    condition, indices, known = problem(3, (4, 4), lengths=(None,), share=0.2, seed=1)
    slid = sample_sliding(
        PRIOR, condition, indices, known, window=(4, 4), lengths=(None,), settings=SamplingSettings(seed=5)
    )
    cached = sample_grid(PRIOR, condition, indices, known, settings=SamplingSettings(seed=5))
    assert torch.equal(slid, cached)


def test_image_i_of_a_batch_is_the_image_of_its_seed():
    condition, indices, known = problem(3, (5, 6), lengths=(2,), share=0.2, seed=2)
    arguments = {"window": (4, 4), "lengths": (2,), "settings": SamplingSettings(top_k=4, seed=9)}
    batch = sample_sliding(PRIOR, condition, indices, known, **arguments)
    arguments["settings"] = replace(arguments["settings"], seed=11)
    last = sample_sliding(PRIOR, condition[2:], indices[2:], known[2:], **arguments)
    assert torch.equal(batch[2:], last)


def test_tokens_known_in_every_image_cost_nothing():
    condition, indices, known = problem(2, (4, 6), lengths=(2,), share=0.0, seed=2)
    known[:, :2] = True
    reports = []
    plan = plan_windows(known.all(dim=0).numpy(), (4, 4), condition=2, is_parallel=False)
    arguments = {"window": (4, 4), "lengths": (2,), "settings": SamplingSettings(), "plan": plan}
    sample_sliding(PRIOR, condition, indices, known, on_progress=reports.append, **arguments)
    assert [report.step for report in reports] == list(range(13, 25))
    # Three windows, each read to its last token: 2 + 14, 2 + 14 and 2 + 15 of them.
    assert reports[-1].values["token_passes"] == 49


def test_reports_show_the_growing_grid_and_where_it_grows():
    condition, indices, known = problem(2, (6, 9), lengths=(2,), share=0.1, seed=2)
    reports, grids = [], []

    def keep(report):
        reports.append(report)
        grids.append(report.indices.clone())

    arguments = {"window": (4, 4), "lengths": (2,), "settings": SamplingSettings()}
    found = sample_sliding(PRIOR, condition, indices, known, on_progress=keep, **arguments)
    assert torch.equal(grids[-1], found)
    undrawn = int((~known.all(dim=0)).sum())
    for report, grid in zip(reports, grids, strict=True):
        missing = (grid < 0).any(dim=0)
        assert int(missing.sum()) == undrawn - (report.step - (54 - undrawn))
        assert torch.equal(grid[known], indices[known])
        assert (report.phase, report.total, report.images) == ("sample", 54, range(2))
        assert all(w[2:] == (4, 4) and 0 <= w[0] <= 2 and 0 <= w[1] <= 5 for w in report.windows)
    assert any(len(report.windows) > 1 for report in reports)
