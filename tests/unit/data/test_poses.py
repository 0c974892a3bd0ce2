"""Poses beside the images: read, checked, cut out and mirrored with each sample."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from vqgan.data import FolderConfig, open_source
from vqgan.data.conditions import Maps, with_conditions
from vqgan.data.loader import evaluation_batches, training_batches
from vqgan.data.poses import PoseFile
from vqgan.data.transforms import TransformConfig, cut_map, draw_cut, fit_pose
from vqgan.errors import ConfigError, DataError
from vqgan.images import KEY_POINTS, draw_people, to_uint8

COUNT, HEIGHT, WIDTH = 4, 96, 128
KINDS = {"pose": Maps(3)}


def whole(order=KEY_POINTS, **changes):
    """Two people in the last image, one in the others but the first; each stands elsewhere."""
    draw, annotations = np.random.default_rng(0), []
    for number in (1, 2, 3, 3):
        places = {
            name: (*draw.integers(0, (WIDTH, HEIGHT)).tolist(), 1 + len(name) % 2) for name in KEY_POINTS
        }
        places["right_ear"] = (0, 0, 0)
        numbers = [value for name in order for value in places[name]]
        annotations.append({"image_id": number, "category_id": 1, "keypoints": numbers})
    annotations.append({"image_id": 0, "category_id": 18})
    images = [{"id": i, "file_name": f"a/{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(COUNT)]
    categories = [{"id": 1, "name": "person", "keypoints": list(order), "skeleton": []}, {"id": 18}]
    return {"images": images, "annotations": annotations, "categories": categories} | changes


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    """Images, their key points, and these drawn."""
    file = PoseFile(str(write(tmp_path / "people.json", whole())))
    for name in ("images/a", "drawn/a"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(COUNT):
        pixels = draw_people(file.read(f"a/{number}").people, (HEIGHT, WIDTH))
        Image.fromarray(pixels).save(tmp_path / "drawn" / "a" / f"{number}.png")
        Image.fromarray(pixels).save(tmp_path / "images" / "a" / f"{number}.png")
    return tmp_path


def opened(folder, name):
    source = open_source(FolderConfig(path=str(folder / "images")))
    return with_conditions(source, {"pose": str(folder / name)}, KINDS)


def test_people_are_read_by_name_and_whole_numbers_are_the_middle_of_pixels(folder):
    file = PoseFile(str(folder / "people.json"))
    assert [len(file.read(f"a/{number}").people) for number in range(COUNT)] == [0, 1, 1, 2]
    given = np.reshape(whole()["annotations"][0]["keypoints"], (17, 3))
    assert np.array_equal(file.read("a/1").people[0], given + (0.5, 0.5, 0))  # noqa: RUF005 (an array)
    assert file.read("a/1").size == (HEIGHT, WIDTH)
    other = PoseFile(str(write(folder / "other.json", whole(KEY_POINTS[::-1]))))
    assert np.array_equal(other.read("a/3").people, file.read("a/3").people)
    assert other.fingerprint == file.fingerprint
    changed = whole()
    changed["annotations"][0]["keypoints"][0] += 1
    assert PoseFile(str(write(folder / "changed.json", changed))).fingerprint != file.fingerprint


@pytest.mark.parametrize("context", [0, 8])
def test_key_points_are_cut_and_mirrored_with_their_images(folder, context):
    transform = TransformConfig(
        image_channels=3, image_size=(48, 64), flip=True, resize=None, context=context
    )
    for name in ("people.json", "drawn"):
        batches = training_batches(opened(folder, name), transform, batch_size=16, seed=3)
        batch = next(batches)
        batches.close()
        corners = [(0, 0)] * 16 if batch.corner is None else batch.corner.tolist()
        poses, exchanged = batch.condition["pose"], 0
        assert poses.shape == (16, 3, 48, 64)
        for image, pose, (top, left) in zip(batch.images, poses, corners, strict=True):
            part = image[:, top : top + 48, left : left + 64]
            is_mirrored = not torch.equal(part, pose)
            exchanged += is_mirrored
            torch.testing.assert_close(pose, part.flip(0) if is_mirrored else part)
        assert 0 < exchanged < 16


def test_key_points_are_resized_with_their_images(folder):
    transform = TransformConfig(image_channels=3, image_size=(160, 160), resize=200)
    (drawn,) = evaluation_batches(opened(folder, "drawn"), transform, COUNT)
    (points,) = evaluation_batches(opened(folder, "people.json"), transform, COUNT)
    assert torch.equal(drawn.condition["pose"], drawn.images)
    poses = points.condition["pose"]
    close, moved = ((each - drawn.images).square().mean() for each in (poses, poses.roll(2, dims=3)))
    assert close < 0.1 * (drawn.images + 1).square().mean()
    assert 3 * close < moved


@pytest.mark.parametrize("name", ["people.json", "drawn"])
def test_a_pose_that_is_mirrored_twice_is_itself(folder, name):
    value = opened(folder, name).read(3).condition["pose"]
    config = TransformConfig(image_channels=3, image_size=(HEIGHT, WIDTH), resize=None, flip=True)
    draws = [draw_cut((HEIGHT, WIDTH), config, np.random.default_rng(seed)) for seed in range(20)]
    mirror, plain = (next(cut for cut in draws if cut.flip == wanted) for wanted in (True, False))
    once, shown = (to_uint8(cut_map(value, config, cut, is_pose=True)).numpy() for cut in (mirror, plain))
    assert np.array_equal(once, shown[:, ::-1, ::-1])
    assert not np.array_equal(once, shown)
    again = value.mirrored() if name.endswith("json") else once
    assert np.array_equal(to_uint8(cut_map(again, config, mirror, is_pose=True)).numpy(), shown)


def test_a_pose_is_fitted_as_a_photograph_is(folder):
    pose = PoseFile(str(folder / "people.json")).read("a/3")
    fitted = fit_pose(pose, (48, 48))
    assert fitted.shape == (1, 3, 48, 48)
    expected = draw_people((pose.people - (16, 0, 0)) / (2, 2, 1), (48, 48))
    assert np.array_equal(to_uint8(fitted[0]).numpy(), expected)


def without(name, key=None):
    value = whole()
    parts = [value] if key is None else value[key]
    for part in parts:
        part.pop(name, None)
    return value


def with_keypoints(numbers):
    value = whole()
    value["annotations"][0]["keypoints"] = numbers
    return value


PEOPLE = [1, 1, 2] * 17


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (without("annotations"), "there is no 'annotations'"),
        (without("images"), "there is no 'images'"),
        (without("keypoints", "annotations"), "there is no 'keypoints'"),
        (without("keypoints", "categories"), "no category has `keypoints`"),
        (without("width", "images"), "there is no 'width'"),
        (with_keypoints(PEOPLE[:50]), "`keypoints` has 50 numbers, expected 51: 3 for each of 17"),
        (with_keypoints({}), "float"),
        (with_keypoints([*PEOPLE[:50], 0.7]), "a key point's third number is not 0, 1 or 2"),
        (with_keypoints([300, *PEOPLE[1:]]), "a key point at 300 lies far outside of 96x128 pixels"),
        (with_keypoints([float("nan"), *PEOPLE[1:]]), "a key point at nan lies far outside"),
        (with_keypoints([10**400, *PEOPLE[1:]]), "too large"),
        (
            whole(categories=[{"id": 1, "keypoints": ["paw"]}, {"id": 18}]),
            r"has the key points \['paw'\], expected COCO's: nose, ",
        ),
        (
            whole(categories=[{"id": 2, "keypoints": list(KEY_POINTS)}]),
            "`category_id` 1, which does not exist",
        ),
        (
            whole(annotations=[{"image_id": 9, "category_id": 1, "keypoints": PEOPLE}]),
            "`image_id` 9, which does not exist",
        ),
        (whole(images=[{"id": 0, "file_name": "a", "height": 0, "width": 9}]), "an image has no pixels"),
    ],
)
def test_files_without_proper_key_points_are_refused(tmp_path, value, message):
    with pytest.raises(DataError, match=message) as caught:
        PoseFile(str(write(tmp_path / "people.json", value)))
    assert str(caught.value).startswith(f"the poses `{tmp_path / 'people.json'}` cannot be used: ")
    assert "\nhint: it needs `images`, `annotations` and `categories` with `keypoints`" in str(caught.value)


def test_a_point_just_outside_is_drawn_as_far_as_the_picture_goes(tmp_path):
    file = PoseFile(str(write(tmp_path / "people.json", with_keypoints([-20, 20, 2, *PEOPLE[3:]]))))
    assert file.read("a/1").people[0, 0].tolist() == [-19.5, 20.5, 2]
    assert fit_pose(file.read("a/1"), (HEIGHT, WIDTH)).max() == 1


def test_images_that_the_file_does_not_know_or_with_another_size_are_counted_and_named(folder):
    value = whole()
    value["images"][3]["height"] = 90
    value["images"][0]["file_name"] = "b/0.jpg"
    write(folder / "people.json", value)
    with pytest.raises(DataError) as caught:
        opened(folder, "people.json")
    images = folder / "images" / "a"
    assert str(caught.value).splitlines()[:3] == [
        "2 of 4 images do not fit their conditions:",
        f"  `{images / '0.png'}` has no `pose`",
        f"  `{images / '3.png'}` does not fit its `pose`: it is for 90x128 pixels, the image has 96x128",
    ]


def test_a_copy_in_another_process_has_the_same_people(folder):
    source = pickle.loads(pickle.dumps(opened(folder, "people.json")))
    assert source.read(3).condition["pose"].people.shape == (2, 17, 3)


def test_a_tokenizer_of_poses_reads_colours():
    assert Maps.of("pose", 3) == Maps(3)
    with pytest.raises(ConfigError, match="the tokenizer of `pose` has 1 channels, expected 3"):
        Maps.of("pose", 1)
