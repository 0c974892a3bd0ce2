"""What all tests share: one thread (tests run side by side), and the recorded outputs of the original system."""

import gc
from collections.abc import Callable

import pytest
import torch

from reference import store

torch.set_num_threads(1)


def pytest_collection() -> None:
    """What is imported stays: looking for garbage among it took a sixth of the collection."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on tests leave garbage."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def reference() -> Callable[[str], store.Case]:
    """``reference(name)``: the inputs, weights and outputs recorded from the original system."""
    return store.case
