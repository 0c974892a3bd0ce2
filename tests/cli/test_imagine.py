"""``vqgan imagine``: pictures of what words say, with a tiny judge."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import networks
import vqgan
from launcher import locked_elsewhere
from vqgan.images import to_uint8
from vqgan.imagine import CutOutConfig, ImagineConfig, imagine, open_judge


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return networks.save_judge("SiglipModel", tmp_path_factory.mktemp("judge") / "siglip")


@pytest.fixture
def words(trained, judge, tmp_path):
    def call(*more, model=None, prompts="red", out="out"):
        few = ["--steps", 3, "--cuts", 2, "--every", 2, "--size", 16, "--device", "cpu"]
        given = ["imagine", model or trained.tokenizer, *([prompts] if prompts else [])]
        return [*given, "--judge", judge, "--out", tmp_path / out, *few, *more]

    return call


def pixels(path):
    return np.asarray(Image.open(path))


def test_pictures_are_those_of_python(words, run, trained, judge, tmp_path):
    result = run(*words("--count", 2, "--seed", 5, "--film", "webp"))
    assert result.code == 0, result.err
    assert [str(path.relative_to(tmp_path / "out")) for path in result.paths] == [
        *("000000.png", "000001.png"),
        *("000000-frames/growth.png", "000000-frames/growth.html", "000000-frames/film.webp"),
        *("000001-frames/growth.png", "000001-frames/growth.html", "000001-frames/film.webp"),
        "report.html",
    ]
    config = ImagineConfig(steps=3, cut_outs=CutOutConfig(count=2))
    model, seen = vqgan.load(trained.tokenizer, device="cpu"), []
    images = imagine(
        model, "red", open_judge(judge, "cpu"), size=16, count=2, config=config, seed=5,
        on_progress=lambda each: seen.append(to_uint8(each.imagining.images())),
    )  # fmt: skip
    for path, image in zip(result.paths, to_uint8(images), strict=False):
        np.testing.assert_array_equal(pixels(path), image.numpy())
    frames = sorted((tmp_path / "out/000001-frames").glob("frame-*"))
    assert [path.name for path in frames] == ["frame-0000.png", "frame-0001.png", "frame-0002.png"]
    np.testing.assert_array_equal(pixels(frames[1]), seen[1][1].numpy())
    with Image.open(tmp_path / "out/000000-frames/film.webp") as film:
        assert (film.n_frames, film.size) == (3, (16, 16))
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<td>red</td>" in page
    assert "Similarity" in page
    with Image.open(result.paths[1]) as picture:
        assert (picture.info["prompts"], picture.info["seed"]) == ("red", "6")
        assert (picture.info["size"], picture.info["steps"]) == ("16x16", "3")


def test_a_folder_of_pictures_is_drawn_one_after_the_other_as_a_film(words, run, trained, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((20, 16, 3), 80 * number, np.uint8)).save(folder / f"{number}.png")
    call = words("--start", folder, "--keep-start", 0.5, "--film", "gif")
    result = run(*call)
    assert result.code == 0, result.err
    assert run(*call, "--resume").paths == result.paths
    assert [path for path in result.paths if path.parent.name in "012" and path.suffix == ".png"] == [
        tmp_path / f"out/{number}/{number}.png" for number in range(3)
    ]
    assert result.paths[-1] == tmp_path / "out/film.gif"
    with Image.open(result.paths[-1]) as film:
        assert film.n_frames == 3


@pytest.mark.parametrize("start", ["noise", "gradient", "picture"])
def test_starts(words, run, trained, start, tmp_path):
    given = trained.images / "dark/0.png" if start == "picture" else start
    result = run(*words("--start", given, "--variables", "pixels", "--learning-rate", 1e-6))
    assert result.code == 0, result.err
    first = pixels(next((tmp_path / "out").rglob("frame-0000.png"))).astype(int)
    if start == "picture":
        np.testing.assert_array_equal(first, pixels(given))
    else:
        assert first.std() > 10
        rough = np.abs(np.diff(first, axis=0)).mean()
        assert (rough < 40) == (start == "gradient")


def test_samples_of_the_prior_are_drawn_on(words, run, trained, tmp_path):
    more = ["--start", "sample", "--class", "light", "--prior-weight", 0.1, "--seed", 2]
    result = run(*words(*more, model=trained.classes))
    assert result.code == 0, result.err
    model = vqgan.load(trained.classes, device="cpu")
    sample = model.sample(1, 16, {"class": "light"}, seed=2)
    codes = model.tokenizer.encode(sample.clamp(-1, 1))
    np.testing.assert_array_equal(
        pixels(tmp_path / "out/frames/frame-0000.png"), to_uint8(model.tokenizer.decode(codes)[0]).numpy()
    )
    rows = json.loads(next((tmp_path / "out/state").glob("step-*/state.json")).read_text())["rows"]
    assert all(np.isfinite(row["prior"]) for row in rows)


def test_pictures_as_prompts_stories_and_motion(words, run, trained, tmp_path):
    picture = trained.images / "light/0.png"
    more = [
        "--image-prompt",
        f"{picture}:0.5",
        "--steps-each",
        2,
        "--zoom",
        1.01,
        "--turn",
        1,
        "--shift",
        "1,0",
    ]
    result = run(*words(*more, "--augment", "noise=0", "--augment", "erased=0,0.2", prompts="a ^ b:2"))
    assert result.code == 0, result.err
    rows = json.loads(sorted((tmp_path / "out/state").glob("step-*/state.json"))[-1].read_text())["rows"]
    names = [{name for name in row if name.startswith("similarity")} for row in rows]
    assert names == [{f"similarity: {first}", f"similarity: {picture}"} for first in "aabb"]
    with Image.open(result.paths[0]) as written:
        assert (written.info["steps"], "steps_each" in written.info) == ("4", False)


def test_resuming_after_the_end_changes_nothing(words, run, tmp_path):
    assert run(*words("--film", "png")).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    assert len(before) == 6  # the picture, three frames, the animation and the film
    refused = run(*words())
    assert refused.code == 2
    assert "begun before" in refused.err
    assert "--resume" in refused.err
    again = run(*words("--resume", "--film", "png"))
    assert again.code == 0, again.err
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")} == before
    other = run(*words("--resume", "--learning-rate", 0.2))
    assert other.code == 2
    assert "`learning_rate` is 0.2, but the pictures in" in other.err
    assert run(*words("--overwrite", "--learning-rate", 0.2)).code == 0


@pytest.mark.parametrize(
    ("more", "prompts", "message"),
    [
        ([], "", "nothing says what"),
        ([], "red | ", "a prompt is empty"),
        (["--shift", "1"], "red", "`motion.shift` of the flags: expected a list of length 2"),
        (["--augment", "noise=much"], "red", "`--augment noise=` is `much`"),
        (["--augment", "colour=1"], "red", "unknown key `colour`"),
        (["--average", "1"], "red", "`average` is 1.0"),
        (["--optimizer", "sgd"], "red", "unknown word `sgd`"),
        (["--image-prompt", "missing.png"], "", "missing.png"),
        (["--start", "missing.png"], "red", "`missing.png` does not exist"),
        (["--start", "sample"], "red", "`--start sample` needs a prior"),
        (["--prior-weight", "1"], "red", "no prior"),
        (["--size", "18"], "red", "18"),
        (["--memory", "0.0001"], "red", "GB"),
        (["--size", "30000"], "red", "30000x30000 takes"),
        (["--size", "30000", "--variables", "pixels"], "red", "expected at most 64 megapixels"),
        (["--seed", "-1"], "red", "seed"),
        (["--seed", str(2**64), "--start", "noise"], "red", "expected 0 <= seed"),
        (["--shift", "nan,0"], "red", "`shift` is (nan, 0.0)"),
        (["--zoom", "1e300"], "red", "at most a millionfold"),
        (["--class", "light"], "red", "no prior judges or begins"),
        (["--judge", "."], "red", "cannot be used for judging by texts"),
        (["--film", "avi"], "red", "expected the ending .mp4"),
    ],
)
def test_mistakes_have_a_message_and_leave_nothing(words, run, more, prompts, message, tmp_path):
    result = run(*words(*more, prompts=prompts))
    assert result.code in (2, 3, 5), result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_pictures_is_looked_at_before_the_first_is_drawn(words, run, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, height in enumerate((16, 20, 18)):
        Image.new("RGB", (16, height)).save(folder / f"{number}.png")
    call = [word for word in words("--start", folder) if word not in ("--size", 16)]
    for more, message in (
        ([], "2.png` has 18x16 pixels, expected multiples of"),
        (["--film", "gif", "--variables", "pixels"], "1.png` has 20x16 pixels, expected those of the first"),
        (["--out", folder / "out"], "would be among the pictures"),
    ):
        result = run(*call, *more)
        assert result.code == 2, result.err
        assert message in result.err
        assert not (tmp_path / "out").exists()


def test_nothing_of_others_is_replaced(words, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/report.html").write_text("mine")
    assert "a file that vqgan did not write" in run(*words("--resume")).err
    (tmp_path / "out/config.yaml").write_text("preset: tiny")
    assert "is the folder of a training run" in run(*words("--overwrite")).err
    assert (tmp_path / "out/report.html").read_text() == "mine"


def test_a_folder_in_which_another_process_draws_is_refused(words, run, tmp_path):
    (tmp_path / "out").mkdir()
    with locked_elsewhere(tmp_path / "out" / ".lock"):
        result = run(*words())
    assert result.code == 2
    assert f"`{tmp_path / 'out'}` is in use: another process works there" in result.err


def test_mp4_needs_its_package(words, run, monkeypatch):
    from vqgan.images import film

    monkeypatch.setattr(film, "find_spec", lambda name: None)
    result = run(*words("--film", "mp4"))
    assert result.code == 2
    assert "pip install imageio-ffmpeg" in result.err


def test_a_killed_command_goes_on_to_the_same_pictures(words, run, tmp_path, monkeypatch):
    """A stop between two saves loses what came after the first of them, and no more."""
    from vqgan.imagine import Imagining

    whole = run(*words("--steps", 7))
    step = Imagining.step

    def stopped(self):
        if self.done == 5:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Imagining, "step", stopped)
    assert run(*words("--steps", 7, out="other")).code == 130
    monkeypatch.undo()
    again = run(*words("--steps", 7, "--resume", out="other"))
    assert again.code == 0, again.err
    for one, other in zip(whole.paths, again.paths, strict=True):
        assert one.read_bytes() == other.read_bytes(), one
    assert torch.is_grad_enabled()
