"""A prior of local span gives the numbers of a dense mask that is built from the definition, in every way of reading."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqgan.errors import ConfigError
from vqgan.prior import LocalSpan, Prior, PriorConfig, PriorShape, make_reader
from vqgan.prior.local import TiledReading
from vqgan.sampling import SamplingSettings, sample_wavefront
from vqgan.sampling.random import GridNoise
from vqgan.sampling.settings import choose_tokens
from vqgan.types import lengths_on
from written_out import by_dense_mask

CODES, CONDITIONS = 7, 3
LENGTHS = [(1,), (None,), (1, None), (None, None, 1)]

SPANS = st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 3]))
GRIDS = st.tuples(st.integers(1, 5), st.integers(1, 6))
KINDS = st.fixed_dictionaries(
    {
        "positions": st.sampled_from(["rotary", "relative_bias"]),
        "norm": st.sampled_from(["layer", "rms"]),
        "feed_forward": st.sampled_from(["gelu", "swiglu"]),
        "query_key_norm": st.booleans(),
    }
)


def make(span, *, lengths=(1,), **kinds):
    if isinstance(span, tuple):  # from a strategy
        span = LocalSpan(**dict(zip(("rows", "columns", "condition_side"), span, strict=True)))
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=CODES,
        condition_size=CONDITIONS,
        context_length=9,
        width=16,
        num_heads=2,
        span=span,
        **{"depth": 2, "positions": "rotary", **kinds},
    )
    prior = Prior(config, lengths=lengths).double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return prior


def inputs(grid, *, batch=2, lengths=(1,)):
    generator = torch.Generator().manual_seed(1)
    indices = torch.randint(CODES, (batch, *grid), generator=generator)
    count = sum(lengths_on(lengths, grid))
    return indices, torch.randint(CONDITIONS, (batch, count), generator=generator)


def by_definition(prior, indices, condition, *, lengths):
    """Logits (b h w K) from loops over cells and a dense mask; only the weights are the prior's."""
    span, (batch, height, width) = prior.config.span, indices.shape
    entries = [(row, column) for row in range(height) for column in range(-1, width)]
    vectors = []
    for row, column in entries:
        token = indices[:, row, column] if column >= 0 else torch.full((batch,), CODES)
        vector = prior.token_embedding(token)
        part, first, number = prior.cell_condition, 0, 0
        for length, count in zip(lengths, lengths_on(lengths, (height, width)), strict=True):
            if length is not None:
                vector = vector + part.embedding(condition[:, first])
            else:
                side = span.condition_side
                for place in range(side * side):
                    y, x = row + place // side - side // 2, column + 1 + place % side - side // 2
                    if 0 <= y < height and 0 <= x < width:
                        token = condition[:, first + y * width + x]
                        vector = vector + part.embedding(token) * part.weights[number * side * side + place]
                number += 1
            first += count
        vectors.append(vector)
    rows = torch.stack(vectors, dim=1)
    may_see = torch.tensor(
        [
            [
                other <= entry
                and entry[0] - other[0] <= span.rows
                and abs(other[1] - (entry[1] + 1)) <= span.columns
                for other in entries
            ]
            for entry in entries
        ]
    )
    logits = by_dense_mask(prior, rows, entries, may_see).view(batch, height, width + 1, CODES)
    return logits[:, :, :-1]


@settings(max_examples=25, deadline=None)
@given(span=SPANS, grid=GRIDS, kinds=KINDS, lengths=st.sampled_from(LENGTHS))
def test_the_training_pass_is_that_of_a_dense_mask(span, grid, kinds, lengths):
    prior = make(span, lengths=lengths, **kinds)
    indices, condition = inputs(grid, lengths=lengths)
    found = prior(indices.flatten(1), condition, grid).view(2, *grid, CODES)
    torch.testing.assert_close(found, by_definition(prior, indices, condition, lengths=lengths))


@settings(max_examples=25, deadline=None)
@given(span=SPANS, grid=st.tuples(st.integers(1, 12), st.integers(1, 14)), kinds=KINDS)
def test_tiles_are_the_whole_grid(span, grid, kinds):
    prior = make(span, **kinds)
    indices, condition = inputs(grid)
    expected = prior(indices.flatten(1), condition, grid)
    whole = TiledReading(prior.config.span, grid, count=2, like=prior.head.weight, most=0)
    features = prior._features([prior.cells(indices, condition, whole)])
    found = prior.head(features.unflatten(0, (2, -1))[:, whole.targets])
    torch.testing.assert_close(found, expected)


