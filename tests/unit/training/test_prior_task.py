import copy

import msgspec
import numpy as np
import pytest
import torch
from torch.testing import assert_close

import tiny
from vqgan.checkpoints.format import load_model
from vqgan.demo.measures import prior_numbers
from vqgan.errors import ConfigError
from vqgan.prior import to_tokens
from vqgan.synthesizer import Synthesizer
from vqgan.training.engine import Engine
from vqgan.training.observer import to_device
from vqgan.training.prior_task import PriorTask, PriorTaskConfig
from vqgan.types import Batch


@pytest.fixture(scope="module")
def engine():
    return Engine("cpu")


def make(engine, *, keep=1.0, seed=0, dropout=0.0, **loop):
    config = PriorTaskConfig(optimizer=tiny.OPTIMIZER, token_keep_probability=keep)
    synthesizer = tiny.synthesizer(dropout=dropout)
    return PriorTask(synthesizer, config, loop=tiny.loop(**loop), engine=engine, seed=seed)


def reads(task, monkeypatch):
    """What the prior reads and what it is scored on, call by call."""
    calls = []
    score = task.prior.log_probability

    def noting(tokens, condition_tokens, grid, *, read=None, **options):
        calls.append((tokens, read))
        return score(tokens, condition_tokens, grid, read=read, **options)

    monkeypatch.setattr(task.prior, "log_probability", noting)
    return calls


def test_the_loss_is_the_log_probability_of_the_images_tokens(engine):
    task, data = make(engine), tiny.batch(4)
    expected = -copy.deepcopy(task.synthesizer).log_probability(data.images, data.condition).mean()
    measured = task.train_step([data], 0)
    assert_close(measured["loss"], expected.detach())
    assert measured["gradient_norm"] > 0
    assert measured["learning_rate"] == pytest.approx(1e-3)


def test_the_codes_are_those_of_the_model_s_use_also_in_bf16(monkeypatch):
    task, data = make(Engine("cpu", "bf16")), tiny.batch(4)
    quantizer, precisions = task.synthesizer.tokenizer.quantizer, []
    encode = quantizer.encode
    monkeypatch.setattr(
        quantizer, "encode", lambda latents: precisions.append(latents.dtype) or encode(latents)
    )
    calls = reads(task, monkeypatch)
    task.train_step([data], 0)
    assert precisions == [torch.float32]
    assert torch.equal(calls[0][0], task.synthesizer.tokenizer.encode(data.images).flatten(1))


