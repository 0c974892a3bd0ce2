"""Poses from the command line: trained on key points or drawings, asked for by either."""

import json

import numpy as np
import pytest
from PIL import Image

import vqgan
from vqgan import load
from vqgan.data.poses import PoseFile
from vqgan.data.transforms import fit_pose
from vqgan.images import KEY_POINTS, save_png, to_uint8

CATEGORIES = [{"id": 1, "name": "person", "keypoints": list(KEY_POINTS)}]


def image(number, name, size=16):
    return {"id": number, "file_name": name, "height": size, "width": size}


def person(draw, number):
    places = np.concatenate([draw.integers(0, 16, (17, 2)), np.full((17, 1), 2)], axis=1)
    return {"image_id": number, "category_id": 1, "keypoints": places.ravel().tolist()}


@pytest.fixture(scope="module")
def given(trained, tmp_path_factory):
    """Key points of all images; of one; and all of them drawn."""
    root, draw = tmp_path_factory.mktemp("poses"), np.random.default_rng(0)
    names = sorted(path.relative_to(trained.images).as_posix() for path in trained.images.rglob("*.png"))
    images = [image(number, name) for number, name in enumerate(names)]
    whole = {
        "images": images,
        "annotations": [person(draw, i) for i in range(len(names))],
        "categories": CATEGORIES,
    }
    one = {**whole, "images": [image(0, "one.jpg", 32)], "annotations": [person(draw, 0)]}
    for name, value in (("people", whole), ("one", one)):
        (root / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    file = PoseFile(str(root / "people.json"))
    for key in file.keys:
        path = root / "drawn" / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(fit_pose(file.read(key), (16, 16))[0], path)
    return root


def train(trained, run, pose, out, *more):
    base = ["train", "prior", trained.prior_file, "--data", trained.images, "--tokenizer", trained.tokenizer]
    return run(*base, "--condition", f"pose={pose}", *more, "--out", out, "--device", "cpu")


@pytest.fixture(scope="module")
def posed(trained, given, tmp_path_factory):
    """A prior of poses, from Python; its poses share the images' tokenizer."""
    return vqgan.train(
        trained.prior_file,
        data=trained.images,
        out=tmp_path_factory.mktemp("posed") / "run",
        tokenizer=trained.tokenizer,
        conditions={"pose": given / "people.json"},
        overrides=["data.flip=true", "task.condition_dropout=0.3"],
        device="cpu",
    )


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_key_points_and_their_drawings_train_the_same(trained, given, posed, tmp_path, run):
    flags = ["--set", "data.flip=true", "--set", "task.condition_dropout=0.3"]
    for name in ("people.json", "drawn"):
        result = train(trained, run, given / name, tmp_path / name, *flags)
        assert result.code == 0, result.err
        one, other = (load(folder, device="cpu").state_dict() for folder in (posed, tmp_path / name))
        assert all(one[key].equal(other[key]) for key in one)


def test_a_pose_has_a_tokenizer_of_its_own_that_was_trained_on_drawings(trained, given, tmp_path, run):
    words = ["--data", given / "drawn", "--out", tmp_path / "tokenizer", "--device", "cpu"]
    assert run("train", "tokenizer", trained.tokenizer_file, *words).code == 0
    own = ["--condition-tokenizer", f"pose={tmp_path / 'tokenizer'}"]
    result = train(trained, run, given / "people.json", tmp_path / "run", *own)
    assert result.code == 0, result.err
    found, expected = load(tmp_path / "run", device="cpu"), load(tmp_path / "tokenizer", device="cpu")
    state = found.conditioner.tokenizer.state_dict()
    assert all(state[name].equal(value) for name, value in expected.state_dict().items())


def test_key_points_are_drawn_for_the_images_and_a_drawing_is_taken_as_it_is(given, posed, tmp_path, run):
    pose, model = PoseFile(str(given / "one.json")).read("one"), load(posed, device="cpu")
    for side, size in ((16, []), (32, ["--size", "32x32"])):
        drawn = fit_pose(pose, (side, side))
        save_png(drawn[0], tmp_path / f"{side}.png")
        expected = to_uint8(model.sample(1, side, {"pose": drawn}, guidance=1000.0)[0]).numpy()
        for name, value in (("points", given / "one.json"), ("drawing", tmp_path / f"{side}.png")):
            flags = [
                *size,
                "--count",
                1,
                "--condition",
                f"pose={value}",
                "--guidance",
                1000,
                "--device",
                "cpu",
            ]
            result = run("sample", posed, *flags, "--out", tmp_path / f"{name}{side}")
            assert result.code == 0, result.err
            assert np.array_equal(pixels(tmp_path / f"{name}{side}" / "000000.png"), expected)
        other = to_uint8(model.sample(1, side, {"pose": drawn.flip(2)}, guidance=1000.0)[0]).numpy()
        assert not np.array_equal(other, expected)


def test_completion_follows_a_pose(trained, given, posed, tmp_path, run):
    picture = trained.images / "dark" / "0.png"
    flags = ["--keep", "top=0.5", "--condition", f"pose={given / 'one.json'}"]
    result = run("complete", posed, picture, *flags, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert np.array_equal(pixels(tmp_path / "out" / "0.png")[:8], pixels(picture)[:8])


def test_a_map_beside_key_points_tells_the_size(trained, given, tmp_path, run):
    more = ["--condition", f"image={given / 'drawn'}"]
    assert train(trained, run, given / "people.json", tmp_path / "run", *more).code == 0
    Image.new("RGB", (32, 32)).save(tmp_path / "map.png")
    flags = ["--condition", f"pose={given / 'one.json'}", "--condition", f"image={tmp_path / 'map.png'}"]
    result = run("sample", tmp_path / "run", "--count", 1, *flags, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert pixels(tmp_path / "out" / "000000.png").shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"annotations": [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
            "there is no 'keypoints'",
        ),
        ({"categories": [{"id": 1}]}, "no category has `keypoints`"),
        (
            {"annotations": [{"image_id": 0, "category_id": 1, "keypoints": [1, 2]}]},
            "has 2 numbers, expected 51",
        ),
        (
            {"categories": [{"id": 1, "keypoints": ["paw"]}]},
            "has the key points ['paw'], expected COCO's: nose",
        ),
        (
            {"annotations": [{"image_id": 0, "category_id": 1, "keypoints": [99, 0, 2] * 17}]},
            "lies far outside",
        ),
        ({"images": [image(0, "a.png"), image(1, "b.png")]}, "has 2 images, expected one"),
    ],
)
def test_files_that_cannot_be_used_are_refused(given, posed, tmp_path, run, change, message):
    value = json.loads((given / "one.json").read_text(encoding="utf-8"))
    file = tmp_path / "bad.json"
    file.write_text(json.dumps({**value, **change}), encoding="utf-8")
    result = run("sample", posed, "--condition", f"pose={file}", "--out", tmp_path / "out")
    assert (result.code, message in result.err) == (3, True), result.err
    assert "\nhint: " in result.err
    assert not (tmp_path / "out").exists()


def test_training_refuses_what_does_not_fit(trained, given, tmp_path, run):
    result = train(trained, run, given / "one.json", tmp_path / "run")
    assert (result.code, "20 of 20 images do not fit their conditions" in result.err) == (3, True)
    assert "has no `pose`" in result.err
    text = trained.tokenizer_file.read_text(encoding="utf-8").replace(
        "image_channels: 3", "image_channels: 1"
    )
    (tmp_path / "grey.yaml").write_text(text, encoding="utf-8")
    words = ["--data", trained.images, "--out", tmp_path / "grey", "--device", "cpu"]
    assert run("train", "tokenizer", tmp_path / "grey.yaml", *words).code == 0
    own = ["--condition-tokenizer", f"pose={tmp_path / 'grey'}"]
    result = train(trained, run, given / "drawn", tmp_path / "run", *own)
    assert (result.code, "the tokenizer of `pose` has 1 channels, expected 3" in result.err) == (2, True)
    assert not (tmp_path / "run").exists()
