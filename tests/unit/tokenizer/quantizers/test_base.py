import pytest
import torch

from vqgan.tokenizer.quantizers.base import codebook_usage


@pytest.mark.parametrize(
    ("counts", "usage", "perplexity"),
    [([7, 0, 0, 0], 0.25, 1.0), ([3, 3, 3, 3], 1.0, 4.0), ([0, 0], 0.0, 0.0), ([3, 1], 1.0, 1.7547653506033)],
)
def test_usage_and_perplexity_of_known_counts(counts, usage, perplexity):
    found = codebook_usage(torch.tensor(counts))
    assert found == pytest.approx((usage, perplexity))
