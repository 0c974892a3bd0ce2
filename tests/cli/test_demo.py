"""The whole demo, small: collect frames, train both stages, measure, draw, report."""

import json
import re

import pytest

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.cli.main import main

NUMBERS = {
    "background_moving_psnr",
    "codebook_size",
    "codebook_usage",
    "downsample_factor",
    "heldout_frames",
    "image_size",
    "mean_image_psnr",
    "moving_psnr",
    "nearest_frame_psnr",
    "peak_memory_bytes",
    "position_frequency_loss",
    "previous_token_loss",
    "prior_loss",
    "reconstruction_psnr",
    "room_mean_psnr",
    "rooms",
    "seconds_total",
    "training_frames",
    "uniform_loss",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VQGAN_CACHE", str(folder / "cache"))
        assert main(["demo", "--quick", "--out", str(folder / "out"), "--device", "cpu"]) == 0
    return folder / "out"


def test_quick_demo_writes_numbers_pictures_and_a_report_that_needs_nothing_else(demo):
    numbers = json.loads((demo / "report.json").read_text())
    assert numbers.keys() >= NUMBERS
    assert numbers["image_size"] == [96, 80]
    assert numbers["downsample_factor"] == 8
    assert numbers["prior_loss"] < numbers["uniform_loss"]
    assert numbers["reconstruction_psnr"] > 10
    page = (demo / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert page.count("<svg") == 7
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    for name in ("reconstructions", "samples", "completions", "codes"):
        assert (demo / f"{name}.png").stat().st_size > 1000


def test_finished_demo_run_again_only_measures(demo, monkeypatch):
    monkeypatch.setenv("VQGAN_CACHE", str(demo.parent / "cache"))
    before = RunFolder(demo / "tokenizer").newest().number
    metrics = (demo / "tokenizer" / "metrics.jsonl").read_text()
    numbers = json.loads((demo / "report.json").read_text())
    assert main(["demo", "--quick", "--out", str(demo), "--device", "cpu"]) == 0
    again = json.loads((demo / "report.json").read_text())
    assert RunFolder(demo / "tokenizer").newest().number == before
    assert (demo / "tokenizer" / "metrics.jsonl").read_text() == metrics
    assert again["reconstruction_psnr"] == numbers["reconstruction_psnr"]
    assert again["seconds"]["tokenizer"] >= numbers["seconds"]["tokenizer"]  # the time of both calls
    assert again["seconds"].keys() == numbers["seconds"].keys()
    assert again["peak_memory_bytes"] >= numbers["peak_memory_bytes"]


@pytest.mark.parametrize("words", [[], ["--quick", "--seed", "5"]])
def test_another_demo_in_the_same_folder_is_refused_before_anything_is_done(demo, capsys, words):
    report = (demo / "report.json").read_bytes()
    assert main(["demo", *words, "--out", str(demo)]) == 2
    assert "holds another demo" in capsys.readouterr().err
    assert (demo / "report.json").read_bytes() == report


def test_a_demo_of_an_earlier_version_continues_and_one_without_a_request_says_how_to_start_over(
    demo, capsys, tmp_path, monkeypatch
):
    kept = json.loads((demo / "resources.json").read_text())
    kept["request"]["version"] = "0.0.1"
    (demo / "resources.json").write_text(json.dumps(kept))
    monkeypatch.setenv("VQGAN_CACHE", str(demo.parent / "cache"))
    assert main(["demo", "--quick", "--out", str(demo), "--device", "cpu"]) == 0
    (tmp_path / "resources.json").write_text(json.dumps({"seconds": kept["seconds"]}))
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "or one of an earlier version" in said
    assert "give another folder with `--out`, or remove this one to start over" in said
