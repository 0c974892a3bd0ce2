import typing
from dataclasses import replace

import pytest
import torch

from vqgan.errors import ConfigError
from vqgan.prior import Prior, PriorConfig, TokenOrder, to_indices, to_tokens, token_positions
from vqgan.sampling import GridNoise, SamplingSettings, sample_grid
from vqgan.sampling.sampler import undrawn
from vqgan.sampling.settings import choose_tokens

GRID = (3, 4)
CPU = torch.device("cpu")
ORDERS = typing.get_args(TokenOrder)
WARM = SamplingSettings(temperature=0.9, top_k=6, top_p=0.95)


@pytest.fixture(scope="module")
def prior():
    """Float64: two ways of computing the same logits then never disagree about the largest."""
    torch.manual_seed(0)
    config = PriorConfig(codebook_size=9, condition_size=4, context_length=13, depth=2, width=8, num_heads=2)
    model = Prior(config).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def given(count, share=0.0):
    generator = torch.Generator().manual_seed(3)
    indices = torch.randint(9, (count, *GRID), generator=generator)
    return indices, torch.rand(count, *GRID, generator=generator) < share


def conditions(count):
    return torch.arange(2 * count).view(count, 2) % 4


def slow_restatement(prior, condition, indices, known, decoding, seed, order="raster"):
    """The rule as one reads it: a whole pass over the whole sequence for every token."""
    grid = torch.where(known, indices, 0)
    noise = GridNoise(seed=seed, count=len(grid), grid=GRID, codebook_size=9, device=CPU)
    for place, position in enumerate(token_positions(order, GRID).tolist()):
        row, column = divmod(position, GRID[1])
        logits = prior(to_tokens(grid, order), condition)[:, place]
        chosen = choose_tokens(logits, decoding, noise.at(row, column))
        unknown = ~known[:, row, column]
        grid[unknown, row, column] = chosen[unknown]
    return grid


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize(
    "decoding", [WARM, SamplingSettings(), SamplingSettings(temperature=0.0)], ids=["warm", "plain", "greedy"]
)
def test_cached_sampling_equals_a_whole_pass_for_every_token(prior, decoding, share):
    indices, known = given(4, share)
    found = sample_grid(prior, conditions(4), indices, known, settings=replace(decoding, seed=8))
    assert torch.equal(found, slow_restatement(prior, conditions(4), indices, known, decoding, 8))


@pytest.mark.parametrize("order", ORDERS)
def test_tokens_are_drawn_in_the_given_order_with_the_noise_of_their_cells(prior, order):
    indices, known = given(4, 0.4)
    found = sample_grid(
        prior, conditions(4), indices, known, settings=replace(WARM, seed=8), token_order=order
    )
    assert torch.equal(found, slow_restatement(prior, conditions(4), indices, known, WARM, 8, order))
    assert torch.equal(found[known], indices[known])


def test_the_noise_of_a_cell_is_the_same_in_every_order():
    """Logits that do not depend on what was read: every order must then draw the same grid."""
    torch.manual_seed(0)
    config = PriorConfig(codebook_size=9, condition_size=1, context_length=12, depth=1, width=8, num_heads=2)
    model = Prior(config).eval()
    torch.nn.init.zeros_(model.head.weight)
    indices, known = given(3)
    start = torch.zeros(3, 1, dtype=torch.int64)
    grids = [
        sample_grid(model, start, indices, known, settings=SamplingSettings(), token_order=order)
        for order in ORDERS
    ]
    assert all(torch.equal(grid, grids[0]) for grid in grids)
    assert len(grids[0].unique()) > 3


def counted_steps(monkeypatch):
    """A list that grows with every reading of one token."""
    steps = []

    def counted(reader, groups):
        if groups[0].entries.shape[1] == 1:
            steps.append(1)
        return read(reader, groups)

    read = Prior.read
    monkeypatch.setattr(Prior, "read", counted)
    return steps


@pytest.mark.parametrize("order", ["raster", "alternate", "spiral_out"])
def test_a_prefix_counts_in_the_order_of_the_sequence(prior, order, monkeypatch):
    steps = counted_steps(monkeypatch)
    indices, _ = given(2)
    known = to_indices((torch.arange(12) < 8).expand(2, 12), GRID, order)
    sample_grid(prior, conditions(2), indices, known, settings=WARM, token_order=order)
    assert len(steps) == 3
    steps.clear()
    sample_grid(prior, conditions(2), indices, ~known, settings=WARM, token_order=order)
    assert len(steps) == 7  # the last four are known: nothing that is drawn depends on them


