import pytest
import torch
from torch.testing import assert_close

import tiny
from vqgan.training.engine import Engine
from vqgan.training.observer import to_device
from vqgan.training.optimizers import FIRST_LOSS_SCALE, OptimizerConfig
from vqgan.training.prior_task import PriorTask, PriorTaskConfig
from vqgan.training.tokenizer_task import DiscriminatorConfig, TokenizerTask, TokenizerTaskConfig

OPTIMIZER = OptimizerConfig(learning_rate=0.01, betas=(0.5, 0.9))
needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_card)]


def tokenizer_task(precision="fp16", device="cpu"):
    torch.manual_seed(0)
    discriminator = DiscriminatorConfig(base_channels=4, num_layers=1)
    config = TokenizerTaskConfig(optimizer=OPTIMIZER, discriminator=discriminator)
    how = {"loop": tiny.loop(), "engine": Engine(device, precision), "seed": 0}
    return TokenizerTask(tiny.tokenizer().to(device), config, **how)


def prior_task(device="cpu"):
    return PriorTask(
        tiny.synthesizer().to(device),
        PriorTaskConfig(optimizer=OPTIMIZER),
        loop=tiny.loop(),
        engine=Engine(device, "fp16"),
        seed=0,
    )


def batch(device="cpu"):
    return to_device(tiny.batch(4), torch.device(device))


def weights(task):
    return {name: tensor.clone() for name, tensor in task.state.tensors()["model"].items()}


@pytest.mark.parametrize("device", DEVICES)
def test_losses_and_the_adaptive_weight_do_not_depend_on_the_scale(device):
    half, single = tokenizer_task(device=device), tokenizer_task("fp32", device)
    assert half.state.loss_scale == FIRST_LOSS_SCALE
    half.state.counters["loss_scale"].fill_(2.0**10)
    found, expected = (task.train_step([batch(device)], 0) for task in (half, single))
    assert half.state.loss_scale == 2.0**10
    assert single.state.loss_scale == 1.0
    for name in (
        "loss",
        "adaptive_weight",
        "gradient_norm",
        "discriminator_loss",
        "discriminator_gradient_norm",
    ):
        assert_close(found[name].float(), expected[name].float(), rtol=0.03, atol=1e-3)


@pytest.mark.parametrize("make", [tokenizer_task, prior_task])
def test_an_overflow_halves_the_scale_and_changes_nothing_else(make):
    task = make()
    task.state.counters["loss_scale"].fill_(2.0**80)
    before = weights(task)
    task.train_step([batch()], 0)
    assert task.state.loss_scale == 2.0**79
    assert not task.state.skipped, "not lost: a smaller scale helps"
    assert all(map(torch.equal, weights(task).values(), before.values()))
    task.state.counters["loss_scale"].fill_(2.0**10)
    task.train_step([batch()], 1)
    assert not all(map(torch.equal, weights(task).values(), before.values()))


def test_a_step_counts_as_skipped_once_the_scale_cannot_fall():
    task = tokenizer_task()
    task.state.counters["loss_scale"].fill_(4.0)
    skipped = []
    for _ in range(3):
        for parameter in task.tokenizer.parameters():
            parameter.grad = torch.full_like(parameter, torch.nan)
        task.state.apply("tokenizer", 0.1)
        task.state.adjust_loss_scale()
        skipped.append(bool(task.state.skipped))
    assert skipped == [False, True, True]
    assert task.state.loss_scale == 1.0


def test_the_scale_doubles_after_many_steps_and_a_resumed_run_goes_on_bit_by_bit(monkeypatch):
    monkeypatch.setattr("vqgan.training.optimizers.GROWS_AFTER", 3)
    whole, first = prior_task(), prior_task()
    for step in range(4):
        whole.train_step([batch()], step)
        if step < 2:
            first.train_step([batch()], step)
    again = prior_task()
    again.state.load(first.state.tensors(), where="here")
    for step in (2, 3):
        again.train_step([batch()], step)
    assert whole.state.loss_scale == again.state.loss_scale == 2 * FIRST_LOSS_SCALE
    assert whole.state.counters["fitting_steps"] == again.state.counters["fitting_steps"] == 1
    assert all(map(torch.equal, weights(again).values(), weights(whole).values()))
