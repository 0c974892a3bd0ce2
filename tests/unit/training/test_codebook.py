import pytest
import torch

from vqgan.tokenizer.quantizers.base import codebook_usage
from vqgan.training.codebook import USAGE_STEPS, CodebookUsage

CPU = torch.device("cpu")


def test_perplexity_is_that_of_the_step_and_usage_that_of_the_last_steps():
    usage = CodebookUsage(4, CPU)
    first = usage.add(torch.tensor([3, 1, 0, 0]))
    assert first["usage"] == 0.5
    assert float(first["perplexity"]) == pytest.approx(
        codebook_usage(torch.tensor([3, 1, 0, 0]))[1], rel=1e-6
    )
    second = usage.add(torch.tensor([0, 0, 2, 0]))
    assert second["usage"] == 0.75
    assert second["perplexity"] == 1


def test_a_code_that_was_not_met_for_long_no_longer_counts_as_used():
    usage = CodebookUsage(2, CPU)
    usage.add(torch.tensor([1, 1]))
    for _ in range(USAGE_STEPS - 1):
        assert usage.add(torch.tensor([1, 0]))["usage"] == 1
    assert usage.add(torch.tensor([1, 0]))["usage"] == 0.5


def test_codes_die_after_the_given_steps_and_being_re_seeded_gives_them_new_time():
    usage = CodebookUsage(3, CPU)
    usage.add(torch.tensor([1, 1, 0]))
    usage.add(torch.tensor([1, 0, 0]))
    assert usage.dead(2).tolist() == [False, False, True]
    assert usage.dead(1).tolist() == [False, True, True]
    usage.reseeded(usage.dead(2))
    assert usage.dead(1).tolist() == [False, True, False]


def test_being_re_seeded_is_not_being_used():
    usage = CodebookUsage(2, CPU)
    usage.add(torch.tensor([1, 0]))
    usage.reseeded(torch.tensor([False, True]))
    assert usage.add(torch.tensor([1, 0]))["usage"] == 0.5


def test_everything_it_knows_is_in_its_counters():
    one, other = CodebookUsage(3, CPU), CodebookUsage(3, CPU)
    one.add(torch.tensor([1, 0, 2]))
    for name, counter in other.counters.items():
        counter.copy_(one.counters[name])
    counts = torch.tensor([0, 0, 1])
    assert one.add(counts) == other.add(counts)
    assert torch.equal(one.dead(2), other.dead(2))
