import pytest
import torch
from torch import nn

from vqgan.errors import CheckpointError
from vqgan.training.engine import Engine
from vqgan.training.optimizers import OptimizerConfig, TrainingState


def make(seed=0, size=2):
    torch.manual_seed(seed)
    modules = {"one": nn.Linear(2, size), "other": nn.BatchNorm1d(2)}
    config = OptimizerConfig(learning_rate=0.1, betas=(0.5, 0.9))
    return TrainingState(modules, config, Engine("cpu"), ema_decay=0.9, counters={"unused": torch.arange(3)})


def step(state):
    for name, module in state.modules.items():
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        state.optimizers[name].step(0.1)
    state.update_averages(0)
    state.counters["unused"].add_(1)


def test_everything_that_training_changes_comes_back_bit_by_bit():
    state, other = make(0), make(1)
    step(state)
    other.load(state.tensors(), where="step 1")
    assert state.tensors().keys() == {"model", "optimizer", "ema"}
    for file, tensors in state.tensors().items():
        assert other.tensors()[file].keys() == tensors.keys()
        assert all(torch.equal(other.tensors()[file][name], tensor) for name, tensor in tensors.items())


def test_a_state_from_before_the_first_step_has_no_moments():
    state, other = make(0), make(1)
    assert state.tensors()["optimizer"].keys() == {"counters|unused"}
    step(other)
    other.load(state.tensors(), where="step 0")
    assert other.tensors()["optimizer"].keys() == {"counters|unused"}


@pytest.mark.parametrize("file", ["model", "ema"])
def test_other_modules_are_refused_with_the_tensors_that_differ(file):
    with pytest.raises(CheckpointError) as caught:
        make(size=2).load(make(size=3).tensors(), where="step 3 of `run`")
    assert caught.value.message.startswith("step 3 of `run` does not fit the ")
    assert "(3, 2) instead of (2, 2)" in caught.value.message
    tensors = make().tensors()
    del tensors[file]
    with pytest.raises(CheckpointError, match=f"does not fit the {file} it describes: [0-9]+ missing"):
        make().load(tensors, where="step 3")


def test_missing_counters_are_refused():
    tensors = make().tensors()
    tensors["optimizer"] = {}
    with pytest.raises(CheckpointError, match="does not fit the counters it describes: 1 missing"):
        make().load(tensors, where="step 3")


def test_one_gradient_that_is_not_finite_is_remembered():
    state = make()
    step(state)
    assert not state.diverged()
    state.modules["one"].weight.grad = torch.full((2, 2), torch.nan)
    state.optimizers["one"].step(0.1)
    step(state)
    assert state.diverged()
