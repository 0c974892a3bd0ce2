"""``vqgan evaluate`` on tiny runs: its numbers against other ways to them, its files, and what it refuses."""

import html.parser
import json
import math

import numpy as np
import pytest
import torch

import vqgan
from vqgan.evaluation.agreement import edge_agreement
from vqgan.evaluation.memory import peak_memory
from vqgan.evaluation.psnr import pixels_psnr
from vqgan.images import canny, to_float, to_uint8
from vqgan.quality import evaluate, measure
from vqgan.quality.agreement import _others
from vqgan.quality.page import PICTURES, frequencies, write_evaluation


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


def test_peak_memory_is_that_of_this_process(evaluated):
    found = evaluated.numbers["memory"]["peak_gb"]
    assert (
        0.1e9 < found.value * 1e9 <= peak_memory()
    )  # PyTorch alone takes more than the first; peaks only grow
    assert found.count == 20


def test_replaced_codes_are_decoded_within_the_memory_too(trained, monkeypatch):
    whole = evaluate(trained.tokenizer, trained.images, device="cpu").numbers["reconstruction"]
    budgets, decode = [], measure.decode_within

    def decoding(tokenizer, indices, memory):
        budgets.append(memory)
        return decode(tokenizer, indices, memory)

    monkeypatch.setattr(measure, "decode_within", decoding)
    found = evaluate(trained.tokenizer, trained.images, device="cpu", memory=1 << 27).numbers[
        "reconstruction"
    ]
    assert budgets == [1 << 27]  # all images at once
    distances = [name for name in whole if name.endswith("_perturbed")]
    assert len(distances) == 1
    assert found[distances[0]].value == pytest.approx(whole[distances[0]].value, rel=1e-3)
    assert (
        found[distances[0]].value != found[distances[0].removesuffix("_perturbed")].value
    )  # codes were replaced


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
    found = evaluate(
        trained.classes, trained.images, device="cpu", samples=8, features=str(tmp_path / "judge")
    )
    assert found.conventions["features"].startswith("classifier ")
    assert 1 <= found.numbers["samples"]["inception_score"].value <= 2
    agreement, judge = found.numbers["agreement"], vqgan.load(tmp_path / "judge", device="cpu")
    asked = torch.tensor([int(path.parent.name == "light") for path in sorted(trained.images.rglob("*.png"))])
    assert len({*asked[:8].tolist(), *asked.tolist()}) == 2
    for which, other in (("drawn", "drawn"), ("rebuilt", "rebuilt"), ("real", "real")):
        with torch.no_grad():
            read = judge(to_float(found.pictures[other][:8])).argmax(dim=1)
        assert agreement[f"class_{which}_share"].value == (read == asked[:8]).double().mean()
        assert agreement[f"class_{which}_share"].count == 8
    with torch.no_grad():
        real, rebuilt = (judge(to_float(found.pictures[name])) for name in ("real", "rebuilt"))
    same = real.argmax(dim=1) == rebuilt.argmax(dim=1)
    assert found.numbers["reconstruction"]["labels_kept"].value == pytest.approx(float(same.double().mean()))
    names = judge.config.class_names
    said = [f"{names[int(row.argmax())]}, {100 * float(row.max()):.0f} %" for row in (real[3], rebuilt[3])]
    write_evaluation(tmp_path / "out", found)
    page = (tmp_path / "out" / "evaluation.md").read_text()
    assert f"| reconstructions 4 | {said[0]} | {said[1]} |" in page
    assert "| worst 8 |" in page
    assert agreement["class_others_share"].interval is not None
    assert not any("is not measured" in note for note in found.notes)
    named = {"class": str(tmp_path / "judge")}
    again = evaluate(trained.classes, trained.images, device="cpu", samples=8, judge=named)
    assert again.numbers["agreement"] == agreement
    assert again.conventions["judges"] == named


@pytest.fixture(scope="module")
def steered(trained, tmp_path_factory):
    """A prior of edges and small copies, and its evaluation."""
    out = tmp_path_factory.mktemp("steered") / "run"
    several = "conditioner={kind: several, conditioners: [{kind: edges}, {kind: low_resolution, factor: 2}]}"
    vqgan.train(
        trained.prior_file,
        data=trained.images,
        out=out,
        tokenizer=trained.tokenizer,
        overrides=[several, "task.condition_dropout=0.2"],
        device="cpu",
    )
    return out, evaluate(out, trained.images, device="cpu", samples=20)


def test_conditions_are_read_out_of_samples_and_compared_with_what_was_asked(steered):
    agreement = steered[1].numbers["agreement"]
    assert agreement["edges_real_f1"].value == 1
    assert agreement["low_resolution_real_psnr"].value == 100
    shown = {name: to_float(steered[1].pictures[name]) for name in ("real", "rebuilt", "drawn")}
    real = canny(shown["real"])
    for name in ("rebuilt", "drawn"):
        expected = edge_agreement(real, canny(shown[name])).mean()
        assert agreement[f"edges_{name}_f1"].value == pytest.approx(expected)
    others = edge_agreement(real[_others(20)], canny(shown["drawn"])).mean()
    assert agreement["edges_others_f1"].value == pytest.approx(others)


