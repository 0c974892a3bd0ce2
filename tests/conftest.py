"""What all tests share: one thread (tests run side by side), and the recorded outputs of the original system."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

# Test folders are no packages, so the recorded cases are imported as `reference.store` from this folder.
sys.path.append(str(Path(__file__).parent))

from reference import store

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def reference() -> Callable[[str], store.Case]:
    """``reference(name)``: the inputs, weights and outputs recorded from the original system."""
    return store.case
