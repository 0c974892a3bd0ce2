import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vqgan.errors import ConfigError
from vqgan.sampling.settings import SamplingSettings, filter_logits, keep_top_k, keep_top_p

LOGITS = torch.tensor([[0.5, 0.25, 0.15, 0.1], [0.1, 0.15, 0.25, 0.5]]).double().log()


def kept(logits):
    return (logits > -math.inf).tolist()


@pytest.mark.parametrize("top_k", [1, 2, 3, 4, 5])
def test_top_k_keeps_the_k_largest(top_k):
    first = [place < top_k for place in range(4)]
    assert kept(keep_top_k(LOGITS, top_k)) == [first, first[::-1]]


def test_top_k_keeps_all_that_equal_the_last():
    assert kept(keep_top_k(torch.tensor([[2.0, 1.0, 2.0, 3.0]]), 2)) == [[True, False, True, True]]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.integers(1, 12))
def test_top_k_never_inverts(values, top_k):
    logits = torch.tensor([values])
    found = keep_top_k(logits, top_k)[0]
    keep = found > -math.inf
    assert int(keep.sum()) >= min(top_k, len(values))
    assert torch.equal(found[keep], logits[0][keep])
    if not bool(keep.all()):
        assert logits[0][~keep].max() < logits[0][keep].min()


@pytest.mark.parametrize(
    ("top_p", "count"),
    [(1e-9, 1), (0.4, 1), (0.51, 2), (0.74, 2), (0.76, 3), (0.89, 3), (0.91, 4), (0.999, 4)],
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p, count):
    first = [place < count for place in range(4)]
    assert kept(keep_top_p(LOGITS, top_p)) == [first, first[::-1]]


def test_top_p_takes_the_lower_code_among_equals():
    assert kept(keep_top_p(torch.zeros(1, 4), 0.5)) == [[True, True, False, False]]


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=12), st.floats(0.01, 0.99))
def test_top_p_keeps_enough_and_no_more(values, top_p):
    logits = torch.tensor([values], dtype=torch.float64)
    keep = keep_top_p(logits, top_p)[0] > -math.inf
    probabilities = logits.softmax(-1)[0]
    assert float(probabilities[keep].sum()) >= top_p - 1e-9
    assert float(probabilities[keep].sum() - probabilities[keep].min()) < top_p + 1e-9
    if not bool(keep.all()):
        assert probabilities[~keep].max() <= probabilities[keep].min()


def test_top_p_works_without_top_k():
    assert kept(filter_logits(LOGITS, SamplingSettings(top_p=0.6))) == [
        [True, True, False, False],
        [False, False, True, True],
    ]


def test_temperature_divides_before_top_p():
    # At temperature 0.5 the probabilities are as 0.25 : 0.0625 : 0.0225 : 0.01, the first has 0.72 of all.
    decoding = SamplingSettings(temperature=0.5, top_p=0.7)
    found = filter_logits(LOGITS, decoding)
    assert kept(found)[0] == [True, False, False, False]
    torch.testing.assert_close(found[0, 0], LOGITS[0, 0] / 0.5)


def test_top_p_counts_within_what_top_k_left():
    # Of the two kept by top-k the first has 2/3: enough for 0.6, though it has but 0.5 of all.
    assert kept(filter_logits(LOGITS, SamplingSettings(top_k=2, top_p=0.6)))[0] == [True, False, False, False]
    assert kept(filter_logits(LOGITS, SamplingSettings(top_p=0.6)))[0] == [True, True, False, False]


@pytest.mark.parametrize(
    "decoding", [SamplingSettings(), SamplingSettings(top_p=1.0), SamplingSettings(top_k=10_000)]
)
def test_open_settings_change_nothing(decoding):
    logits = torch.randn(3, 2_000)
    assert torch.equal(filter_logits(logits, decoding), logits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"temperature": -1.0},
            "`temperature` is -1.0, expected 0 or a number from 0.001\nhint: 0 is greedy",
        ),
        ({"temperature": 1e-45}, "`temperature` is 1e-45"),
        ({"temperature": math.nan}, "`temperature` is nan"),
        ({"temperature": math.inf}, "`temperature` is inf"),
        ({"top_k": 0}, "`top_k` is 0, expected a whole number of at least 1\nhint: omit it"),
        ({"top_p": 0.0}, "`top_p` is 0.0, expected 0 < top_p <= 1"),
        ({"top_p": 1.1}, "`top_p` is 1.1"),
        ({"top_p": math.nan}, "`top_p` is nan"),
        ({"window_stride": 0}, "`window_stride` is 0, expected at least 1 token\nhint: omit it"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        SamplingSettings(**settings)
