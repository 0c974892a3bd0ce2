"""A denoiser's training, and a tokenizer's that compares what the denoiser sees."""

import json
import shutil

import msgspec
import pytest
import torch
from torch.testing import assert_close

import tiny
import vqgan
from vqgan.checkpoints.format import read_header
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import CheckpointError, ConfigError
from vqgan.runs import resolve, train
from vqgan.training.build import build_tokenizer_task
from vqgan.training.denoiser_task import DenoiserTask
from vqgan.training.engine import Engine
from vqgan.training.tokenizer_task import PerceptualConfig


def task(seed=0, **changes):
    run = tiny.denoiser_run()
    config = msgspec.structs.replace(run.task, **changes)
    return DenoiserTask(tiny.denoiser(), config, loop=run.training, engine=Engine("cpu"), seed=seed)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.data(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def denoiser(source, tmp_path_factory):
    """A run of four steps."""
    return train(tiny.denoiser_run(source), out=tmp_path_factory.mktemp("x") / "denoiser", device="cpu")


def with_denoiser(path, source=None, **training):
    run = tiny.tokenizer_run(source, **training)
    perceptual = PerceptualConfig(weight=0.5, weights=str(path))
    return msgspec.structs.replace(run, task=msgspec.structs.replace(run.task, perceptual=perceptual))


def test_micro_batches_together_are_the_whole_batch():
    whole, parts, batch = task(), task(), tiny.batch(6)
    one, two = whole.train_step([batch], 0), parts.train_step(tiny.split(batch, 2), 0)
    for name in ("loss", "gradient_norm"):
        assert_close(one[name], two[name])


def test_the_noise_depends_on_seed_and_sample_alone_and_each_image_has_its_level():
    batch = tiny.batch(64)
    noise = task()._noisy(batch) - batch.images
    assert torch.equal(task()._noisy(tiny.batch(64)) - batch.images, noise)
    assert_close(task()._noisy(tiny.split(batch, 4)[3]), batch.images[48:] + noise[48:])
    assert not torch.isclose(task(seed=1)._noisy(batch), batch.images + noise).any(dim=1).all()
    levels = noise.std(dim=(1, 2, 3))
    assert levels.min() < 0.15 < 0.85 < levels.max() < 1.25
    assert_close((task(noise=0.5)._noisy(batch) - batch.images), noise / 2)


def test_steps_take_noise_away():
    trained, batch = task(), tiny.batch(16)
    before = trained.evaluate([batch])["psnr"]
    for step in range(30):
        trained.train_step([batch], step)
    assert trained.evaluate([batch])["psnr"] > before + 1
    assert trained.evaluate(tiny.split(batch, 4)) == pytest.approx(trained.evaluate([batch]))
    assert trained.evaluate([]) == {}


def test_psnr_is_that_of_eight_bits():
    trained, batch = task(noise=1e-6), tiny.batch(2)
    trained.state.averages = {}
    trained.denoiser.forward = lambda images: images + 0.2
    assert trained.evaluate([batch])["psnr"] == pytest.approx(20, abs=1e-3)


def test_pictures_show_the_noise_and_what_is_left():
    trained, batch = task(), tiny.batch(3)
    shown = trained.pictures(batch, lambda _: None)["denoised"]
    assert_close(shown[:3], trained._noisy(batch).clamp(-1, 1))
    assert shown.shape == (6, 1, 8, 8)


def test_a_tokenizers_loss_has_the_distance_of_its_features(denoiser):
    torch.manual_seed(0)
    plain, _ = build_tokenizer_task(tiny.tokenizer_run(), Engine("cpu"), seed=0, start_from=None)
    run, felt = build_tokenizer_task(with_denoiser(denoiser), Engine("cpu"), seed=0, start_from=None)
    assert (run.task.perceptual.weights, plain.task.perceptual) == (str(denoiser.resolve()), None)
    model = vqgan.load(denoiser, device="cpu")
    images, others = tiny.images(2), tiny.images(2, seed=1)
    distance = model.distance(images, others).mean()
    alone = build_tokenizer_task(plain, Engine("cpu"), seed=0, start_from=None)[1]._distance(images, others)
    assert_close(felt._distance(images, others), alone + 0.5 * distance)
    assert not any(name.startswith("perceptual") for name in felt.state.tensors()["model"])


def test_a_run_goes_on_to_the_same_bits_where_its_denoiser_was_moved(denoiser, source, tmp_path):
    moved = shutil.copytree(denoiser, tmp_path / "before")
    run = with_denoiser(moved, source, steps=2)
    out = train(run, out=tmp_path / "run", device="cpu")
    digest = resolve(out / "config.yaml").task.perceptual.digest
    assert digest == read_header(denoiser / "denoiser.safetensors").digest[:12]
    moved.rename(tmp_path / "after")
    with pytest.raises(CheckpointError, match="cannot be read"):
        train(None, resume=out, overrides=["training.steps=4"], device="cpu")
    changes = ["training.steps=4", f"task.perceptual.weights={tmp_path / 'after'}"]
    train(None, resume=out, overrides=changes, device="cpu")
    whole = train(with_denoiser(denoiser, source), out=tmp_path / "whole", device="cpu")
    ours, theirs = (RunFolder(each).newest().tensors for each in (out, whole))
    for file, tensors in theirs.items():
        assert all(torch.equal(ours[file][name], tensor) for name, tensor in tensors.items())


def test_another_denoiser_than_the_run_began_with_is_refused(denoiser, source, tmp_path):
    moved = shutil.copytree(denoiser, tmp_path / "denoiser")
    out = train(with_denoiser(moved, source, steps=1), out=tmp_path / "run", device="cpu")
    train(None, resume=moved, overrides=["training.steps=5"], device="cpu")
    with pytest.raises(CheckpointError) as caught:
        train(None, resume=out, overrides=["training.steps=2"], device="cpu")
    assert "is not the perceptual network that the run began with: its digest is " in caught.value.message
    assert 'hint: put that one back, or say where it is: `overrides=["task.perceptual' in str(caught.value)


def test_images_that_do_not_fit_the_denoiser_are_refused_before_anything_is_written(
    denoiser, source, tmp_path
):
    run = resolve(with_denoiser(denoiser, source), ["tokenizer.autoencoder.image_channels=3"])
    with pytest.raises(ConfigError, match="images of 3 channels do not fit the denoiser, which learned 1"):
        train(run, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_it_begins_with_the_weights_of_another_run_of_these_sizes(denoiser, source, tmp_path):
    slow = resolve(tiny.denoiser_run(source, steps=1), ["task.optimizer.learning_rate=1e-12"])
    out = train(slow, out=tmp_path / "second", start_from=denoiser, device="cpu")
    ours, theirs = (vqgan.load(each, device="cpu") for each in (out, denoiser))
    assert_close(ours(tiny.images(3)), theirs(tiny.images(3)))
    larger = resolve(slow, ["encoder.latent_channels=16"])
    with pytest.raises(
        CheckpointError, match=r"holds a denoiser with other sizes .*: encoder\.latent_channels"
    ):
        train(larger, out=tmp_path / "third", start_from=denoiser, device="cpu")


def test_held_out_images_are_measured_and_the_report_says_what_is_shown(source, tmp_path):
    out = train(tiny.denoiser_run(source, pictures=1), out=tmp_path / "run", device="cpu")
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["heldout_psnr"] > 0
    assert (
        "Held-out images with noise, then what the denoiser makes of them"
        in (out / "report.html").read_text()
    )
