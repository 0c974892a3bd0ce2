import torch

import tiny
from vqgan.data import open_source
from vqgan.training.build import build_task
from vqgan.training.engine import Engine
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorTask, PriorTaskConfig
from vqgan.training.recompute import recompute


def prior_task():
    synthesizer = tiny.synthesizer(dropout=0.3)
    config = PriorTaskConfig(optimizer=OptimizerConfig(learning_rate=0.01, betas=(0.9, 0.95)))
    return PriorTask(synthesizer, config, loop=tiny.loop(), engine=Engine("cpu"), seed=0)


def tokenizer_task(folder, recompute=False):
    run = tiny.tokenizer_run(recompute=recompute)
    return build_task(run, Engine("cpu"), open_source(tiny.data(folder)), seed=0, start_from=None)[1]


def one_step(task):
    """The gradients of a step, and how often the first layer of each part was called."""
    calls = []
    first = next(
        m for m in task.state.model.modules() if isinstance(m, torch.nn.LayerNorm | torch.nn.GroupNorm)
    )
    first.register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(5)
    task.train_step([tiny.batch(4)], 0)
    return [parameter.grad.clone() for parameter in task.state.model.parameters()], len(calls)


def test_gradients_of_a_prior_are_the_same_bit_by_bit_with_dropout():
    kept, again = prior_task(), prior_task()
    recompute(again.state.model)
    (expected, once), (found, twice) = one_step(kept), one_step(again)
    assert all(map(torch.equal, found, expected))
    assert (once, twice) == (1, 2)
    assert again.state.model.state_dict().keys() == kept.state.model.state_dict().keys()


def test_a_tokenizers_run_says_whether_its_levels_are_computed_again(tmp_path):
    expected, once = one_step(tokenizer_task(tmp_path))
    found, twice = one_step(tokenizer_task(tmp_path, recompute=True))
    assert all(map(torch.equal, found, expected))
    assert (once, twice) == (1, 2)


def test_without_gradients_nothing_is_computed_again(tmp_path):
    task = tokenizer_task(tmp_path, recompute=True)
    with torch.no_grad():
        task.tokenizer(tiny.images(2))
    assert task.evaluate([tiny.batch(2)])["psnr"] > 0
