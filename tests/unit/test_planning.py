import msgspec
import pytest
import torch
import torch.distributed as dist
from torch.profiler import profile

import tiny
import vqgan
from vqgan.denoiser import Denoiser, DenoiserConfig
from vqgan.planning import plan
from vqgan.runs import resolve
from vqgan.training import census
from vqgan.training.build import build_tokenizer_task
from vqgan.training.engine import Engine

SIZE = 16


@pytest.fixture(scope="module")
def whole():
    return plan(tiny.tokenizer_run(batch_size=SIZE), memory=1000, device="cpu")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("plan") / "tokenizer.safetensors"
    vqgan.save_model(tiny.tokenizer(), file, weights="raw")
    return file


@pytest.fixture(scope="module")
def prior(tokenizer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(census, "_ROUNDS", 1)
        patch.setattr(census, "_CACHE", 1)
        return plan(prior_run(), tokenizer=tokenizer, device="cpu")


@pytest.fixture(scope="module")
def shared(tokenizer):
    run = prior_run(accumulate=2, recompute=True)
    torch.manual_seed(1)
    found = plan(run, tokenizer=tokenizer, devices=2, memory=1000, device="cpu")
    return found, torch.rand(3)


def prior_run(**training):
    run = tiny.prior_run(batch_size=4 * SIZE, **training)
    return msgspec.structs.replace(run, conditioner=tiny.synthesizer_config().conditioner)


@pytest.fixture
def task():
    run = tiny.tokenizer_run(batch_size=SIZE)
    task = build_tokenizer_task(run, Engine("cpu"), seed=0, start_from=None)[1]
    task.train_step([tiny.batch(SIZE)], 3)
    return task


def count(module):
    return sum(each.numel() for each in module.parameters())


def size(tensors):
    return sum(each.nbytes for each in tensors)


def allocated(step):
    """The most bytes that PyTorch's allocator gave out while a step ran, above those before."""
    with profile(profile_memory=True) as seen:
        step()
    events = [each for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"]
    now = most = 0
    for each in sorted(events, key=lambda each: each.start_ns()):
        now += each.nbytes()
        most = max(most, now)
    return most


def test_the_parts_are_those_of_the_real_training(whole, task):
    networks = task.state.modules
    assert whole.parameters == {name: count(network) for name, network in networks.items()}
    weights = [each for network in networks.values() for each in network.parameters()]
    kept = task.state.tensors()
    expected = {
        "weights": size([*weights, *(each for network in networks.values() for each in network.buffers())]),
        "gradients": size(each.grad for each in weights),
        "optimizer": size(kept["optimizer"].values()),
        "averages": size(kept["ema"].values()),
        "batch": tiny.batch(SIZE).images.nbytes,
    }
    assert {name: whole.largest[name] for name in expected} == expected
    assert whole.largest.keys() == {*expected, "activations"}


def test_the_peak_is_that_of_a_real_step(whole, task):
    task.state.zero_grad()
    kept = sum(whole.peak[name] for name in ("weights", "optimizer", "averages", "batch"))
    step = allocated(lambda: task.train_step([tiny.batch(SIZE)], 3))
    assert kept + step == pytest.approx(sum(whole.peak.values()), rel=0.05)


def test_what_does_not_fit_is_not_measured(whole):
    assert whole.seconds is None
    assert whole.memory == 1000


def test_a_priors_networks_logits_and_time_are_told(prior):
    model = tiny.synthesizer()
    assert prior.parameters == {"tokenizer": count(model.tokenizer), "prior": count(model.prior)}
    # Of fp32: their logarithms of probabilities, the gradient of these, and that of the logits.
    assert prior.largest["logits"] == 3 * 4 * (4 * SIZE * 2 * 2) * tiny.CODES
    assert prior.seconds is not None
    assert 0 < prior.seconds < 10


def test_what_saves_memory_saves_it(prior, shared):
    found, _ = shared
    assert found.largest["activations"] < 0.3 * prior.largest["activations"]
    assert prior.flops / 2 < found.flops < prior.flops
    for part in ("weights", "gradients", "optimizer", "averages"):
        assert found.largest[part] == prior.largest[part]


def test_devices_share_the_batch_send_their_gradients_and_leave_no_trace(prior, shared):
    found, drawn = shared
    assert found.largest["batch"] == prior.largest["batch"] / 2
    assert found.largest["exchange"] == prior.largest["gradients"]
    assert not dist.is_initialized()
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"run": "half-prior"}, "a prior is trained on a tokenizer's codes"),
        (
            {"run": "f16-prior", "tokenizer": "digits-prior"},
            "`digits-prior` trains a prior, expected a tokenizer",
        ),
        ({"run": "digits-tokenizer", "tokenizer": "digits-tokenizer"}, "only a prior has a tokenizer"),
        ({"run": "digits-tokenizer", "devices": 0}, "`devices` is 0, expected at least 1"),
        (
            {"run": "small-prior", "devices": 2, "overrides": ["training.shard=true"]},
            "`training.shard` is true, but a plan",
        ),
        ({"run": "digits-tokenizer", "memory": 0}, "`memory` is 0 bytes, expected a positive number"),
        (
            {"run": "digits-tokenizer", "devices": 3},
            "`batch_size` 64 cannot be divided into 3 equal micro-batches",
        ),
    ],
)
def test_a_mistake_is_explained(given, message):
    with pytest.raises(vqgan.ConfigError) as caught:
        plan(**given, device="cpu")
    assert message in str(caught.value)


def test_a_denoiser_is_planned_and_counted_where_it_compares_images(tmp_path):
    found = plan("laptop-denoiser", memory=1000, device="cpu", overrides=["training.batch_size=2"])
    assert found.parameters.keys() == {"denoiser"}
    config = resolve("laptop-denoiser").encoder
    model, file = Denoiser(DenoiserConfig(encoder=config)), tmp_path / "denoiser.safetensors"
    vqgan.save_model(model, file, weights="raw")
    changes = ["training.batch_size=2", "task.discriminator=null", f"task.perceptual.weights={file}"]
    found = plan("laptop-tokenizer", memory=1000, device="cpu", overrides=changes)
    assert found.parameters["perceptual"] == count(model)
