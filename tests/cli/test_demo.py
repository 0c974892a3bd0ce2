"""The whole demo, small: collect frames, train both stages, measure, draw, report."""

import json
import math
import re
import sys

import pytest
from PIL import Image

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.cli.main import main
from vqgan.data import atari, atari_explorer
from vqgan.demo import large as large_demo
from vqgan.demo import phases
from vqgan.demo.large_report import TEXTURES
from vqgan.evaluation import texture_numbers

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
    "things",
    "training_frames",
    "uniform_loss",
    "unknown_things",
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
    assert page.count("<svg") == 10
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    for name in ("reconstructions", "samples", "completions", "codes"):
        assert (demo / f"{name}.png").stat().st_size > 1000


def test_demo_of_the_screen_keeps_its_own_pixels(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(phases, "QUICK", ("training.steps=2", "training.batch_size=1", "training.pictures=2"))
    folder = tmp_path / "out"
    assert main(["demo", "--screen", "--quick", "--out", str(folder), "--device", "cpu"]) == 0
    numbers = json.loads((folder / "report.json").read_text())
    assert numbers["image_size"] == [192, 160]
    assert 0 <= numbers["unknown_things"] <= 1
    assert "unknown things in new frames" in (folder / "report.html").read_text()
    with Image.open(folder / "samples.png") as picture:
        assert picture.size == (8 * 3 * 160 + 9 * 2, 2 * 3 * 192 + 3 * 2)
    assert main(["demo", "--quick", "--out", str(folder)]) == 2
    assert "holds another demo" in capsys.readouterr().err


def test_finished_demo_run_again_only_measures_also_one_of_an_earlier_version(demo, monkeypatch):
    monkeypatch.setenv("VQGAN_CACHE", str(demo.parent / "cache"))
    before = RunFolder(demo / "tokenizer").newest().number
    metrics = (demo / "tokenizer" / "metrics.jsonl").read_text()
    numbers = json.loads((demo / "report.json").read_text())
    kept = json.loads((demo / "resources.json").read_text())
    kept["request"]["version"] = "0.0.1"
    (demo / "resources.json").write_text(json.dumps(kept))
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


def test_a_demo_without_a_request_says_how_to_start_over(capsys, tmp_path):
    (tmp_path / "resources.json").write_text(json.dumps({"seconds": {"prior": 1.0}}))
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "or one of an earlier version" in said
    assert "give another folder with `--out`, or remove this one to start over" in said


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texture_numbers, "NEAREST_PATCHES", 8)
        assert main(["demo", "--large", "--quick", "--out", str(folder), "--device", "cpu"]) == 0
    return folder


def test_quick_large_demo_draws_measures_and_reports(large):
    numbers = json.loads((large / "report.json").read_text())
    assert numbers["picture_size"] == [384, 384]
    assert numbers["tokens"] == 2304
    assert len(numbers["seconds_per_token"]) == 8
    assert sum(numbers["seconds_per_token"]) * 288 == pytest.approx(numbers["seconds"]["drawing"], rel=0.2)
    assert numbers["seconds"].keys() == {"tokenizer", "prior", "drawing", "decoding", "measurement"}
    assert numbers["prior_heldout_loss"] < numbers["uniform_loss"] + 0.5
    assert numbers["tokenizer_heldout_psnr"] > 10
    assert numbers["window"] == 128
    assert numbers["textures"].keys() == {"drawn", "real", "rebuilt"}
    for measured in numbers["textures"].values():
        assert measured.keys() == numbers["textures"]["drawn"].keys() >= TEXTURES.keys()
        assert all(map(math.isfinite, measured.values()))
    if sys.platform == "linux":
        assert 0 < numbers["memory_before_drawing_bytes"] < numbers["drawing_memory_bytes"]
    drawn, real, rebuilt = (numbers["textures"][name] for name in ("drawn", "real", "rebuilt"))
    assert real["nearest"] == real["nearest_least"] == 0 < rebuilt["nearest_least"]
    assert real["frechet"] < drawn["frechet"]
    assert 0 < numbers["heldout_nearest"] < 64


