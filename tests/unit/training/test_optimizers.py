import copy
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vqgan.errors import CheckpointError, ConfigError
from vqgan.training.engine import Engine
from vqgan.training.optimizers import NamedOptimizer, OptimizerConfig, TrainingState, decaying, learning_rate

CONFIG = OptimizerConfig(learning_rate=0.1, betas=(0.5, 0.9))


class Small(nn.Module):
    """One of each kind of layer."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 3)
        self.linear = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.place = nn.Parameter(torch.randn(3))
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, indices):
        hidden = self.norm(self.linear(self.table(indices)) + self.place)
        return self.conv(hidden[:, None, None]).square().sum()


def model(dtype=torch.float32):
    torch.manual_seed(0)
    return Small().to(dtype)


def give_gradients(network, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = (scale * torch.randn(parameter.shape, generator=generator)).to(parameter.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_are_those_of_torchs_plain_adamw(dtype, decay):
    ours, theirs = model(dtype), model(dtype)
    optimizer = NamedOptimizer(ours, OptimizerConfig(learning_rate=0.1, betas=(0.5, 0.9), weight_decay=decay))
    decays = decaying(theirs)
    groups = [
        {"params": [p for n, p in theirs.named_parameters() if n in decays], "weight_decay": decay},
        {"params": [p for n, p in theirs.named_parameters() if n not in decays], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=0.1, betas=(0.5, 0.9), foreach=False, fused=False)
    for step, rate in enumerate((0.1, 0.05, 0.2)):
        for network in (ours, theirs):
            give_gradients(network, step)
        optimizer.step(rate)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for name, parameter in theirs.named_parameters():
        assert_close(ours.get_parameter(name), parameter, rtol=tolerance, atol=tolerance)


def test_only_the_weights_of_linear_layers_and_convolutions_decay():
    network = model()
    before = copy.deepcopy(network.state_dict())
    optimizer = NamedOptimizer(
        network, OptimizerConfig(learning_rate=0.1, betas=(0.5, 0.9), weight_decay=0.5)
    )
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.1)
    for name, tensor in network.state_dict().items():
        factor = 0.95 if name in ("linear.weight", "conv.weight") else 1.0
        assert_close(tensor, before[name] * factor)


def test_frozen_parameters_are_left_out():
    network = model()
    network.table.requires_grad_(False)
    assert "table.weight" not in NamedOptimizer(network, CONFIG).parameters


def test_the_norm_is_that_before_clipping_and_the_update_that_after():
    network = model()
    optimizer = NamedOptimizer(network, OptimizerConfig(learning_rate=0.1, betas=(0.0, 0.0), clip_norm=0.5))
    give_gradients(network, scale=10)
    expected = torch.cat([p.grad.flatten() for p in network.parameters()]).norm()
    assert_close(optimizer.step(0.1), expected)
    clipped = torch.cat([p.grad.flatten() for p in network.parameters()])
    assert_close(clipped.norm(), torch.tensor(0.5))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_not_finite_touches_nothing(bad, clip):
    network = model()
    optimizer = NamedOptimizer(network, OptimizerConfig(learning_rate=0.1, betas=(0.5, 0.9), clip_norm=clip))
    give_gradients(network)
    optimizer.step(0.1)
    assert optimizer.skipped == 0
    weights, state = copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.tensors())
    give_gradients(network)
    network.linear.weight.grad[0, 0] = bad
    optimizer.step(0.1)
    assert optimizer.skipped == 1
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name])
    for name, tensor in optimizer.tensors().items():
        assert torch.equal(tensor, state[name])
    give_gradients(network)
    optimizer.step(0.1)
    assert optimizer.skipped == 0
    assert not torch.equal(network.linear.weight, weights["linear.weight"])


def test_the_state_comes_back_bit_by_bit_and_training_goes_on_as_if_nothing_had_been():
    network = model().to(memory_format=torch.channels_last)
    optimizer = NamedOptimizer(network, CONFIG)
    for step in range(3):
        give_gradients(network, step)
        optimizer.step(0.1)
    again = copy.deepcopy(network)
    resumed = NamedOptimizer(again, CONFIG)
    assert resumed.tensors() == {}
    resumed.load({name: tensor.clone().contiguous() for name, tensor in optimizer.tensors().items()})
    assert resumed.tensors().keys() == optimizer.tensors().keys()
    for both in ((network, optimizer), (again, resumed)):
        give_gradients(both[0], 9)
        both[1].step(0.1)
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    for name, tensor in optimizer.tensors().items():
        assert torch.equal(resumed.tensors()[name], tensor)


@pytest.mark.parametrize(("name", "shape"), [("odd|exp_avg", (3, 3)), ("linear.weight|exp_avg", (3, 4))])
def test_a_state_of_other_parameters_is_refused(name, shape):
    with pytest.raises(CheckpointError, match="which belongs to no parameter"):
        NamedOptimizer(model(), CONFIG).load({name: torch.zeros(shape)})


def test_moments_of_replaced_rows_are_cleared_and_no_others():
    network = model()
    optimizer = NamedOptimizer(network, CONFIG)
    rows = torch.tensor([False, True, False, True])
    optimizer.forget_rows("table.weight", rows)  # before the first step there are none
    give_gradients(network)
    optimizer.step(0.1)
    before = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    optimizer.forget_rows("table.weight", rows)
    for name, tensor in optimizer.tensors().items():
        if name in ("table.weight|exp_avg", "table.weight|exp_avg_sq"):
            assert tensor[[1, 3]].count_nonzero() == 0
            assert torch.equal(tensor[[0, 2]], before[name][[0, 2]])
        else:
            assert torch.equal(tensor, before[name])


def test_the_rate_rises_and_falls_as_its_settings_say():
    config = OptimizerConfig(
        learning_rate=2.0, betas=(0.9, 0.99), warmup_steps=2, decay="cosine", final_share=0.5
    )
    rates = [learning_rate(config, step, 6) for step in range(8)]
    fall = [1.5 + 0.5 * math.cos(math.pi * share) for share in (0, 0.25, 0.5, 0.75, 1.0, 1.0)]
    assert rates == pytest.approx([1.0, 2.0, *fall])
    constant = OptimizerConfig(learning_rate=2.0, betas=(0.9, 0.99))
    assert [learning_rate(constant, step, 6) for step in (0, 5)] == [2.0, 2.0]
    only_warm = OptimizerConfig(learning_rate=2.0, betas=(0.9, 0.99), warmup_steps=9, decay="cosine")
    assert learning_rate(only_warm, 3, 4) == pytest.approx(2.0 * 4 / 9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "`learning_rate` is 0.0, expected a number above 0"),
        ({"learning_rate": math.inf}, "`learning_rate` is inf"),
        ({"learning_rate": math.nan}, "`learning_rate` is nan"),
        ({"betas": (0.9, 1.0)}, r"`betas` are \(0.9, 1.0\), expected 0 <= beta < 1"),
        ({"weight_decay": -1.0}, "`weight_decay` is -1.0"),
        ({"warmup_steps": -1}, "`warmup_steps` is -1"),
        ({"final_share": 2.0}, "`final_share` is 2.0, expected 0 to 1"),
        ({"clip_norm": 0.0}, "`clip_norm` is 0.0, expected a number above 0, or none"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        OptimizerConfig(**{"learning_rate": 0.1, "betas": (0.5, 0.9), **changes})


@pytest.fixture
def averaged_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def state(averaged_model, decay):
    config = OptimizerConfig(learning_rate=1.0, betas=(0.5, 0.9))
    return TrainingState({"model": averaged_model}, config, Engine("cpu"), ema_decay=decay)


def change(averaged_model):
    with torch.no_grad():
        for tensor in averaged_model.state_dict().values():
            tensor.add_(1)


def test_it_starts_as_the_weights_and_does_not_share_their_memory(averaged_model):
    averaging = state(averaged_model, 0.5)
    before = {name: tensor.clone() for name, tensor in averaged_model.state_dict().items()}
    change(averaged_model)
    assert all(torch.equal(averaging.averages[name], tensor) for name, tensor in before.items())


def test_it_moves_by_one_minus_the_decay_and_faster_at_first(averaged_model):
    averaging = state(averaged_model, 0.5)
    expected = averaging.averages["0.weight"].clone()
    for step, decay in enumerate((1 / 10, 2 / 11, 3 / 12, 4 / 13)):
        change(averaged_model)
        averaging.update_averages(step)
        expected = decay * expected + (1 - decay) * averaged_model[0].weight
        assert_close(averaging.averages["0.weight"], expected.detach())
    change(averaged_model)
    averaging.update_averages(1000)
    assert_close(averaging.averages["0.weight"], (0.5 * (expected + averaged_model[0].weight)).detach())


def test_counts_are_copied(averaged_model):
    averaging = state(averaged_model, 0.999)
    change(averaged_model)
    averaging.update_averages(1000)
    assert torch.equal(averaging.averages["1.num_batches_tracked"], averaged_model[1].num_batches_tracked)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_has_the_average_inside_the_block_only(averaged_model, fails, training):
    averaged_model.train(training)
    averaging = state(averaged_model, 0.5)
    change(averaged_model)
    raw = {name: tensor.clone() for name, tensor in averaged_model.state_dict().items()}
    try:
        with averaging.averaged():
            assert not averaged_model.training
            for name, tensor in averaged_model.state_dict().items():
                assert torch.equal(tensor, averaging.averages[name])
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert averaged_model.training == training
    assert all(torch.equal(tensor, raw[name]) for name, tensor in averaged_model.state_dict().items())


def test_without_an_average_only_the_mode_changes(averaged_model):
    with state(averaged_model, None).averaged():
        assert not averaged_model.training
    assert averaged_model.training


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


@pytest.mark.parametrize("name", ["one", "other"])
def test_one_gradient_that_is_not_finite_tells_that_the_step_was_skipped_until_the_next_begins(name):
    state = make()
    state.zero_grad()
    step(state)
    assert state.skipped == 0
    for parameter in state.modules[name].parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    state.apply(name, 0.1)
    assert state.skipped == 1
    state.zero_grad()
    assert state.skipped == 0


def test_a_skipped_step_changes_neither_averages_nor_statistics():
    state = make()
    state.zero_grad()
    step(state)
    before = {
        name: tensor.clone() for file in ("model", "ema") for name, tensor in state.tensors()[file].items()
    }
    state.zero_grad()
    images = torch.full((4, 2), torch.nan)
    for module in state.modules.values():
        module(images).sum().backward()
    for name in state.modules:
        assert state.apply(name, 0.1).isnan()
    state.update_averages(1)
    after = {**state.tensors()["model"], **state.tensors()["ema"]}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert state.is_finite()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["weight", "moment", "average"])
def test_whatever_a_saved_step_holds_is_looked_at(where, bad):
    state = make()
    step(state)
    assert state.is_finite()
    moments = state.optimizers["one"].tensors()["bias|exp_avg_sq"]
    found = {"weight": state.modules["other"].weight, "moment": moments, "average": state.averages["bias"]}
    found[where].data[1] = bad
    assert not state.is_finite()
