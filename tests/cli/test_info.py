"""`vqgan info`, `presets`, `doctor` and `demo`."""

import importlib.metadata
from pathlib import Path

import msgspec
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import tiny
import vqgan.demo
from vqgan.cli.info import _compute
from vqgan.config import parse_yaml
from vqgan.presets import PRESETS
from vqgan.synthesizer import Synthesizer


def rows(text):
    head, _, config = text.partition("config:\n")
    return {line[:12].strip(): line[12:] for line in head.splitlines()}, parse_yaml(config)


def test_info_of_a_tokenizer(trained, run):
    result = run("info", trained.tokenizer / "tokenizer.safetensors")
    found, config = rows(result.out)
    assert result.code == 0
    assert result.err == ""
    assert found["holds"] == "tokenizer"
    assert found["codebook"] == "16 codes, 4 pixels per token side"
    assert found["weights"].startswith("raw, after 4 steps, digest ")
    assert config["quantizer"]["codebook_size"] == 16


def test_info_of_a_prior_counts_the_parameters_of_its_parts(trained, run):
    found, config = rows(run("info", trained.classes).out)
    assert found["holds"] == "synthesizer"
    assert found["window"] == "4x4 tokens, 16x16 pixels"
    assert found["condition"] == "class"
    assert config["conditioner"]["class_names"] == ["dark", "light"]
    parts = dict(part.rsplit(" ", 1) for part in found["parameters"].split(", "))
    model = vqgan.load(trained.classes, device="cpu")
    for name in ("tokenizer", "prior"):
        count = sum(parameter.numel() for parameter in getattr(model, name).parameters())
        assert parts[name] == f"{count:,}".replace(", ", ",")


def test_info_counts_what_an_image_costs(trained, run):
    found, _ = rows(run("info", trained.prior).out)
    assert found["compute"].startswith("GFLOP for 16x16 pixels: encoder ")
    model = vqgan.load(trained.prior, device="cpu")
    products = sum(
        layer.weight.numel() for layer in model.prior.modules() if isinstance(layer, torch.nn.Linear)
    )
    attention = 2 * 16 * 16 * model.config.prior.width * model.config.prior.depth
    operations = 2 * (16 * products + attention)
    assert float(found["compute"].split("prior ")[1]) * 1e9 == pytest.approx(operations, rel=0.01)
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert found["memory"].startswith(f"{weights / 1e6:.1f} MB of weights in fp32")


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_size": 4, "channel_multipliers": (1,), "attention_resolutions": ()},
        {"patch_size": 1, "channel_multipliers": (1, 2, 2), "attention_resolutions": (8,)},
    ],
)
def test_info_counts_as_pytorch_does(changes):
    few = msgspec.structs.replace(tiny.tokenizer_config().autoencoder, resolution=16, **changes)
    config = msgspec.structs.replace(tiny.synthesizer_config(), window=(2, 1))
    config = msgspec.structs.replace(
        config, tokenizer=msgspec.structs.replace(config.tokenizer, autoencoder=few)
    )
    with torch.device("meta"):
        model, images = Synthesizer(config), torch.empty(1, 1, 8, 4)
        latents, tokens = torch.empty(1, 4, 2, 1), torch.zeros(1, 2, dtype=torch.int64)
    counted = []
    for work in (
        lambda: model.tokenizer.latents(images),
        lambda: model.tokenizer.decode_latents(latents),
        lambda: model.prior(tokens, tokens[:, :1]),
    ):
        with FlopCounterMode(display=False) as counter:
            work()
        counted.append(counter.get_total_flops())
    encoder, decoder, prior = (f"{count / 1e9:.3g}" for count in counted)
    assert _compute(model) == f"GFLOP for 8x4 pixels: encoder {encoder}, decoder {decoder}, prior {prior}"


def test_info_of_a_run_says_where_it_can_be_continued(trained, run):
    found, _ = rows(run("info", trained.tokenizer).out)
    assert found["run"] == f"{trained.tokenizer}, can be continued from step 4"
    assert found["file"] == str(trained.tokenizer / "tokenizer.safetensors")


def test_a_folder_of_runs_means_its_prior(trained, run):
    found, _ = rows(run("info", trained.prior.parent).out)
    assert found["file"] == str(trained.prior / "prior.safetensors")


def test_presets_lists_all_with_a_line_each(run):
    lines = run("presets").out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    assert all(preset.summary in line for preset, line in zip(PRESETS.values(), lines, strict=True))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_printed_as_yaml(name, run):
    assert parse_yaml(run("presets", name).out)["kind"] in ("tokenizer", "prior", "classifier", "denoiser")


def test_doctor_shows_versions_and_checks_the_device(run, monkeypatch, tmp_path):
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "not" / "yet"))
    monkeypatch.setattr("vqgan.cli.doctor.best_precision", lambda device: "fp16")
    result = run("doctor")
    assert result.code == 0
    found = {line.split()[0]: line for line in result.out.splitlines()}
    assert found["torch"].split()[1] == importlib.metadata.version("torch")
    assert "computes right, fastest in fp16" in found["device"]
    assert f"{tmp_path / 'not' / 'yet'} (will be made when needed, " in found["cache"]
    assert not (tmp_path / "not").exists()


def test_doctor_names_the_extra_of_what_is_missing_and_fails_only_for_the_core(run, monkeypatch):
    installed = importlib.metadata.version

    def version(name):
        if name in ("ale-py", "safetensors"):
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    result = run("doctor")
    assert 'ale-py        not installed: pip install "vqgan[demo]"' in result.out
    assert result.code == 2
    assert (
        result.err == "vqgan: not in order: safetensors\nhint: reinstall the package in a new environment\n"
    )


def test_demo_passes_its_flags_on_and_prints_the_report(run, monkeypatch, tmp_path):
    seen = {}

    def run_demo(demo):
        seen.update(folder=demo.folder, quick=demo.quick, seed=demo.seed, device=demo.device)
        return {"reconstruction_psnr": 30.0, "nearest_frame_psnr": 20.5}

    monkeypatch.setattr(vqgan.demo, "run_demo", run_demo)
    result = run("demo", "--quick", "--out", tmp_path, "--seed", 4, "--device", "cpu")
    assert seen == {"folder": Path(tmp_path), "quick": True, "seed": 4, "device": "cpu"}
    assert result.out.splitlines() == [
        "reconstruction 30.0 dB, nearest training frame 20.5 dB",
        str(tmp_path / "report.html"),
    ]