def test_each_image_is_compared_with_what_was_asked_for_another():
    for count in (2, 3, 50):
        found = _others(count)
        assert sorted(found.tolist()) == [*range(count)]
        assert (found != torch.arange(count)).all()


def test_the_given_half_stays_as_near_as_its_codes_say(steered, trained):
    path, found = steered
    model, images = vqgan.load(path, device="cpu"), to_float(found.pictures["real"])
    known = torch.zeros(20, 4, 4, dtype=torch.bool)
    known[:, :2] = True
    condition = {"edges": canny(images), "low_resolution": images}
    drawn = to_uint8(model.complete(images, known, condition)).numpy()
    before = found.pictures["real"][:, :8]
    agreement = found.numbers["agreement"]
    assert agreement["given_drawn_psnr"].value == pytest.approx(pixels_psnr(before, drawn[:, :8]))
    rebuilt = pixels_psnr(before, found.pictures["rebuilt"][:, :8])
    assert agreement["given_rebuilt_psnr"].value == pytest.approx(rebuilt)
    others = pixels_psnr(before, before[_others(20).numpy()])
    assert agreement["given_others_psnr"].value == pytest.approx(others)
    figure = found.figures["completed"]
    np.testing.assert_array_equal(figure[2:18, 2:18], found.pictures["real"][0])
    np.testing.assert_array_equal(figure[20:36, 2:18][8:], np.full((8, 16, 3), 128))
    np.testing.assert_array_equal(figure[38:54, 2:18], drawn[0])


def test_receptive_fields_are_told_in_pixels(evaluated):
    numbers = evaluated.numbers["receptive_field"]
    for part in ("encoder", "decoder"):
        half, most, every = (numbers[f"{part}_pixels_{share}"].value for share in (50, 90, 100))
        assert 0 < half <= most <= every == 16  # attention and norms see all
    assert numbers["encoder_pixels_50"].count == 16


class Page(html.parser.HTMLParser):
    """Open tags, and what the page would load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.pictures = [], [], 0

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "path", "polyline"):
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "data", "action"):
                self.pictures += value.startswith("data:image/png;base64,")
                self.loaded += [] if value.startswith("data:image/png;base64,") else [value]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_small_and_needs_nothing_else(steered, tmp_path):
    paths = write_evaluation(tmp_path, steered[1])
    text = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.loaded == []
    assert page.pictures == len(PICTURES) == sum(path.suffix == ".png" for path in paths)
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert len(text) < 400_000
    assert "How often codes occur" in text
    for name in PICTURES:
        assert PICTURES[name].split(",")[0] in html.unescape(text)


def test_the_curve_of_the_codes_falls_and_leaves_out_those_that_never_occur():
    grids = np.array([[[5, 5], [5, 2]], [[2, 7], [5, 5]]])
    line = frequencies(grids, 16).lines["occurrences"]
    assert line == [(1.0, math.log10(5)), (2.0, math.log10(2)), (3.0, 0.0)]
    many = frequencies(np.arange(2000).reshape(1, 40, 50), 4096).lines["occurrences"]
    assert len(many) == 256
    assert (many[0], many[-1]) == ((1.0, 0.0), (2000.0, 0.0))


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
    assert page.count("data:image/png;base64,") == 6
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
        (("PRIOR", "--judge", "class=x"), 2, "there is a judge of `class`"),
        (("TOKENIZER", "--judge", "class"), 2, "there is a judge of `class`"),
        (("CLASSES", "--judge", "class=nowhere"), 5, "cannot be read"),
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
        "CLASSES": trained.classes,
        "config.yaml": trained.tokenizer / "config.yaml",
    }
    result = run("evaluate", *(known.get(word, word) for word in words), "--out", tmp_path / "out")
    assert result.code == code, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


def test_a_run_on_images_given_in_python_is_measured_on_those_that_are_named(run, trained, tmp_path):
    images = to_uint8(vqgan.read_images(sorted(trained.images.rglob("*.png")))).numpy()
    given = {"data": images[:16], "eval_data": images[16:], "device": "cpu", "out": tmp_path / "run"}
    vqgan.train(trained.tokenizer / "config.yaml", overrides=["training.steps=1"], **given)
    result = run("evaluate", tmp_path / "run", "--out", tmp_path / "out")
    assert result.code == 2
    assert "hint: give `--data SOURCE`, the images to measure" in result.err
    result = run("evaluate", tmp_path / "run", "--data", trained.images, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    numbers = json.loads((tmp_path / "out/evaluation.json").read_text())["numbers"]
    assert numbers["reconstruction"]["psnr"]["count"] == 20
    found = evaluate(tmp_path / "run", images[:7], device="cpu")
    assert found.numbers["reconstruction"]["psnr"].count == 7


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
