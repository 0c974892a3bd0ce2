import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import tiny
from vqgan.errors import ConfigError
from vqgan.training.adversary import WINDOW, Adversary, DiscriminatorConfig
from vqgan.training.engine import Engine
from vqgan.training.losses import lecam_loss
from vqgan.training.tokenizer_task import TokenizerTask, TokenizerTaskConfig


@pytest.fixture(scope="module")
def engine():
    return Engine("cpu")


def make(engine, **changes):
    """A discriminator in training, in float64."""
    torch.manual_seed(1)
    adversary = Adversary(DiscriminatorConfig(base_channels=4, num_layers=1, **changes), 1, engine)
    adversary.network.double()
    return adversary


def make_task(engine, **changes):
    """A tokenizer's training with that discriminator."""
    discriminator = DiscriminatorConfig(base_channels=4, num_layers=1, **changes)
    config = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, discriminator=discriminator)
    tokenizer = tiny.tokenizer().double()
    torch.manual_seed(1)
    task = TokenizerTask(tokenizer, config, loop=tiny.loop(), engine=engine, seed=0)
    task.adversary.network.double()
    return task


def batch(seed=0):
    whole = tiny.batch(4, seed=seed)
    return type(whole)(whole.images.double(), whole.condition, whole.sample)


def pair():
    return (tiny.images(4, seed=seed).double() for seed in (1, 2))


def gradients(network):
    return [parameter.grad.clone() for parameter in network.parameters()]