def test_only_the_prior_learns(engine):
    task = make(engine)
    before = {name: tensor.clone() for name, tensor in task.synthesizer.state_dict().items()}
    task.train_step([tiny.batch(4)], 0)
    changed = {n for n, tensor in task.synthesizer.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed
    assert all(name.startswith("prior.") for name in changed)
    assert not any(p.requires_grad for p in task.synthesizer.tokenizer.parameters())
    assert not task.synthesizer.tokenizer.training
    assert task.prior.training


def test_a_step_does_not_wait_for_the_images_values(engine, monkeypatch):
    monkeypatch.setattr(
        "vqgan.tokenizer.tokenizer.check_values", lambda images: pytest.fail("a GPU would wait")
    )
    make(engine).train_step([tiny.batch(4)], 0)


def test_two_micro_batches_are_one_batch(engine):
    whole, parts, data = make(engine), make(engine), tiny.batch(4)
    for step in range(2):
        one, two = whole.train_step([data], step), parts.train_step(tiny.split(data, 2), step)
        assert_close(one["loss"], two["loss"])
        assert_close(one["gradient_norm"], two["gradient_norm"])


def test_corrupted_tokens_are_read_and_true_ones_are_scored(engine, monkeypatch):
    task, data = make(engine, keep=0.5), tiny.batch(64)
    calls = reads(task, monkeypatch)
    task.train_step([data], 0)
    ((scored, read),) = calls
    assert torch.equal(scored, task.synthesizer.tokenizer.encode(data.images).flatten(1))
    share = (scored != read).float().mean()
    assert 0.35 < share < 0.6  # half of them, less those that drew their own code
    assert read.min() >= 0
    assert read.max() < tiny.CODES


def test_corruption_follows_from_the_seed_and_the_samples_number_alone(engine, monkeypatch):
    def corrupted(seed, data):
        task = make(engine, keep=0.5, seed=seed)
        calls = reads(task, monkeypatch)
        torch.manual_seed(len(data))
        task.train_step(data, 0)
        return torch.cat([read for _, read in calls])

    data = tiny.batch(6, first=10)
    whole = corrupted(0, [data])
    assert torch.equal(corrupted(0, tiny.split(data, 3)), whole)
    turned = Batch(data.images.flip(0), {"class": data.condition["class"].flip(0)}, data.sample.flip(0))
    assert torch.equal(corrupted(0, [turned]), whole.flip(0))
    later = Batch(data.images, data.condition, data.sample + 6)
    assert not torch.equal(corrupted(0, [later]), whole)
    assert not torch.equal(corrupted(1, [data]), whole)


def test_evaluation_is_without_corruption_and_dropout_and_with_the_averaged_weights(engine, monkeypatch):
    task, data = make(engine, keep=0.3, dropout=0.5, ema_decay=0.9), tiny.batch(5)
    task.train_step([data], 0)
    averaged = copy.deepcopy(task.synthesizer)
    averaged.prior.load_state_dict(task.state.averages)
    expected = -averaged.eval().log_probability(data.images, data.condition).mean()
    calls = reads(task, monkeypatch)
    held_out = task.evaluate([*tiny.split(data, 2)])
    assert held_out["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert all(torch.equal(scored, read) for scored, read in calls)
    assert task.evaluate([]) == {}
    assert task.prior.training


def test_pictures_are_samples_a_greedy_one_and_completions_always_the_same(engine):
    task, data = make(engine), tiny.batch(3)
    reports = []
    first, second = (task.pictures(data, reports.append) for _ in range(2))
    assert {name: tuple(images.shape) for name, images in first.items()} == {
        "samples": (3, 1, 8, 8),
        "greedy": (1, 1, 8, 8),
        "completed": (6, 1, 8, 8),
    }
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["completed"][:3], data.images)
    assert len(reports) >= 2 * 3 * 2


def test_conditions_that_the_model_does_not_read_are_left_aside(engine):
    data = tiny.batch(4)
    more = Batch(data.images, {**data.condition, "depth": torch.zeros(4)}, data.sample)
    assert_close(make(engine).train_step([more], 0)["loss"], make(engine).train_step([data], 0)["loss"])


def test_the_file_holds_the_whole_synthesizer_with_the_averaged_prior(engine, tmp_path):
    task = make(engine, ema_decay=0.9)
    task.train_step([tiny.batch(4)], 0)
    task.state.export(tmp_path / "prior.safetensors", 1, task.state.tensors())
    model, header = load_model(tmp_path / "prior.safetensors")
    assert (header.kind, header.weights, header.step) == ("synthesizer", "ema", 1)
    for name, tensor in model.state_dict().items():
        own = task.state.averages.get(name.removeprefix("prior."))
        expected = own if name.startswith("prior.") else task.synthesizer.state_dict()[name]
        assert torch.equal(tensor, expected)


def test_tokens_are_read_in_the_order_of_the_prior_and_so_are_they_measured(engine, monkeypatch):
    data = tiny.batch(4)
    config = msgspec.structs.replace(tiny.synthesizer_config(), token_order="spiral_in")
    model = Synthesizer(config).eval()
    grids = model.tokenizer.encode(data.images)
    expected = -copy.deepcopy(model).log_probability(data.images, data.condition).mean().item()
    numbers = prior_numbers(
        model, grids.numpy(), grids.numpy(), data.condition["class"].numpy(), lambda *progress: None
    )
    assert numbers["prior_loss"] == pytest.approx(expected, rel=1e-5)
    task = PriorTask(
        model, PriorTaskConfig(optimizer=tiny.OPTIMIZER), loop=tiny.loop(), engine=engine, seed=0
    )
    calls = reads(task, monkeypatch)
    assert task.train_step([data], 0)["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(calls[0][0], to_tokens(grids, "spiral_in"))
    assert not torch.equal(calls[0][0], grids.flatten(1))


def with_context():
    """Images of 4 x 5 cells, of which a sample is 2 x 2; the corners of the samples differ."""
    data = tiny.batch(3)
    pixels = torch.rand(3, 1, 16, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(pixels, data.condition, data.sample, corner=torch.tensor([[0, 4], [4, 4], [8, 12]]))


def test_of_images_with_context_the_prior_learns_the_codes_that_the_whole_has_where_the_sample_is(
    engine, monkeypatch
):
    task, data = make(engine), with_context()
    whole = task.synthesizer.tokenizer.encode(data.images)
    expected = torch.stack([whole[0, :2, 1:3], whole[1, 1:3, 1:3], whole[2, 2:4, 3:5]]).flatten(1)
    calls = reads(task, monkeypatch)
    task.train_step([data], 0)
    task.evaluate([data])
    assert len(calls) == 2
    assert all(torch.equal(scored, expected) for scored, _ in calls)


def test_codes_that_are_known_are_learned_without_encoding(engine, monkeypatch):
    task, data = make(engine), tiny.batch(4)
    known = Batch(
        torch.empty(4, 1, 0, 0),
        data.condition,
        data.sample,
        indices=task.synthesizer.tokenizer.encode(data.images),
    )
    monkeypatch.setattr(task.synthesizer.tokenizer, "latents", lambda images: pytest.fail("encoded"))
    losses = [task.train_step([to_device(known, torch.device("cpu"))], 0)["loss"]]
    losses.append(make(engine).train_step([data], 0)["loss"])
    assert torch.equal(*losses)


def test_pictures_show_the_samples_without_context(engine):
    data = with_context()
    groups = make(engine).pictures(to_device(data, torch.device("cpu")), lambda progress: None)
    expected = [data.images[0, :, :8, 4:12], data.images[1, :, 4:12, 4:12], data.images[2, :, 8:16, 12:20]]
    assert torch.equal(groups["completed"][:3], torch.stack(expected))
    assert groups["samples"].shape == (3, 1, 8, 8)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_an_impossible_share_of_kept_tokens_is_refused(share):
    with pytest.raises(ConfigError, match=f"`token_keep_probability` is {share}, expected more than 0"):
        PriorTaskConfig(optimizer=tiny.OPTIMIZER, token_keep_probability=share)


def shown(task, monkeypatch):
    """The condition tokens that the prior is shown, call by call."""
    calls = []
    score = task.prior.log_probability

    def noting(tokens, condition_tokens, grid, *, read=None, **options):
        calls.append(condition_tokens)
        return score(tokens, condition_tokens, grid, read=read, **options)

    monkeypatch.setattr(task.prior, "log_probability", noting)
    return calls


def dropping(engine, share, *, seed=0):
    config = PriorTaskConfig(optimizer=tiny.OPTIMIZER, condition_dropout=share)
    model = tiny.synthesizer(has_null=True)
    return PriorTask(model, config, loop=tiny.loop(), engine=engine, seed=seed)


def test_the_condition_is_hidden_from_a_share_of_the_samples(engine, monkeypatch):
    task = dropping(engine, 0.25)
    calls = shown(task, monkeypatch)
    task.train_step([tiny.batch(800)], 0)
    hidden = calls[0][:, 0] == 3
    assert 0.2 < hidden.float().mean() < 0.3
    assert torch.equal(calls[0][~hidden, 0], (torch.arange(800) % 3)[~hidden])


def test_what_is_hidden_follows_from_the_seed_and_the_samples_number_alone(engine, monkeypatch):
    whole, other = dropping(engine, 0.5), dropping(engine, 0.5, seed=1)
    calls, others = shown(whole, monkeypatch), shown(other, monkeypatch)
    data = tiny.batch(16, first=100)
    whole.train_step([data], 0)
    whole.train_step(tiny.split(data, 2), 1)
    other.train_step([data], 0)
    assert torch.equal(calls[0], torch.cat(calls[1:]))
    assert not torch.equal(calls[0], others[0])


def test_nothing_is_hidden_when_the_prior_is_measured(engine, monkeypatch):
    task = dropping(engine, 0.9)
    calls = shown(task, monkeypatch)
    task.evaluate([tiny.batch(64)])
    assert torch.equal(calls[0][:, 0], torch.arange(64) % 3)


@torch.no_grad()
def test_held_out_images_are_also_scored_without_their_condition_where_that_was_learned(engine):
    task, data = dropping(engine, 0.25), tiny.batch(5)
    numbers = task.evaluate(tiny.split(data, 2))
    with_it, without = (
        float(-task.synthesizer.log_probability(data.images, condition).mean())
        for condition in (data.condition, None)
    )
    assert numbers == pytest.approx({"loss": with_it, "unconditional_loss": without}, rel=1e-5)
    assert with_it != pytest.approx(without, rel=1e-5)
    assert make(engine).evaluate([data]).keys() == {"loss"}


def test_a_condition_that_tells_the_image_is_worth_the_difference_of_the_held_out_losses(engine):
    task = dropping(engine, 0.5)
    images = tiny.images(3)[torch.arange(24) % 3]
    data = Batch(images, {"class": torch.arange(24) % 3}, torch.arange(24))
    for step in range(400):
        task.train_step([data], step)
    numbers = task.evaluate([data])
    told = 4 * (numbers["unconditional_loss"] - numbers["loss"])
    assert told == pytest.approx(np.log(3), abs=0.1)  # nats of one of three images, over its four tokens
