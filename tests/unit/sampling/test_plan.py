import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vqgan.errors import ConfigError
from vqgan.sampling import plan_windows, window_start


def empty(rows, columns):
    return np.zeros((rows, columns), dtype=bool)


def formula(rows, columns, window, condition, stride=1):
    last = window // 2 + stride - 1
    down, across = (rows - window) // stride, (columns - window) // stride
    row = across * (condition + window * last + last) + condition + window * last + window - 1
    bottom = across * (condition + window * (window - 1) + last) + condition + window**2 - 1
    return down * row + bottom


@pytest.mark.parametrize(
    ("grid", "condition", "passes", "steps"),
    [
        ((16, 16), 256, 511, 256),
        ((32, 32), 256, 115_311, 528),
        ((32, 32), 1, 41_616, 528),
        ((32, 128), 256, 765_807, 624),
        ((32, 128), 1, 275_952, 624),
        ((64, 64), 256, 947_023, 1072),
    ],
)
def test_passes_and_steps_of_large_grids(grid, condition, passes, steps):
    plan = plan_windows(empty(*grid), (16, 16), condition=condition)
    assert (plan.passes, len(plan.steps)) == (passes, steps)
    most = max(reading.passes for step in plan.steps for reading in step)
    assert most <= condition + 136


@given(
    stride=st.integers(1, 3),
    blocks=st.integers(1, 4),
    moves=st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(any),
    condition=st.integers(1, 20),
    is_parallel=st.booleans(),
)
def test_passes_follow_the_formula(stride, blocks, moves, condition, is_parallel):
    window = 2 * stride * blocks
    grid = (window + stride * moves[0], window + stride * moves[1])
    plan = plan_windows(
        empty(*grid), (window, window), condition=condition, is_parallel=is_parallel, stride=stride
    )
    assert plan.passes == formula(*grid, window, condition, stride)
    assert is_parallel or len(plan.steps) == grid[0] * grid[1]


@pytest.mark.parametrize(("stride", "passes"), [(1, 334_768), (2, 98_800), (4, 32_656), (8, 12_544)])
def test_blocks_that_share_windows_are_read_together(stride, passes):
    plan = plan_windows(empty(64, 64), (16, 16), condition=1, stride=stride)
    readings = [reading for step in plan.steps for reading in step]
    assert plan.passes == sum(reading.passes for reading in readings) == passes
    exact = [(window_start(r.row, 64, 16), window_start(r.column, 64, 16)) for r in readings]
    for reading, start in zip(readings, exact, strict=True):
        for mine, first, position in zip(reading.window, start, (reading.row, reading.column), strict=True):
            assert mine <= first  # nothing less above or to the left ...
            assert max(first - stride, position - 16) < mine  # ... and stride - 1 less to the right at most
    assert len({reading.window for reading in readings}) == (48 // stride + 1) ** 2


@pytest.mark.parametrize(
    ("grid", "stride", "most"),
    [((9, 9), 3, 2), ((9, 9), 0, 2), ((4, 9), 4, 3), ((9, 6), 3, 2), ((4, 6), 2, 1)],
)
def test_a_stride_beyond_half_of_the_window_is_refused(grid, stride, most):
    plan_windows(empty(*grid), (4, 6), condition=1, stride=most)
    with pytest.raises(ConfigError, match=rf"`window_stride` is {stride}, expected 1 to {most} on .* 4 x 6"):
        plan_windows(empty(*grid), (4, 6), condition=1, stride=stride)


@settings(max_examples=60)
@given(
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    extra=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    most_kept=st.sampled_from([None, 0, 25, 60]),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    stride=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_nothing_is_drawn_before_what_it_depends_on(window, extra, most_kept, share, stride, seed):
    grid = (window[0] + extra[0], window[1] + extra[1])
    assume(stride == 1 or (min(window) > 3 and any(extra)))
    given_cells = np.random.default_rng(seed).random(grid) < share
    plan = plan_windows(given_cells, window, condition=3, most_kept=most_kept, stride=stride)
    there, kept, count, most, last = given_cells.copy(), {}, 0, 0, {}
    for step in plan.steps:
        last.update({reading.window: reading.length for reading in step})
    for step in plan.steps:
        held = set(kept)
        for reading in step:
            (top, left), place = reading.window, reading.length - 3
            assert top == window_start(reading.row // stride * stride, grid[0], window[0])
            assert left == window_start(reading.column // stride * stride, grid[1], window[1])
            assert place < window[0] * window[1]
            assert place == (reading.row - top) * window[1] + reading.column - left
            cells = there[top : top + window[0], left : left + window[1]].flatten()[:place]
            assert cells.all()
            assert reading.past == kept.pop(reading.window, 0)
            if reading.is_kept:
                kept[reading.window] = reading.length
            count += reading.passes
        for reading in step:
            assert not there[reading.row, reading.column]
            there[reading.row, reading.column] = True
        held |= set(kept)  # what was used last in this step is there until its end
        most = max(most, sum(last[window] for window in held))
    assert there.all()
    assert not kept
    assert count == plan.passes
    assert plan.most_kept == most
    assert most_kept is None or most <= most_kept


def test_what_is_not_kept_is_read_again():
    free = plan_windows(empty(20, 24), (8, 8), condition=64)
    assert free.most_kept > 2000
    counts = [plan_windows(empty(20, 24), (8, 8), condition=64, most_kept=n) for n in (0, 150, 1000, 10**6)]
    passes = [plan.passes for plan in counts]
    assert passes == sorted(passes, reverse=True)
    assert passes[-1] == free.passes
    assert passes[0] == sum(r.length for step in counts[0].steps for r in step)
    assert [plan.most_kept <= n for plan, n in zip(counts, (0, 150, 1000, 10**6), strict=True)] == [True] * 4


@given(st.integers(1, 40), st.integers(0, 60))
def test_windows_stay_inside_the_grid_and_hold_the_token(window, extra):
    size = window + extra
    starts = [window_start(position, size, window) for position in range(size)]
    assert starts == sorted(starts)
    for position, start in enumerate(starts):
        assert 0 <= start <= size - window
        assert start <= position < start + window
        if 0 < start < size - window:
            assert position - start == window // 2


def test_a_grid_smaller_than_the_window_has_no_start():
    with pytest.raises(
        ConfigError, match="a grid side of 3 tokens is smaller than the window's 4\nhint: sample"
    ):
        window_start(0, 3, 4)