@settings(max_examples=25, deadline=None)
@given(
    span=SPANS,
    grid=GRIDS,
    kinds=KINDS,
    lengths=st.sampled_from(LENGTHS),
    share=st.sampled_from([0.0, 0.4]),
    most=st.sampled_from([0, 1200]),
)
def test_the_wavefront_draws_the_tokens_of_the_training_pass(span, grid, kinds, lengths, share, most):
    prior = make(span, lengths=lengths, **kinds)
    indices, condition = inputs(grid, lengths=lengths)
    known = torch.rand(indices.shape, generator=torch.Generator().manual_seed(2)) < share
    chosen = SamplingSettings(seed=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vqgan.prior.local._MAX_DENSE", most)  # 0: what is seen is gathered
        found = sample_wavefront(prior, condition, indices, known, span=prior.config.span, settings=chosen)
    assert torch.equal(found[known], indices[known])
    noise = GridNoise(seed=5, count=2, grid=grid, codebook_size=CODES, device=indices.device)
    logits = prior(found.flatten(1), condition, grid).view(
        2, *grid, CODES
    )  # of each token, given those before it
    for row in range(grid[0]):
        for column in range(grid[1]):
            expected = choose_tokens(logits[:, row, column], chosen, noise.at(row, column))
            here = ~known[:, row, column]
            assert torch.equal(found[here, row, column], expected[here])


def test_gradients_of_tiles_are_those_of_the_whole_grid(monkeypatch):
    span, grid = LocalSpan(rows=2, columns=3), (9, 11)
    prior = make(span, positions="relative_bias")
    indices, condition = inputs(grid)
    gradients = []
    for most in (10_000, 0):
        monkeypatch.setattr("vqgan.prior.local._MAX_DENSE", most)
        prior.zero_grad()
        prior.log_probability(indices.flatten(1), condition, grid).mean().backward()
        gradients.append([parameter.grad.clone() for parameter in prior.parameters()])
    torch.testing.assert_close(*gradients)
    assert all(gradient.any() for gradient in gradients[0])


@pytest.mark.parametrize("grid", [(3, 4), (40, 4), (3, 40)])
def test_the_cache_is_as_large_as_the_span_needs_whatever_the_height(grid):
    span = LocalSpan(rows=2, columns=1)
    cache = make_reader(make(span)).new_local_cache(span, grid, 1)
    assert [layer.shape[3] for layer in cache._layers] == [15] * 2
    assert cache.num_steps == grid[1] + (grid[0] - 1) * 2


def test_what_lies_beyond_the_span_plays_no_part_in_one_layer():
    span, grid = LocalSpan(rows=1, columns=2), (4, 9)
    prior = make(span)
    prior.transformer.blocks = prior.transformer.blocks[:1]
    indices, condition = inputs(grid, batch=1)
    base = prior(indices.flatten(1), condition, grid).view(*grid, CODES)
    for row in range(4):
        for column in range(9):
            other = indices.clone()
            other[0, row, column] = (other[0, row, column] + 1) % CODES
            changed = (prior(other.flatten(1), condition, grid).view(*grid, CODES) - base).abs().amax(
                -1
            ) > 1e-12
            expected = {
                (y, x)
                for y in range(row, min(4, row + 2))
                for x in range(max(0, column - 2), min(9, column + 3))
                if (y, x) > (row, column)
            }
            assert set(map(tuple, changed.nonzero().tolist())) == expected


@pytest.mark.parametrize(("depth", "rows", "columns"), [(1, 2, 2), (2, 1, 2), (3, 1, 1), (2, 2, 1)])
def test_the_receptive_field_measured_by_gradients_is_that_of_the_formula(depth, rows, columns):
    span, grid, target = LocalSpan(rows=rows, columns=columns), (8, 15), (7, 7)
    prior = make(span, depth=depth)
    indices, condition = inputs(grid, batch=1)
    vectors = []
    prior.token_embedding.register_forward_hook(
        lambda _, __, result: vectors.append(result) or result.retain_grad()
    )
    prior(indices.flatten(1), condition, grid).view(*grid, CODES)[target].square().sum().backward()
    seen = vectors[0].grad.abs().sum(-1).view(grid[0], grid[1] + 1)[:, 1:].nonzero()  # without the row starts
    above, beside = (target[0] - seen[:, 0], seen[:, 1] - target[1])
    assert above.max() == depth * rows
    assert beside.max() == depth * (columns + 1) - 1
    assert beside.min() == -depth * (columns - 1) - 1


def test_choices_that_do_not_fit_a_local_span_are_refused():
    shape = {"depth": 1, "width": 8, "num_heads": 2, "span": LocalSpan(rows=1, columns=1)}
    with pytest.raises(ConfigError, match="`positions: learned`"):
        PriorShape(**shape)
    with pytest.raises(ConfigError, match="shared `vocabulary`"):
        PriorShape(**shape, positions="rotary", vocabulary="shared")
    with pytest.raises(ConfigError, match="expected an odd number"):
        LocalSpan(rows=1, columns=1, condition_side=2)
    with pytest.raises(ConfigError, match="multiple of 4"):
        PriorShape(depth=1, width=6, num_heads=1, positions="rotary")
    prior = make(LocalSpan(rows=1, columns=1))
    with pytest.raises(ConfigError, match="needs the `grid`"):
        prior(torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64))
