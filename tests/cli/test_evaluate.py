"""``vqgan evaluate`` on tiny runs: its numbers against other ways to them, its files, and what it refuses."""

import json
import math

import numpy as np
import pytest

import vqgan
from vqgan.evaluation.psnr import pixels_psnr
from vqgan.images import to_uint8
from vqgan.quality import evaluate


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where features are kept."""
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def evaluated(trained):
    return evaluate(trained.classes, trained.images, device="cpu", samples=9)


def test_a_prior_is_measured_on_all_images_that_are_given(evaluated, trained):
    model = vqgan.load(trained.classes, device="cpu")
    paths = sorted(trained.images.rglob("*.png"))
    images = vqgan.read_images(paths)
    numbers = evaluated.numbers
    assert numbers["reconstruction"]["psnr"].count == len(paths) == 20
    before, after = (to_uint8(each).numpy() for each in (images, model.reconstruct(images)))
    assert numbers["reconstruction"]["psnr"].value == pytest.approx(pixels_psnr(before, after))
    classes = [int(path.parent.name == "light") for path in paths]
    nats = -model.log_probability(images, {"class": classes}).double().mean().item()
    assert numbers["prior"]["loss"].value == pytest.approx(nats, rel=1e-5)
    assert numbers["prior"]["bits_per_pixel"].value == pytest.approx(
        nats / math.log(2) / 16
    )  # 4 x 4 pixels a token
    usage = len(model.tokenizer.encode(images).unique()) / 16
    assert numbers["codebook"]["usage"].value == pytest.approx(usage)


def test_samples_have_the_conditions_and_seeds_of_the_measured_images(evaluated, trained):
    model = vqgan.load(trained.classes, device="cpu")
    classes = [int(path.parent.name == "light") for path in sorted(trained.images.rglob("*.png"))]
    expected = to_uint8(model.sample(9, 16, {"class": classes[:9]}, seed=0)).numpy()
    np.testing.assert_array_equal(evaluated.pictures["drawn"], expected)
    assert evaluated.numbers["samples"]["coverage"].count == 9


def test_what_was_trained_on_is_found_among_samples(trained, monkeypatch):
    model = vqgan.load(trained.prior, device="cpu")
    paths = sorted(trained.images.rglob("*.png"))
    copied = vqgan.read_images(paths)

    def copies(self, count, *_, **__):
        return copied[:count]

    monkeypatch.setattr(type(model), "sample", copies)
    found = evaluate(trained.prior, trained.images, device="cpu", samples=20).numbers["samples"]
    assert found["distance_of_nearest"].value == 0
    assert found["copies"].value > 0.8  # all but those that are held out


def test_a_classifier_gives_features_and_classes(trained, tmp_path):
    changes = [
        "training.steps=2",
        "encoder.base_channels=32",
        "encoder.image_channels=3",
        "training.pictures=0",
        "data.image_size=[16,16]",
    ]
    vqgan.train(
        "digits-classifier", data=trained.images, out=tmp_path / "judge", overrides=changes, device="cpu"
    )
    found = evaluate(trained.prior, trained.images, device="cpu", samples=8, features=str(tmp_path / "judge"))
    assert found.conventions["features"].startswith("classifier ")
    assert 1 <= found.numbers["samples"]["inception_score"].value <= 2


def test_the_command_writes_numbers_and_a_page_and_compares(run, trained, tmp_path):
    out = tmp_path / "out"
    result = run("evaluate", trained.tokenizer, "--data", trained.images, "--out", out, "--npz")
    assert result.code == 0, result.err
    assert "reconstruction psnr: " in result.out
    written = json.loads((out / "evaluation.json").read_text())
    assert written["conventions"]["images"] == 20
    assert written["conventions"]["size"] == [16, 16]
    assert written["conventions"]["precision"] == "fp32"
    assert "prior" not in written["numbers"]
    page = (out / "evaluation.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "| psnr | " in (out / "evaluation.md").read_text()
    with np.load(out / "reconstructions.npz") as stored:
        assert stored["arr_0"].shape == (20, 16, 16, 3)
    again = run(
        "evaluate",
        trained.tokenizer,
        "--data",
        trained.images,
        "--out",
        out,
        "--against",
        out / "evaluation.json",
    )
    assert again.code == 0, again.err
    assert ", before " in again.out
    fewer = run(
        *("evaluate", trained.tokenizer, "--data", trained.images, "--images", 4),
        *("--out", tmp_path / "fewer", "--against", out / "evaluation.json"),
    )
    assert fewer.code == 2
    assert "`images` is 20 and 4" in fewer.err
    assert not (tmp_path / "fewer").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("FILE",), 2, "lies in no run folder"),
        (("FILE", "--data", "nowhere"), 3, "does not exist"),
        (("TOKENIZER", "--features", "PRIOR"), 5, "expected a classifier"),
        (("TOKENIZER", "--against", "config.yaml"), 5, "is no evaluation"),
        (("TOKENIZER", "--images", "0"), 2, "images"),
        (("PRIOR", "--samples", "1"), 2, "`samples` is 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(run, trained, tmp_path, words, code, message):
    (file := tmp_path / "lonely.safetensors").write_bytes(
        (trained.tokenizer / "tokenizer.safetensors").read_bytes()
    )
    known = {
        "FILE": file,
        "TOKENIZER": trained.tokenizer,
        "PRIOR": trained.prior,
        "config.yaml": trained.tokenizer / "config.yaml",
    }
    result = run("evaluate", *(known.get(word, word) for word in words), "--out", tmp_path / "out")
    assert result.code == code, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


def test_a_file_is_measured_at_its_own_size(run, trained, tmp_path):
    (file := tmp_path / "lonely.safetensors").write_bytes(
        (trained.tokenizer / "tokenizer.safetensors").read_bytes()
    )
    result = run("evaluate", file, "--data", trained.images, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["conventions"]["size"] == [16, 16]


def test_one_image_is_measured_without_distances(trained):
    found = evaluate(trained.prior, device="cpu")  # of twenty images, one is held out
    assert found.numbers["reconstruction"]["psnr"].count == 1
    assert "frechet" not in found.numbers["reconstruction"] | found.numbers["samples"]
    assert any("One image" in note for note in found.notes)


def test_a_prior_of_codes_on_disk_is_measured_on_pictures(run, trained, tmp_path):
    codes = ("--data", trained.images, "--for", trained.prior_file, "--out", tmp_path / "codes")
    assert run("encode", trained.tokenizer, *codes).code == 0
    vqgan.train(
        trained.prior_file,
        data=f"codes:{tmp_path / 'codes'}",
        tokenizer=trained.tokenizer,
        out=tmp_path / "prior",
        device="cpu",
    )
    found = evaluate(tmp_path / "prior", trained.images, device="cpu", samples=4)
    assert found.numbers["prior"]["loss"].count == 20
    assert any("not known" in note for note in found.notes)


def test_the_convention_names_the_length_to_which_images_were_resized(trained):
    changes = ["training.steps=2", "data.resize=[20,30]", "data.crop=random"]
    out = trained.images.parent / "resized"
    vqgan.train(trained.tokenizer_file, data=trained.images, out=out, overrides=changes, device="cpu")
    assert evaluate(out, trained.images, device="cpu").conventions["resize"] == 25