def test_a_batch_of_five_equals_five_single_runs(prior):
    indices, known = given(5, 0.3)
    batch = sample_grid(prior, conditions(5), indices, known, settings=replace(WARM, seed=20))
    for i in range(5):
        one = slice(i, i + 1)
        single = sample_grid(
            prior, conditions(5)[one], indices[one], known[one], settings=replace(WARM, seed=20 + i)
        )
        assert torch.equal(single, batch[one])


def test_another_seed_gives_another_grid(prior):
    indices, known = given(1)
    first, second = (
        sample_grid(prior, conditions(1), indices, known, settings=replace(WARM, seed=seed))
        for seed in (0, 1)
    )
    assert not torch.equal(first, second)


def test_known_tokens_are_kept_and_unknown_ones_play_no_part(prior):
    indices, known = given(4, 0.5)
    found = sample_grid(prior, conditions(4), indices, known, settings=WARM)
    assert torch.equal(found[known], indices[known])
    other = torch.where(known, indices, (indices + 1) % 9)
    assert torch.equal(sample_grid(prior, conditions(4), other, known, settings=WARM), found)


def test_a_fully_known_grid_comes_back(prior):
    indices, _ = given(2)
    known = torch.ones_like(indices, dtype=torch.bool)
    assert torch.equal(sample_grid(prior, conditions(2), indices, known, settings=WARM), indices)


def test_the_given_tensors_are_not_changed(prior):
    indices, known = given(2, 0.3)
    before = indices.clone()
    sample_grid(prior, conditions(2), indices, known, settings=WARM)
    assert torch.equal(indices, before)


def test_greedy_takes_the_lowest_of_the_largest_without_filter_or_noise():
    noise = GridNoise(seed=0, count=2, grid=(1, 1), codebook_size=4, device=CPU)
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    found = choose_tokens(logits, SamplingSettings(temperature=0.0, top_k=1, top_p=0.1), noise.at(0, 0))
    assert found.tolist() == [1, 0]


def test_tokens_are_drawn_with_their_probabilities():
    share = torch.tensor([0.5, 0.3, 0.15, 0.05])
    noise = GridNoise(seed=4, count=4_000, grid=(1, 1), codebook_size=4, device=CPU)
    drawn = choose_tokens(share.log().expand(4_000, 4), SamplingSettings(), noise.at(0, 0))
    counts, expected = drawn.bincount(minlength=4), 4_000 * share
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.3  # 3 degrees of freedom: 0.1 % lie above


def test_bf16_logits_are_compared_in_fp32():
    noise = GridNoise(seed=0, count=8, grid=(1, 1), codebook_size=512, device=CPU)
    logits = torch.randn(8, 512).bfloat16()
    found = choose_tokens(logits, SamplingSettings(), noise.at(0, 0))
    assert torch.equal(found, (logits.float() + noise.at(0, 0)).argmax(dim=-1))


@pytest.mark.parametrize("rows_known", [0, 2])
def test_progress_ends_at_the_total(prior, rows_known):
    reports = []
    indices, known = given(2)
    known[:, :rows_known] = True
    sample_grid(prior, conditions(2), indices, known, settings=WARM, on_progress=reports.append)
    assert [report.step for report in reports] == list(range(4 * rows_known + 1, 13))
    assert {(report.phase, report.total) for report in reports} == {("sample", 12)}


def test_places_to_draw_are_those_unknown_in_some_image():
    known = torch.ones(2, 12, dtype=torch.bool)
    assert undrawn(known) == []
    known[1, 6] = known[0, 9] = False
    assert undrawn(known) == [6, 9]
    assert undrawn(torch.zeros(2, 12, dtype=torch.bool)) == list(range(12))


def test_what_is_known_between_is_read_at_once(prior, monkeypatch):
    lengths = []

    def counted(reader, groups):
        lengths.append(groups[0].entries.shape[1])
        return read(reader, groups)

    read = Prior.read
    monkeypatch.setattr(Prior, "read", counted)
    indices, known = given(2)
    known[:, :, :2] = True  # the left half: 2 known, 2 to draw, 2 known, ...
    found = sample_grid(prior, conditions(2), indices, known, settings=replace(WARM, seed=8))
    assert lengths == [4, 1, 3, 1, 3, 1]
    assert torch.equal(found, slow_restatement(prior, conditions(2), indices, known, WARM, 8))


def test_a_grid_beyond_the_context_is_refused(prior):
    indices = torch.zeros(1, 4, 4, dtype=torch.int64)
    with pytest.raises(ConfigError, match=r"17 tokens .* `context_length` = 13"):
        sample_grid(prior, conditions(1), indices, indices.bool(), settings=WARM)