def test_the_relativistic_game_compares_each_patch_with_that_of_its_own_image(engine):
    adversary, (real, fake) = make(engine, loss="relativistic", norm="none"), pair()
    network = adversary.network
    ours, theirs = network(real), network(fake)
    assert_close(adversary.generator_loss(real, theirs), F.softplus(ours - theirs).mean())
    terms = adversary.add_gradients(real, fake, None, 2.0)
    found = gradients(network)
    network.zero_grad()
    loss = torch.log1p(torch.exp(theirs - ours)).mean()
    (loss / 2).backward()
    assert_close(terms["discriminator_loss"], loss.detach())
    for one, other in zip(found, gradients(network), strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("which", ["r1", "r2"])
def test_slopes_are_those_of_finite_differences(engine, which):
    adversary, (real, fake) = make(engine, norm="none", **{which: 3.0}), pair()
    plain = make(engine, norm="none")
    penalty = [each.add_gradients(real, fake, None, 1.0)["discriminator_loss"] for each in (adversary, plain)]
    images, network = real if which == "r1" else fake, adversary.network
    slopes = torch.zeros(images.numel()).double()
    with torch.no_grad():
        for number in range(images.numel()):
            step = torch.zeros(images.numel()).double()
            step[number] = 1e-5
            step = step.view_as(images)
            slopes[number] = (network(images + step).sum() - network(images - step).sum()) / 2e-5
        patches = network(images).numel()
    assert_close(penalty[0] - penalty[1], 1.5 * slopes.square().sum() / patches, rtol=1e-5, atol=0)


def test_the_penalty_of_a_linear_judge_is_its_squared_weight_and_is_learned_from(engine):
    adversary, (real, fake) = make(engine, r1=2.0, r2=4.0), pair()
    adversary.network.layers = nn.Sequential(nn.Conv2d(1, 1, 1).double())
    weight = adversary.network.layers[0].weight
    weight.data.fill_(0.5)
    adversary.config = DiscriminatorConfig(loss="vanilla", r1=2.0, r2=4.0)
    adversary.add_gradients(real, fake, None, 1.0)
    found = weight.grad.clone()
    adversary.network.zero_grad()
    adversary.config = DiscriminatorConfig(loss="vanilla")
    adversary.add_gradients(real, fake, None, 1.0)
    assert_close(found - weight.grad, torch.full_like(weight, (2.0 + 4.0) * 0.5))


def test_lecam_holds_on_to_running_means_of_the_logits(engine):
    adversary, plain, (real, fake) = make(engine, lecam=0.5), make(engine), pair()
    adversary.memory["anchors"].copy_(torch.tensor([0.3, -0.2]))
    terms = adversary.add_gradients(real, fake, None, 1.0)
    expected = plain.add_gradients(real, fake, None, 1.0)["discriminator_loss"]
    term = lecam_loss(plain.network(real), plain.network(fake), torch.tensor(0.3), torch.tensor(-0.2))
    assert_close(terms["discriminator_loss"], (expected + 0.5 * term).detach())
    adversary.settle(0, terms)
    means = torch.stack([terms["logits_real"], terms["logits_fake"]])
    anchors = 0.99 * torch.tensor([0.3, -0.2]) + 0.01 * means.float()
    assert_close(adversary.memory["anchors"], anchors)
    adversary.settle(1, {**terms, "logits_real": torch.tensor(torch.nan)})
    assert adversary.memory["anchors"].isfinite().all()


def test_logits_are_counted_on_the_right_side(engine):
    real, fake = (torch.tensor(values).view(4, 1, 1, 1) for values in ([3.0, 1.0, 2.0, -1.0], [1.0] * 4))
    for loss, shares in (("hinge", (0.75, 0.0)), ("relativistic", (0.5, 0.5))):
        adversary = make(engine, loss=loss, norm="none")
        adversary.network.layers = nn.Sequential(nn.Conv2d(1, 1, 1))
        nn.init.ones_(adversary.network.layers[0].weight)
        nn.init.zeros_(adversary.network.layers[0].bias)
        terms = adversary.add_gradients(real, fake, None, 1.0)
        assert (float(terms["right_real"]), float(terms["right_fake"])) == shares


def test_the_weight_rises_after_the_start(engine):
    adversary = make(engine, start=3, ramp_steps=4, weight=0.8)
    assert [adversary.weight(step) for step in range(2, 9)] == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    )
    assert [make(engine, start=1).weight(step) for step in (0, 1)] == [0, 0.8]


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_two_micro_batches_are_one_batch_to_the_discriminator(engine, norm):
    settings = {"loss": "relativistic", "r1": 0.5, "r2": 0.25, "lecam": 0.1, "norm": norm}
    whole, parts = (make_task(engine, start=9, discriminator_start=0, **settings) for _ in range(2))
    for step in range(2):
        one = whole.train_step([batch(step)], step)
        two = parts.train_step(tiny.split(batch(step), 2), step)
        assert_close(one["discriminator_loss"], two["discriminator_loss"])
        assert_close(one["discriminator_gradient_norm"], two["discriminator_gradient_norm"])
    assert_close(whole.state.counters["anchors"], parts.state.counters["anchors"])
    for one, two in zip(*(task.adversary.network.parameters() for task in (whole, parts)), strict=True):
        assert_close(one, two, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("reconstruction", ["same", "updated"])
def test_the_whole_recipe_trains_both(engine, reconstruction):
    task = make_task(
        engine, loss="relativistic", r1=0.5, r2=0.5, norm="none", ramp_steps=2, reconstruction=reconstruction
    )
    first, second = (task.train_step([batch(step)], step) for step in range(2))
    assert all(value.isfinite() for value in second.values())
    assert second["adaptive_weight"] > first["adaptive_weight"] > 0
    assert first.keys() == second.keys() >= {"right_real", "right_fake", "logits_real", "loss"}


def test_spectral_norms_tend_to_one_and_move_only_between_steps(engine):
    adversary, (real, _) = make(engine, norm="spectral"), pair()
    network = adversary.network
    before = copy.deepcopy(network.state_dict())
    network(real)
    network.train()
    network(real)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    for _ in range(50):
        network.refresh()
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            assert_close(norm, torch.ones(()).double(), rtol=1e-3, atol=0)
        assert not isinstance(layer, nn.BatchNorm2d)


def test_alone_the_discriminator_learns_until_it_holds_its_own_or_for_the_given_steps(engine):
    task = make_task(engine, start=1, recover_steps=2, ramp_steps=2)
    states = []
    for step in range(4):
        before = copy.deepcopy(task.state.tensors()["model"])
        measured = task.train_step([batch(step)], step)
        after = task.state.tensors()["model"]
        moved = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
        states.append((moved, "right_recently" in measured, float(measured.get("adaptive_weight", -1)) > 0))
    assert states == [
        ({"tokenizer"}, False, False),
        ({"discriminator"}, True, False),
        ({"discriminator"}, True, False),
        ({"tokenizer", "discriminator"}, False, True),
    ]
    assert (task.adversary.weight(3), task.adversary.weight(4)) == (0.4, 0.8)


def test_it_holds_its_own_once_most_recent_logits_are_right_and_a_saved_step_knows(engine):
    task = make_task(engine, recover_steps=1000)
    task.train_step([batch()], 0)
    assert task.adversary.is_alone(1)
    task.adversary.memory["right"].fill_(0.9)
    recently = task.train_step([batch()], 1)["right_recently"]
    assert 0.75 < recently < 0.9 + 1 / WINDOW
    assert not task.adversary.is_alone(2)
    other = make_task(engine, recover_steps=1000)
    assert other.adversary.is_alone(2)
    other.state.load(copy.deepcopy(task.state.tensors()), where="there")
    assert not other.adversary.is_alone(2)


@pytest.mark.parametrize(
    ("field", "value"), [("r1", -1.0), ("lecam", -0.1), ("ramp_steps", -1), ("recover_steps", -1)]
)
def test_impossible_settings_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"`{field}` is {value}"):
        DiscriminatorConfig(**{field: value})