def test_the_large_demos_pages_are_there_and_its_report_needs_nothing_else(large):
    page = (large / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    linked = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page)
    assert linked == ["picture/sky.html", "picture/frames/growth.html", "picture/sky.png"]
    assert all((large / link).is_file() for link in linked)
    assert page.count("<th>") == 3 + 5
    assert all(what.partition("{")[0] in page for what, _ in TEXTURES.values())
    assert ">row of pixels</text>" in page
    assert len(list((large / "picture" / "frames").glob("frame-*.png"))) == 16
    with Image.open(large / "picture" / "sky.png") as picture:
        assert picture.size == (384, 384)
        assert (picture.text["command"], picture.text["seed"]) == ("demo", "0")


def test_finished_large_demo_run_again_draws_the_same_and_trains_nothing(large, capsys, monkeypatch):
    before = [(large / part).read_bytes() for part in ("prior/metrics.jsonl", "picture/sky.png")]
    numbers = json.loads((large / "report.json").read_text())
    monkeypatch.setattr(large_demo, "_measure", lambda *_: numbers)  # of the same picture
    assert main(["demo", "--large", "--quick", "--out", str(large), "--device", "cpu"]) == 0
    assert [(large / part).read_bytes() for part in ("prior/metrics.jsonl", "picture/sky.png")] == before
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("2304 tokens in ")
    assert second == str(large / "report.html")
    assert main(["demo", "--quick", "--out", str(large)]) == 2
    assert "holds another demo" in capsys.readouterr().err


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditions")

    def play(jobs, on_progress):
        for job in jobs:  # in this process, which saves the start of sixteen others
            patched.setattr(sys, "argv", ["", json.dumps(job)])
            atari_explorer.main()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(atari, "_play", play)
        patched.setenv("VQGAN_CACHE", str(folder.parent / "cache"))
        assert main(["demo", "--conditions", "--quick", "--out", str(folder), "--device", "cpu"]) == 0
    return folder


@pytest.mark.timeout(600)  # five trainings
def test_quick_demo_of_conditions_asks_everything_and_reports(steered):
    numbers = json.loads((steered / "report.json").read_text())
    asked = {"class", "edges", "low_resolution", "palette", "layout"}
    assert numbers["agreement"].keys() == asked
    for values in numbers["agreement"].values():
        assert values.keys() == {"sample", "free", "rebuilt"}
        for mean, low, high in values.values():
            assert low <= mean <= high
            assert math.isfinite(mean)
    assert numbers["nats"].keys() > asked
    assert numbers["guidance"].keys() == {"0", "1", "3"}
    assert numbers["completion"].keys() == {"lower", "right", "middle"}
    assert len(numbers["dream"]["steps"]) == 15
    for step in numbers["dream"]["steps"]:
        assert step["over_copied"][0] == pytest.approx(step["copied"] - step["dreamed"])
    page = (steered / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(asked) + 1 + 3 + 1
    boxes = json.loads((steered / "boxes.json").read_text())
    assert len(boxes["categories"]) == 4
    assert len(boxes["annotations"]) > len(boxes["images"]) / 2


def test_quick_demo_of_words_trains_a_judge_that_transformers_opens_and_asks_everything(tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    assert main(["demo", "--words", "--quick", "--out", str(tmp_path), "--device", "cpu"]) == 0
    assert "guided by words" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "report.json").read_text())
    read = {f"text_{scale}" for scale in (0, 1, 2, 4)}
    assert numbers["distance"].keys() == read | {"free", "guided", "guided_prior", "rebuilt", "real"}
    assert numbers["agreement"].keys() == numbers["distance"].keys() | {"every", "kept"}
    assert numbers["held_out"]["caption"][0] < 1  # after four steps
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4
    assert all(text in page for text in numbers["prompts"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "judge")
    tokens = tokenizer("a three left of a seven")["input_ids"]
    assert tokenizer.decode(tokens) == "<start> a three left of a seven <end>"
    assert (tmp_path / "scenes" / "prior.csv").read_text().startswith("000000.png,a zero left of a zero\n")


def test_two_demos_at_once_are_refused(capsys, tmp_path):
    assert main(["demo", "--large", "--conditions", "--out", str(tmp_path / "out")]) == 2
    assert "two demos" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
