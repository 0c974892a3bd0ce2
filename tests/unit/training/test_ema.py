import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vqgan.training.engine import Engine
from vqgan.training.optimizers import OptimizerConfig, TrainingState


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def state(model, decay):
    config = OptimizerConfig(learning_rate=1.0, betas=(0.5, 0.9))
    return TrainingState({"model": model}, config, Engine("cpu"), ema_decay=decay)


def change(model):
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)


def test_it_starts_as_the_weights_and_does_not_share_their_memory(model):
    averaging = state(model, 0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    change(model)
    assert all(torch.equal(averaging.averages[name], tensor) for name, tensor in before.items())


def test_it_moves_by_one_minus_the_decay_and_faster_at_first(model):
    averaging = state(model, 0.5)
    expected = averaging.averages["0.weight"].clone()
    for step, decay in enumerate((1 / 10, 2 / 11, 3 / 12, 4 / 13)):
        change(model)
        averaging.update_averages(step)
        expected = decay * expected + (1 - decay) * model[0].weight
        assert_close(averaging.averages["0.weight"], expected.detach())
    change(model)
    averaging.update_averages(1000)
    assert_close(averaging.averages["0.weight"], (0.5 * (expected + model[0].weight)).detach())


def test_counts_are_copied(model):
    averaging = state(model, 0.999)
    change(model)
    averaging.update_averages(1000)
    assert torch.equal(averaging.averages["1.num_batches_tracked"], model[1].num_batches_tracked)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_has_the_average_inside_the_block_only(model, fails, training):
    model.train(training)
    averaging = state(model, 0.5)
    change(model)
    raw = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        with averaging.averaged():
            assert not model.training
            for name, tensor in model.state_dict().items():
                assert torch.equal(tensor, averaging.averages[name])
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert model.training == training
    assert all(torch.equal(tensor, raw[name]) for name, tensor in model.state_dict().items())


def test_without_an_average_only_the_mode_changes(model):
    with state(model, None).averaged():
        assert not model.training
    assert model.training
