import pytest
import torch

from vqgan.tokenizer.quantizers.base import codebook_usage
from vqgan.training.tokenizer_task import USAGE_STEPS, count_codes


def counters(codebook_size):
    unused = torch.zeros(codebook_size, dtype=torch.int64)
    return {"unused": unused, "unseen": torch.full_like(unused, USAGE_STEPS)}


def count(counters, *counts):
    return count_codes(counters, torch.tensor(counts))


def test_perplexity_is_that_of_the_step_and_usage_that_of_the_last_steps():
    codes = counters(4)
    first = count(codes, 3, 1, 0, 0)
    assert first["usage"] == 0.5
    assert first["perplexity"] == codebook_usage(torch.tensor([3, 1, 0, 0]))[1]
    second = count(codes, 0, 0, 2, 0)
    assert second["usage"] == 0.75
    assert float(second["perplexity"]) == pytest.approx(1)


def test_a_code_that_did_not_occur_for_long_no_longer_counts_as_used():
    codes = counters(2)
    count(codes, 1, 1)
    for _ in range(USAGE_STEPS - 1):
        assert count(codes, 1, 0)["usage"] == 1
    assert count(codes, 1, 0)["usage"] == 0.5


def test_codes_die_after_the_given_steps_and_being_re_seeded_gives_them_new_time():
    codes = counters(3)
    count(codes, 1, 1, 0)
    count(codes, 1, 0, 0)
    assert codes["unused"].tolist() == [0, 1, 2]
    codes["unused"][2] = 0  # re-seeded, which is not being used
    assert float(count(codes, 1, 0, 0)["usage"]) == pytest.approx(2 / 3)
    assert codes["unused"].tolist() == [0, 2, 1]
