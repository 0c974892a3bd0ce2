"""Three training steps of the product itself against those that were recorded from the original."""

import torch
from torch.testing import assert_close

from parity import original
from vqgan.checkpoints.key_maps import DISCRIMINATOR, TOKENIZER
from vqgan.training.adversary import DiscriminatorConfig
from vqgan.training.engine import Engine
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import TokenizerTask, TokenizerTaskConfig
from vqgan.types import Batch

PREFIX = "loss.discriminator."

CONFIG = TokenizerTaskConfig(
    optimizer=OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.9)),
    pixels="l1",
    discriminator=DiscriminatorConfig(weight=0.8, base_channels=16, reconstruction="updated"),
)

NAMES = {
    "total_loss": "loss",
    "quant_loss": "quantizer_loss",
    "nll_loss": "reconstruction_loss",
    "rec_loss": "reconstruction_loss",
    "d_weight": "adaptive_weight",
    "g_loss": "adversarial_loss",
    "disc_loss": "discriminator_loss",
    "logits_real": "logits_real",
    "logits_fake": "logits_fake",
}
"""What the original logged, and what we call it."""


class Run:
    """The task with the recorded weights, and the codes of every forward pass."""

    def __init__(self, case, dtype):
        state = {key: value for key, value in case.state.items() if not key.startswith("loss.")}
        tokenizer = original.tokenizer(case.config["model"]["params"], state, dtype=dtype)
        self.indices = []
        tokenizer.quantizer.register_forward_hook(
            lambda module, inputs, output: self.indices.append(output.indices.flatten())
        )
        self.task = TokenizerTask(
            tokenizer,
            CONFIG,
            loop=LoopConfig(steps=3, batch_size=len(case.tensor("image"))),
            engine=Engine("cpu"),
            seed=0,
        )
        discriminator = self.task.adversary.network.to(dtype)
        recorded = original.discriminator(original.part(case.state, PREFIX), dtype=dtype)
        discriminator.load_state_dict(recorded.state_dict())
        self.networks = (tokenizer, discriminator)
        images = case.tensor("image").to(dtype)
        self.batch = Batch(images, {}, torch.arange(len(images)))

    def named(self, key):
        """Our tensor of an original name: parameter or running statistic."""
        is_discriminator = key.startswith(PREFIX)
        own = self.networks[is_discriminator].state_dict(keep_vars=True)
        keys = (TOKENIZER, DISCRIMINATOR)[is_discriminator]
        (name,) = keys.rename({key.removeprefix(PREFIX): torch.empty(0)}, own)
        return own[name]

    def assert_recorded(self, recorded, prefix, of, tolerance):
        keys = [key for key in recorded if key.startswith(prefix)]
        for key in keys:
            tensor = of(self.named(key.removeprefix(prefix)))
            assert_close(tensor, torch.from_numpy(recorded[key]), rtol=tolerance, atol=tolerance)
        return len(keys)


def assert_logged(measured, log, tolerance):
    for key, value in log.items():
        ours = measured[NAMES[key.removeprefix("train/")]]
        assert_close(
            ours.double(),
            torch.tensor(value, dtype=torch.float64),
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, key=key: f"{key}: {m}",
        )


def compared(log):
    """What was logged of a step, without the perceptual loss (off) and the factor (1)."""
    return {key: value for key, value in log.items() if key not in ("train/p_loss", "train/disc_factor")}


def test_three_steps_match_the_original_in_float64(reference):
    case = reference("train3")
    recorded, logs = case.arrays("io64.npz"), case.read_json("logs64.json")["logs"]
    run = Run(case, torch.float64)
    for step, log in enumerate(logs):
        measured = run.task.train_step([run.batch], step)
        assert {key.removeprefix("train/") for key in compared(log)} == NAMES.keys()
        assert_logged(measured, compared(log), 1e-9)
        if step == 0:
            assert run.assert_recorded(recorded, "grad_", lambda tensor: tensor.grad, 1e-9) == 6
    assert run.assert_recorded(recorded, "after_", lambda tensor: tensor.detach(), 1e-9) == 8
    assert torch.equal(torch.stack(run.indices), torch.from_numpy(recorded["indices"]))


def test_first_generator_gradient_matches_the_original_in_float32(reference):
    case = reference("train3")
    recorded = {
        k: v for k, v in case.arrays("io64.npz").items() if k.startswith("grad32_") and PREFIX not in k
    }
    run = Run(case, torch.float32)
    measured = run.task.train_step([run.batch], 0)
    log = case.read_json("logs64.json")["first_step_fp32"]
    assert_logged(
        measured, {k: v for k, v in compared(log).items() if "disc" not in k and "logits" not in k}, 1e-5
    )
    assert run.assert_recorded(recorded, "grad32_", lambda tensor: tensor.grad, 1e-5) == 4
