"""Training through compiled code gives the same losses, or goes on without."""

import logging

import msgspec
import pytest
import torch
import torch._inductor.config
from torch._dynamo.exc import TorchDynamoException
from torch.testing import assert_close

import tiny
from vqgan.data import open_source
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.training import compiled
from vqgan.training.build import build_task
from vqgan.training.compiled import compile_networks
from vqgan.training.engine import Engine
from vqgan.training.prior_task import PriorTask, PriorTaskConfig

PARTS = {("Encoder", "forward"), ("Decoder", "features"), ("PatchDiscriminator", "forward")}


def stand_in(monkeypatch, fails=None):
    """In place of ``torch.compile``; gives the list of what was called."""
    calls = []

    def compiled(plain, **how):
        def call(*inputs):
            calls.append((type(plain.__self__).__name__, plain.__name__))
            if fails:
                raise fails
            return plain(*inputs)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    return calls


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name.startswith("vqgan")]


def tokenizer_task(folder, **settings):
    run = tiny.tokenizer_run(**settings)
    return build_task(run, Engine("cpu"), open_source(tiny.data(folder)), seed=0, start_from=None)[1]


def prior_task():
    config = PriorTaskConfig(optimizer=tiny.OPTIMIZER)
    return PriorTask(tiny.synthesizer(), config, loop=tiny.loop(), engine=Engine("cpu"), seed=0)


def test_only_training_goes_through_compiled_code_and_the_weights_keep_their_names(tmp_path, monkeypatch):
    plain, calls = tokenizer_task(tmp_path), stand_in(monkeypatch)
    task = tokenizer_task(tmp_path, compile=True)
    ours, theirs = (each.train_step([tiny.batch(4)], 3) for each in (task, plain))
    assert set(calls) == PARTS
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert task.state.tensors()["model"].keys() == plain.state.tensors()["model"].keys()
    calls.clear()
    assert task.evaluate([tiny.batch(2)]) == plain.evaluate([tiny.batch(2)])
    assert not calls


def test_the_blocks_of_a_prior_are_compiled_and_it_draws_without(monkeypatch):
    calls, task = stand_in(monkeypatch), prior_task()
    compile_networks(task.state.modules.values())
    task.train_step([tiny.batch(4)], 0)
    assert calls == [("Block", "forward")]
    task.pictures(tiny.batch(2), lambda _: None)
    assert len(calls) == 1


def test_a_slope_that_is_penalized_is_not_taken_through_compiled_code(tmp_path, monkeypatch):
    calls, run = stand_in(monkeypatch), tiny.tokenizer_run(compile=True)
    penalized = msgspec.structs.replace(run.task.discriminator, norm="none", r1=1.0, r2=1.0)
    run = msgspec.structs.replace(run, task=msgspec.structs.replace(run.task, discriminator=penalized))
    source = open_source(tiny.data(tmp_path))
    task = build_task(run, Engine("cpu"), source, seed=0, start_from=None)[1]
    task.train_step([tiny.batch(4)], 2)  # only the discriminator knows of the other
    assert set(calls) == PARTS - {("PatchDiscriminator", "forward")}


def test_where_compiling_fails_one_line_says_so_and_training_goes_on(tmp_path, monkeypatch, caplog):
    missing = TorchDynamoException("no compiler\nin sight\n\nask for more")
    plain, calls = tokenizer_task(tmp_path), stand_in(monkeypatch, missing)
    task = tokenizer_task(tmp_path, compile=True)
    with caplog.at_level(logging.WARNING):
        ours, theirs = ([each.train_step([tiny.batch(4)], step) for step in (3, 4)] for each in (task, plain))
    assert all(torch.equal(a[name], b[name]) for a, b in zip(ours, theirs, strict=True) for name in a)
    assert said(caplog) == ["training goes on uncompiled: TorchDynamoException: no compiler in sight"]
    assert len(calls) == 1


def test_what_fails_for_another_reason_than_compiling_is_not_hidden(monkeypatch):
    stand_in(monkeypatch, RuntimeError("not enough memory"))
    task = prior_task()
    compile_networks(task.state.modules.values())
    with pytest.raises(RuntimeError, match="not enough memory"):
        task.train_step([tiny.batch(4)], 0)


class Unchecked(PatchDiscriminator):
    """Without the checks of shapes that tests add, which cannot be compiled."""

    def forward(self, images):
        return self.layers(images)


def passed_back_twice():
    """A new discriminator; then its logits, their gradient at the images, and those of the weights."""
    torch.manual_seed(0)
    network, images = Unchecked(base_channels=4, num_layers=1, norm="none"), torch.rand(2, 3, 8, 8)
    yield network
    logits = network(images.requires_grad_())
    (pull,) = torch.autograd.grad(logits.sum(), images, retain_graph=True)
    logits.square().sum().backward()
    yield [logits.detach(), pull, *(each.grad for each in network.parameters())]


@pytest.fixture
def results(monkeypatch):
    """Of a discriminator as it is, and of one that is compiled."""

    def of(backend):
        monkeypatch.setattr(compiled, "BACKEND", backend)
        plain, ours = passed_back_twice(), passed_back_twice()
        next(plain)
        compile_networks([next(ours)])
        return next(ours), next(plain)

    yield of
    torch.compiler.reset()


def test_compiled_code_may_be_passed_back_through_twice(results, caplog):
    assert_close(*results("aot_eager"))
    assert not said(caplog)


@pytest.mark.filterwarnings("ignore:.torch.jit.*:DeprecationWarning")  # as PyTorch imports its own compiler
def test_without_a_compiler_nothing_is_compiled(results, caplog, monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("missing",))
    assert_close(*results("inductor"), rtol=0, atol=0)
    (line,) = said(caplog)
    assert line.startswith("training goes on uncompiled: ")
    assert "compiler" in line
