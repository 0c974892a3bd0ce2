import torch
from torch.testing import assert_close

from parity import original
from vqgan.checkpoints.key_maps import DISCRIMINATOR_KEYS, TOKENIZER_KEYS, rename
from vqgan.training.adversarial import Adversary, generator_objective
from vqgan.training.losses import hinge_loss, pixel_loss

JUDGE = "loss.discriminator."


class Players:
    """Both networks and the order of the original: the discriminator sees the updated tokenizer's reconstruction."""

    def __init__(self, case, dtype):
        state = {key: value for key, value in case.state.items() if not key.startswith("loss.")}
        self.tokenizer = original.tokenizer(case.config["model"]["params"], state, dtype=dtype)
        self.judge = original.discriminator(original.part(case.state, JUDGE), dtype=dtype)
        self.images = case.tensor("image").to(dtype)
        self.indices = []
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.9))
            for network in (self.tokenizer, self.judge)
        ]

    def generator_step(self, update=True):
        result = self.tokenizer(self.images)
        self.indices.append(result.quantized.indices.flatten())
        objective = generator_objective(
            result.images,
            distance=lambda reconstruction: pixel_loss(self.images, reconstruction, kind="l1"),
            auxiliary=result.quantized.loss,
            last_weight=self.tokenizer.decoder.last_weight,
            adversary=Adversary(self.judge, scale=0.8),
        )
        self.tokenizer.zero_grad()
        objective.surrogate.backward()
        if update:
            self.optimizers[0].step()
        return {
            "total_loss": objective.total,
            "quant_loss": result.quantized.loss,
            "nll_loss": objective.reconstruction,
            "rec_loss": objective.reconstruction,
            "d_weight": objective.weight,
            "g_loss": objective.adversarial,
        }

    def discriminator_step(self):
        with torch.no_grad():
            result = self.tokenizer(self.images)
        self.indices.append(result.quantized.indices.flatten())
        real, fake = self.judge(self.images), self.judge(result.images)
        loss = hinge_loss(real, fake)
        self.judge.zero_grad()
        loss.backward()
        self.optimizers[1].step()
        return {"disc_loss": loss, "logits_real": real.mean(), "logits_fake": fake.mean()}

    def named(self, key):
        """Our tensor of an original name: parameter or running statistic."""
        network, table = (
            (self.judge, DISCRIMINATOR_KEYS) if key.startswith(JUDGE) else (self.tokenizer, TOKENIZER_KEYS)
        )
        (name,) = rename({key.removeprefix(JUDGE): torch.empty(0)}, table)
        return network.state_dict(keep_vars=True)[name]


def assert_logged(ours, log, tolerance):
    for key, value in ours.items():
        expected = torch.tensor(log[f"train/{key}"], dtype=torch.float64)
        assert_close(
            value.detach().double(),
            expected,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, key=key: f"{key}: {m}",
        )


def test_three_steps_of_both_players_match_the_original_in_float64(reference):
    case = reference("train3")
    recorded, logs = case.arrays("io64.npz"), case.read_json("logs64.json")["logs"]
    players = Players(case, torch.float64)
    for step, log in enumerate(logs):
        ours = {**players.generator_step(), **players.discriminator_step()}
        assert ours.keys() == {key.removeprefix("train/") for key in log} - {"p_loss", "disc_factor"}
        assert_logged(ours, log, 1e-9)
        if step == 0:
            for key in [key for key in recorded if key.startswith("grad_")]:
                gradient = players.named(key.removeprefix("grad_")).grad
                assert_close(gradient, torch.from_numpy(recorded[key]), rtol=1e-9, atol=1e-9)
    after = [key for key in recorded if key.startswith("after_")]
    assert len(after) == 8
    for key in after:
        tensor = players.named(key.removeprefix("after_")).detach()
        assert_close(tensor, torch.from_numpy(recorded[key]), rtol=1e-9, atol=1e-9)
    assert torch.equal(torch.stack(players.indices), torch.from_numpy(recorded["indices"]))


def test_first_generator_gradient_matches_the_original_in_float32(reference):
    case = reference("train3")
    recorded = case.arrays("io64.npz")
    players = Players(case, torch.float32)
    ours = players.generator_step(update=False)
    assert_logged(ours, case.read_json("logs64.json")["first_step_fp32"], 1e-5)
    generator = [key for key in recorded if key.startswith("grad32_") and JUDGE not in key]
    assert len(generator) == 4
    for key in generator:
        gradient = players.named(key.removeprefix("grad32_")).grad
        assert_close(gradient, torch.from_numpy(recorded[key]), rtol=1e-5, atol=1e-5)
