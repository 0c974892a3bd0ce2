"""Parity is judged on PyTorch's own convolutions.

oneDNN's fp32 convolutions trade digits for speed on processors without AVX-512: there the reconstruction of the
recorded tokenizer is 1.2e-5 away from its float64 value, the record itself 6e-6, PyTorch's own convolutions 6e-6.
"""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def exact_convolutions() -> Iterator[None]:
    torch.backends.mkldnn.set_flags(False)
    yield
    torch.backends.mkldnn.set_flags(True)
