"""`vqgan train tokenizer` and `vqgan train prior`."""

import json
import shutil
import signal

import pytest

from vqgan.config import dump_yaml, read_yaml
from vqgan.runs import resolve


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_train_tokenizer_prints_the_run_that_it_wrote(trained, tmp_path, run):
    out = tmp_path / "run"
    words = [
        "--data",
        trained.images,
        "--out",
        out,
        "--steps",
        2,
        "--batch-size",
        3,
        "--set",
        "training.log_every=1",
    ]
    result = run("train", "tokenizer", trained.tokenizer_file, *words, "--seed", 3, "--image-size", "12x8")
    assert (result.code, result.paths) == (0, [out])
    assert (out / "tokenizer.safetensors").is_file()
    config = read_yaml(out / "config.yaml")
    assert config["training"]["steps"] == 2
    assert config["training"]["batch_size"] == 3
    assert config["data"]["image_size"] == [12, 8]
    environment = json.loads((out / "env.json").read_text())
    assert (environment["seed"], environment["run"]) == (3, str(trained.tokenizer_file))
    assert (
        f"The run of a tokenizer, of `{trained.tokenizer_file}`: 2 steps" in (out / "report.html").read_text()
    )
    assert [row["step"] for row in metrics(out)] == [1, 2]
    assert "tokenizer: 100%" in result.err
    assert (
        "2 steps of 3 images of 12x8 pixels in fp32 on cpu: 19 images of 2 classes, 1 held out" in result.err
    )


@pytest.mark.parametrize("name", ["prior", "classes"])
def test_train_prior_on_a_trained_tokenizer(name, trained, tmp_path, run):
    file = getattr(trained, f"{name}_file")
    words = [
        "--tokenizer",
        trained.tokenizer,
        "--data",
        trained.images,
        "--out",
        tmp_path / "run",
        "--steps",
        1,
    ]
    assert run("train", "prior", file, *words).code == 0
    assert run("sample", tmp_path / "run", "--out", tmp_path / "new", "--count", 1, *_class(name)).code == 0
    names = read_yaml(tmp_path / "run" / "config.yaml")["conditioner"].get("class_names")
    assert names == (["dark", "light"] if name == "classes" else None)


def _class(name):
    return ["--class", "dark"] if name == "classes" else []


def test_resume_goes_on_for_more_steps(trained, tmp_path, run):
    shutil.copytree(trained.tokenizer, tmp_path / "run")
    words = ["--resume", tmp_path / "run", "--steps", 6, "--workers", 0, "--data", trained.images]
    result = run("train", "tokenizer", *words)
    assert (result.code, result.paths) == (0, [tmp_path / "run"])
    assert "continuing from step 4 of 6" in result.err
    assert metrics(tmp_path / "run")[-1]["step"] == 6


def test_resume_of_a_prior_needs_no_tokenizer(trained, tmp_path, run):
    shutil.copytree(trained.classes, tmp_path / "run")
    assert run("train", "prior", "--resume", tmp_path / "run", "--steps", 4).code == 0
    assert run("info", tmp_path / "run").out.count("after 4 steps") == 1


def test_an_interrupted_run_ends_with_its_code_and_can_be_resumed(trained, tmp_path, run, monkeypatch):
    out = tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM)
    from vqgan.cli.progress import ProgressBar

    def interrupt(self, progress):
        if progress.step == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ProgressBar, "__call__", interrupt)
    result = run("train", "tokenizer", trained.tokenizer_file, "--data", trained.images, "--out", out)
    assert result.code == 75
    assert f"hint: continue with `vqgan train tokenizer --resume {out}`" in result.err
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.undo()
    assert run("train", "tokenizer", "--resume", out).code == 0
    assert run("info", out).out.count("after 4 steps") == 1


def test_from_begins_with_the_weights_of_another_run(trained, tmp_path, run):
    words = ["--data", trained.images, "--out", tmp_path / "run", "--steps", 1]
    slow = ["--set", "task.optimizer.learning_rate=1e-9"]
    assert (
        run("train", "tokenizer", trained.tokenizer_file, *words, *slow, "--from", trained.tokenizer).code
        == 0
    )
    run("reconstruct", trained.tokenizer, trained.images / "dark" / "0.png", "--out", tmp_path / "a")
    run("reconstruct", tmp_path / "run", trained.images / "dark" / "0.png", "--out", tmp_path / "b")
    from vqgan import read_images

    first, second = (read_images(tmp_path / name / "0.png") for name in "ab")
    assert float((first - second).abs().max()) < 0.05


def test_from_refuses_a_size_that_is_set_to_another(trained, tmp_path, run):
    words = ["--data", trained.images, "--out", tmp_path / "run", "--from", trained.tokenizer]
    result = run(
        "train", "tokenizer", trained.tokenizer_file, *words, "--set", "tokenizer.quantizer.codebook_size=8"
    )
    assert (result.code, (tmp_path / "run").exists()) == (2, False)
    assert "`tokenizer.quantizer.codebook_size` is set to 8, but in" in result.err


def test_a_printed_preset_is_a_run_file(trained, tmp_path, run):
    (tmp_path / "mine.yaml").write_text(run("presets", "small-tokenizer").out, encoding="utf-8")
    assert dump_yaml(resolve(tmp_path / "mine.yaml")) == dump_yaml(resolve("small-tokenizer"))
    tiny = {
        "tokenizer.autoencoder.base_channels": 32,
        "tokenizer.autoencoder.channel_multipliers": [1],
        "tokenizer.autoencoder.num_residual_blocks": 1,
        "tokenizer.autoencoder.latent_channels": 32,
        "tokenizer.autoencoder.attention_resolutions": [],
        "task.discriminator.base_channels": 8,
        "task.discriminator.num_layers": 1,
        "training.evaluate_images": 1,
        "training.pictures": 0,
    }
    words = [word for key, value in tiny.items() for word in ("--set", f"{key}={value}")]
    out = ["--out", tmp_path / "run", "--steps", 1, "--batch-size", 2, "--image-size", 16, "--workers", 0]
    assert run("train", "tokenizer", tmp_path / "mine.yaml", "--data", trained.images, *out, *words).code == 0


