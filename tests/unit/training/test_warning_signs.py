"""Each warning is provoked in a real run, and healthy runs are not warned of anything."""

import json
import logging
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from sklearn.datasets import load_digits

import tiny
from vqgan.conditioning import UnconditionalConfig
from vqgan.runs import train
from vqgan.tokenizer import VectorQuantizerConfig
from vqgan.training.adversary import DiscriminatorConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.warning_signs import PAGE, SIGNS, History

ROOT = Path(__file__).parents[3]


def smooth(count, seed=0):
    """Grey 8x8 pictures that a tiny tokenizer learns in a few steps: a level, a slope, and a faint checkerboard."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[-3.5:4, -3.5:4]
    level, slopes = draw.integers(40, 216, (count, 1, 1)), draw.uniform(-4, 4, (2, count, 1, 1))
    found = level + slopes[0] * rows + slopes[1] * columns + 6 * ((rows + columns) % 2)
    return found.clip(0, 255).astype(np.uint8)[..., None]


def noise(count):
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def digits(count):
    return (load_digits().images[:count] * 15.9).astype(np.uint8)[..., None]


class Slow(list):
    """A data set whose pictures come slowly."""

    def __getitem__(self, number):
        time.sleep(0.03)
        return super().__getitem__(number)


def tokenizer_run(rate, *, warmup=0, codes=16, discriminator=None, **training):
    """Nothing keeps it from going wrong: no re-seeding, no averages, no statistics in the discriminator."""
    run = tiny.tokenizer_run(**{"ema_decay": None, "evaluate_images": 16, **training})
    task = replace(
        run.task,
        optimizer=OptimizerConfig(learning_rate=rate, betas=(0.5, 0.9), warmup_steps=warmup),
        discriminator=discriminator
        and DiscriminatorConfig(**{"base_channels": 8, "num_layers": 1, "norm": "none", **discriminator}),
        reseed_after=None,
    )
    quantizer = VectorQuantizerConfig(codebook_size=codes, codebook_dim=4, normalize=codes > 16)
    return replace(run, tokenizer=replace(run.tokenizer, quantizer=quantizer), task=task)


def prior_run(rate, **training):
    """Nothing keeps it from learning its images by heart."""
    run = tiny.prior_run(**{"ema_decay": None, "evaluate_images": 16, **training})
    adam = OptimizerConfig(learning_rate=rate, betas=(0.5, 0.9))
    return replace(
        run,
        conditioner=UnconditionalConfig(),
        prior=replace(run.prior, width=32, dropout=0.0),
        task=replace(run.task, optimizer=adam, token_keep_probability=1.0),
    )


FAILURES = {
    "steps too large for the codebook": (
        lambda: tokenizer_run(0.05, codes=256, steps=135),
        lambda: digits(200),
        {"usage_fell"},
    ),
    "too many codes": (
        lambda: tokenizer_run(0.05, codes=4096, steps=102),
        lambda: digits(200),
        {"few_codes_are_used"},
    ),
    "a discriminator that learns too fast": (
        lambda: tokenizer_run(
            1e-3,
            discriminator={"start": 10, "learning_rate_share": 10, "weight": 0.01, "base_channels": 16},
            steps=100,
        ),
        lambda: noise(200),
        {"discriminator_wins"},
    ),
    "a discriminator that may have no slope": (
        lambda: tokenizer_run(
            3e-3, discriminator={"start": 60, "weight": 30, "r1": 100}, steps=80, evaluate_every=10
        ),
        lambda: smooth(200),
        {"adversary_vanishes", "detail_added", "psnr_fell"},
    ),
    "a discriminator that outweighs the images": (
        lambda: tokenizer_run(3e-3, discriminator={"start": 60, "weight": 1000}, steps=68),
        lambda: smooth(200),
        {"gradient_exploded"},
    ),
    "a learning rate and a warm-up of another run": (
        lambda: tokenizer_run(1e-7, warmup=100, steps=100),
        lambda: smooth(200),
        {"loss_is_flat", "warmup_is_too_long"},
    ),
    "few images": (
        lambda: prior_run(3e-3, steps=120, evaluate_every=20),
        lambda: smooth(10),
        {"overfits"},
    ),
    "steps too large for the prior": (
        lambda: prior_run(10.0, steps=30),
        lambda: smooth(10),
        {"loss_rose"},
    ),
    "images that come slowly": (
        lambda: tokenizer_run(1e-3, steps=25),
        lambda: Slow(smooth(16)),
        {"waits_for_data"},
    ),
}
"""For each failure a run, its images, and the signs that it must show."""


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer") / "run"
    return train(tokenizer_run(3e-3, steps=40), data=smooth(200), out=out, device="cpu")


def trained(run, images, out, tokenizer):
    needed = tokenizer if run.__struct_config__.tag == "prior" else None
    return train(run, data=images, eval_data=smooth(16, seed=1), tokenizer=needed, out=out, device="cpu")


@pytest.mark.parametrize("failure", FAILURES)
def test_a_run_that_goes_wrong_is_warned_of_it_once(failure, tokenizer, tmp_path, caplog):
    run, images, expected = FAILURES[failure]
    with caplog.at_level(logging.WARNING):
        out = trained(run(), images(), tmp_path / "run", tokenizer)
    found, rows = read(out / "warnings.jsonl"), read(out / "metrics.jsonl")
    assert expected <= {row["sign"] for row in found}
    assert len({row["sign"] for row in found}) == len(found)
    page = (out / "report.html").read_text()
    for row in found:
        said = f"step {row['step']:,}: {row['text']}\nhint: {row['hint']}"
        assert caplog.messages.count(said) == 1
        assert f"<td>step {row['step']:,}</td>" in page
        assert row["hint"].endswith(f"; {PAGE}#{SIGNS[row['sign']].section} says more")
    steps = {row["step"] for row in rows}
    assert {row["step"] for row in found} <= steps
    assert not any(isinstance(value, dict | list) for row in rows for value in row.values())


def test_every_sign_is_provoked():
    assert set.union(*(signs for *_, signs in FAILURES.values())) == set(SIGNS)


def test_every_sign_has_a_section_on_the_page():
    headings = re.findall(r"^#+ (.+)$", (ROOT / PAGE).read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert {sign.section for sign in SIGNS.values()} <= anchors


def test_a_run_that_was_killed_is_warned_as_if_it_had_not_been(tmp_path, caplog):
    run = tokenizer_run(1e-7, steps=45, save_every=30)
    out = trained(run, smooth(200), tmp_path / "run", None)
    first = read(out / "warnings.jsonl")
    assert [(row["sign"], row["step"]) for row in first] == [("loss_is_flat", 40)]
    shutil.rmtree(out / "state" / "step-00000045")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        train(None, resume=out, data=smooth(200), eval_data=smooth(16, seed=1), device="cpu")
    assert read(out / "warnings.jsonl") == first
    assert sum(first[0]["text"] in message for message in caplog.messages) == 1
    caplog.clear()
    longer = ["training.steps=50"]
    train(None, resume=out, data=smooth(200), eval_data=smooth(16, seed=1), overrides=longer, device="cpu")
    assert read(out / "warnings.jsonl") == first
    assert "step 40:" not in caplog.text


ENCODER = {"base_channels": 32, "channel_multipliers": "[1]", "patch_size": 2, "latent_channels": 16}
HEALTHY = ["training.steps=100", "training.batch_size=8", "training.log_every=2", "training.pictures=0"]
HEALTHY += ["training.evaluate_every=20", "training.evaluate_images=64", "training.save_every=100"]


def test_healthy_runs_of_both_stages_are_not_warned_of_anything(tmp_path, caplog):
    sizes = [f"tokenizer.autoencoder.{name}={value}" for name, value in ENCODER.items()]
    # The recipe of `laptop-tokenizer`, whose discriminator joins in the middle.
    adversary = (
        "{start: 50, discriminator_start: 40, ramp_steps: 20, base_channels: 8, num_layers: 1, weight: 0.1, "
    )
    adversary += "loss: relativistic, norm: none, r1: 1, r2: 1}"
    with caplog.at_level(logging.WARNING):
        for name, changes in {
            "tokenizer": [*sizes, f"task.discriminator={adversary}"],
            "prior": ["prior.depth=1", "prior.width=32", "task.optimizer.warmup_steps=20"],
        }.items():
            out = train(
                f"digits-{name}",
                out=tmp_path / name,
                tokenizer=None if name == "tokenizer" else tmp_path / "tokenizer",
                overrides=[*HEALTHY, *changes],
                device="cpu",
            )
            assert len(read(out / "metrics.jsonl")) == 50
            assert read(out / "warnings.jsonl") == []
            assert "Warnings" not in (out / "report.html").read_text()
    assert caplog.messages == []


def shown(rows, loop=None):
    """The signs that some of these rows show."""
    history, found = History(loop or tiny.loop(steps=1000), tiny.OPTIMIZER), set()
    for step, row in enumerate(rows, start=1):
        history.add({"step": step, **row})
        found |= {name for name, sign in SIGNS.items() if sign.find(history) is not None}
    return found


def test_what_passes_is_no_sign():
    # A codebook before its unused codes are replaced for the first time, as a demo logged it, and worse but short.
    dip = [0.53, 0.56, 0.57, 0.57, 0.32, 0.25, 0.23, 0.23, 0.22, 0.21, 0.79, 0.86, 0.87]
    assert shown([{"usage": share} for share in dip + [0.9] * 30]) == set()
    assert shown([{"usage": share} for share in [0.9] * 30 + [0.01] * 19 + [0.8] * 30]) == set()
    # A discriminator that has just joined, and costs less than it will bring.
    psnr = [20.0, 24.0, 25.0, 20.5, 22.5, 23.0]
    assert shown([{"heldout_psnr": number} for number in psnr]) == set()
    # One bad batch, and one that is not finite.
    norms = [1.0] * 30 + [1e4] * 4 + [1.0] * 30 + [float("nan")] * 9 + [1.0]
    assert shown([{"gradient_norm": norm, "loss": norm} for norm in norms]) == set()
    # A prior whose held-out loss scatters around its best.
    losses = [{"loss": 3.0 - step / 30, "heldout_loss": 2.0 + 0.03 * (step % 2)} for step in range(30)]
    assert shown(losses) == set()
    # A fine-tuned model has little left to learn, at a learning rate that moves it.
    assert shown([{"loss": 0.05, "learning_rate": 1e-3}] * 80) == set()


def test_a_sign_has_to_last_for_a_hundredth_of_a_long_run():
    won = {"right_real": 0.99, "right_fake": 0.98, "adaptive_weight": 0.5}
    rows = [{**won, "adversarial_loss": 1.0 + step / 100} for step in range(30)]
    assert shown(rows) == {"discriminator_wins"}
    assert shown(rows, tiny.loop(steps=4000)) == set()


def test_the_word_for_what_is_not_finite_is_passed_over():
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": "nan"}, {"step": 3, "loss": 1.0, "captions": "a"}]
    history = History(tiny.loop(), tiny.OPTIMIZER, rows=rows)
    assert history.lines == {"loss": [(1, 2.0), (3, 1.0)]}
    assert history.last("loss", 2) == [2.0, 1.0]
    assert history.last("loss", 3) == []
