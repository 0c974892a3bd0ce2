"""What forgives errors: noise that goes away, and layers that tell codes' vectors."""

import msgspec
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import tiny
from vqgan.errors import ConfigError
from vqgan.prior import LocalSpan, Prior
from vqgan.synthesizer import Synthesizer
from vqgan.training.alignment import Alignment
from vqgan.training.engine import Engine
from vqgan.training.prior_task import PriorTask, PriorTaskConfig

LOCAL = {"span": LocalSpan(rows=1, columns=1), "positions": "rotary", "vocabulary": "separate"}
SPANS = pytest.mark.parametrize("shape", [{}, LOCAL], ids=["full", "local"])


def make(*, shape=None, loop=None, **settings):
    config = tiny.synthesizer_config()
    prior = msgspec.structs.replace(config.prior, **{"depth": 4, **(shape or {})})
    torch.manual_seed(0)
    model = Synthesizer(msgspec.structs.replace(config, prior=prior))
    task = PriorTaskConfig(optimizer=tiny.OPTIMIZER, **settings)
    return PriorTask(model, task, loop=tiny.loop(**(loop or {})), engine=Engine("cpu"), seed=0)


@SPANS
@pytest.mark.parametrize("grid", [(2, 2), (7, 9)], ids=["one tile", "tiles"])
def test_layers_between_are_told_for_the_entry_of_each_token(shape, grid, monkeypatch):
    monkeypatch.setattr("vqgan.prior.local._MAX_DENSE", 20)
    config = msgspec.structs.replace(
        tiny.synthesizer_config().prior, **{"depth": 3, "context_length": 64, **shape}
    )
    torch.manual_seed(0)
    prior = Prior(config).double().eval()
    tokens = torch.randint(tiny.CODES, (2, grid[0] * grid[1]))
    between = dict.fromkeys((0, 2), torch.empty(0))
    logits = prior(tokens, torch.tensor([[0], [1]]), grid, between=between)
    assert_close(
        prior.head(prior.transformer.norm(between[2])), logits
    )  # the last layer is what the head reads
    assert between[0].shape == between[2].shape
    # In the first layer as in the last, the entry of a token knows nothing of that token.
    changed = tokens.clone()
    changed[:, 1] = (changed[:, 1] + 1) % tiny.CODES
    again = dict.fromkeys((0, 2), torch.empty(0))
    prior(changed, torch.tensor([[0], [1]]), grid, between=again)
    assert torch.equal(again[0][:, :2], between[0][:, :2])
    assert not torch.equal(again[0][:, 2], between[0][:, 2])


@SPANS
def test_the_first_layer_tells_the_code_before_and_the_later_one_the_next(shape):
    config = msgspec.structs.replace(tiny.synthesizer_config().prior, depth=4, **shape)
    alignment = Alignment(config, 16)
    assert list(alignment.new_layers()) == [0, 2]
    alignment.current, alignment.next = nn.Identity(), nn.Identity()
    codes = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    grid = codes.view(2, 2, 3, 16) if shape else codes.view(2, 1, 6, 16)
    before = torch.cat([torch.full_like(grid[:, :, :1], 9.0), grid[:, :, :-1]], dim=2).view(2, 6, 16)
    assert float(alignment({0: 3 * before, 2: 2 * codes}, codes, (2, 3))) == pytest.approx(0, abs=1e-6)
    assert float(alignment({0: 3 * before, 2: -codes}, codes, (2, 3))) == pytest.approx(1, abs=1e-6)
    assert float(alignment({0: codes, 2: codes}, codes, (2, 3))) > 0.1
    assert float(alignment({0: codes[:, :1], 2: -codes[:, :1]}, codes[:, :1], (1, 1))) == pytest.approx(1)


@SPANS
def test_both_losses_are_descended_and_the_model_s_file_holds_the_prior_alone(shape, tmp_path):
    task, data = make(shape=shape, alignment=0.5), tiny.batch(4)
    steps = [task.train_step([data], step) for step in range(30)]
    for row in steps:
        assert_close(row["loss"], row["likelihood_loss"] + 0.5 * row["alignment_loss"])
    assert steps[-1]["alignment_loss"] < 0.8 * steps[0]["alignment_loss"]
    assert steps[-1]["likelihood_loss"] < steps[0]["likelihood_loss"]
    assert task.evaluate([data]).keys() == {"loss"}
    task.state.export(tmp_path / "prior.safetensors", 30, task.state.tensors())
    plain = make(shape=shape)
    assert plain.prior.state_dict().keys() == task.prior.state_dict().keys()
    assert_close(plain.train_step([data], 0)["loss"], steps[0]["likelihood_loss"])


def test_micro_batches_and_a_resumed_run_are_the_same_training():
    data = tiny.batch(4)
    whole, parts, resumed = (make(alignment=1.0, token_noise="annealed") for _ in range(3))
    for step in range(2):
        one, two = whole.train_step([data], step), parts.train_step(tiny.split(data, 2), step)
        assert_close(one["loss"], two["loss"])
    resumed.state.load(whole.state.tensors(), where="here")
    rows = [task.train_step([data], 2)["loss"] for task in (whole, resumed)]
    assert torch.equal(*rows)
    tensors = [task.state.tensors()["model"] for task in (whole, resumed)]
    assert any(name.startswith("alignment.") for name in tensors[0])
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_annealed_noise_differs_from_sample_to_sample_and_goes_away():
    task, tokens = make(token_noise="annealed", loop={"steps": 400}), torch.zeros(500, 64, dtype=torch.int64)
    samples = torch.arange(500)

    def shares(step):
        read = task._corrupted(tokens, samples, step)
        return (read != 0).float().mean(dim=1) * tiny.CODES / (tiny.CODES - 1)  # some draw their own code

    first, half, last = shares(0), shares(150), shares(300)
    assert first.mean() == pytest.approx(0.5, abs=0.04)
    assert first.std() == pytest.approx(12**-0.5, abs=0.04)  # uniform, not the same for all
    assert half.mean() == pytest.approx(0.25, abs=0.03)
    assert not last.any()
    # A function of the seed and the sample's number.
    other = task._corrupted(tokens[:7], samples[100:107], 0)
    assert torch.equal(other, task._corrupted(tokens, samples, 0)[100:107])


def test_a_fixed_share_beside_annealed_noise_is_refused():
    with pytest.raises(ConfigError, match=r"`token_keep_probability` is 0.9, but annealed noise") as caught:
        make(token_noise="annealed", token_keep_probability=0.9)
    assert "task.token_keep_probability=1" in caught.value.hint