def test_a_run_file_may_change_a_preset(tmp_path, run):
    (tmp_path / "mine.yaml").write_text("preset: digits-prior\nprior: {depth: 2}\n", encoding="utf-8")
    printed = run("presets", tmp_path / "mine.yaml").out
    expected = run("presets", "digits-prior").out.replace("depth: 3", "depth: 2")
    assert printed == expected


def test_a_shorter_run_of_a_preset_warms_up_and_starts_its_discriminator_sooner(run, tmp_path):
    (tmp_path / "mine.yaml").write_text("preset: small-tokenizer\ntraining: {steps: 300}\n", encoding="utf-8")
    result = run("presets", tmp_path / "mine.yaml")
    assert "for 300 of 30000 steps `task.discriminator.start` becomes 100" in result.err
    task = resolve(tmp_path / "mine.yaml").task
    assert (
        task.optimizer.warmup_steps,
        task.discriminator.discriminator_start,
        task.discriminator.start,
    ) == (
        5,
        90,
        100,
    )
    kept = resolve("small-tokenizer", ["training.steps=300", "task.optimizer.warmup_steps=500"]).task
    assert (kept.optimizer.warmup_steps, kept.discriminator.start) == (500, 100)
    longer = resolve("small-tokenizer", ["training.steps=60000"]).task
    assert (longer.optimizer.warmup_steps, longer.discriminator.start) == (500, 10_000)
    assert (
        resolve("small-tokenizer", ["training.steps=300", "task.discriminator=null"]).task.discriminator
        is None
    )


def test_a_prior_on_images_of_another_size_than_its_tokenizer_s_says_so(trained, tmp_path, run):
    words = ["--tokenizer", trained.tokenizer, "--data", trained.images, "--steps", 1, "--image-size"]
    other = run("train", "prior", trained.prior_file, *words, 24, "--out", tmp_path / "other")
    assert "give `--image-size 16x16` for the same" in other.err
    same = run("train", "prior", trained.prior_file, *words, 16, "--out", tmp_path / "same")
    assert "for the same" not in same.err


def test_a_classifier_is_trained_on_sub_folders_or_a_table_and_info_knows_it(trained, tmp_path, run):
    file = tmp_path / "mine.yaml"
    sizes = "{channel_multipliers: [1], patch_size: 4, resolution: 16}"
    file.write_text(
        f"preset: laptop-classifier\nencoder: {sizes}\ndata: {{image_size: [16, 16], resize: null}}\n"
        "training: {steps: 20, batch_size: 8, pictures: 0}\n"
    )
    (tmp_path / "labels.csv").write_text(
        "\n".join(f"{side}/{n}.png,{side} one" for side in ("dark", "light") for n in range(10))
    )
    words = ("train", "classifier", file, "--data", trained.images, "--device", "cpu")
    for name, more in {"plain": (), "table": ("--condition", f"class={tmp_path / 'labels.csv'}")}.items():
        result = run(*words, "--out", tmp_path / name, *more)
        assert (result.code, result.paths) == (0, [tmp_path / name])
        assert metrics(tmp_path / name)[-1]["heldout_accuracy"] == 1
    assert run("train", "classifier", "--resume", tmp_path / "plain", "--steps", 21).code == 0
    text = run("info", tmp_path / "table").out
    assert "holds       classifier\n" in text
    assert "images      16x16 pixels; others are resized\n" in text
    assert "classes     2: dark one, light one\n" in text
    assert "compute     GFLOP for 16x16 pixels: " in text


def test_a_denoiser_is_trained_on_any_images_and_info_knows_it(trained, tmp_path, run):
    file = tmp_path / "mine.yaml"
    sizes = "{channel_multipliers: [1], patch_size: 4, resolution: 16}"
    file.write_text(
        f"preset: laptop-denoiser\nencoder: {sizes}\ndata: {{image_size: [16, 16], resize: null}}\n"
        "training: {steps: 2, batch_size: 4, pictures: 0}\n"
    )
    out = tmp_path / "denoiser"
    result = run("train", "denoiser", file, "--data", trained.images, "--device", "cpu", "--out", out)
    assert (result.code, result.paths) == (0, [out])
    assert run("train", "denoiser", "--resume", out, "--steps", 3).code == 0
    text = run("info", out).out
    assert "holds       denoiser\n" in text
    assert "images      3 channels, sides that 4 divides\n" in text
    assert "compute     GFLOP for 16x16 pixels: " in text
    for command in ("reconstruct", "sample"):
        more = [trained.images] * (command != "sample")
        result = run(command, out, *more, "--out", tmp_path / "x")
        assert result.code == 5
        assert "holds a denoiser" in result.err


def test_a_classifier_cannot_take_a_tokenizers_place(trained, tmp_path, run):
    words = (
        "--data",
        trained.images,
        "--out",
        tmp_path / "judge",
        "--steps",
        1,
        "--set",
        "training.pictures=0",
    )
    assert run("train", "classifier", "demo-classifier", *words).code == 0
    for command in ("reconstruct", "sample"):
        result = run(
            command, tmp_path / "judge", *[trained.images] * (command != "sample"), "--out", tmp_path / "x"
        )
        assert result.code == 5
        assert "holds a classifier" in result.err
