"""What every condition beside an image promises: the mirrored sample of mirrored files is the sample of the files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from vqgan.conditioning import SceneLayout, SceneLayoutConfig
from vqgan.data.conditions import Layouts, Maps, open_reader
from vqgan.data.transforms import TransformConfig, cut_layout, cut_map, draw_cut
from vqgan.images import KEY_POINTS
from vqgan.layout import Layout

HEIGHT, WIDTH = 64, 80
CONFIG = TransformConfig(image_channels=3, image_size=(HEIGHT, WIDTH), resize=None, flip=True)
DRAW = np.random.default_rng(0)
LABELS = DRAW.integers(0, 5, (HEIGHT, WIDTH), np.uint8)
COLOURS = DRAW.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
PLACES = {name: DRAW.integers(0, (WIDTH, HEIGHT)).tolist() for name in KEY_POINTS}
IMAGES = [{"id": 0, "file_name": "0.png", "height": HEIGHT, "width": WIDTH}]


def picture(pixels):
    return lambda path: (path.mkdir(), Image.fromarray(pixels).save(path / "0.png"))


def text(annotation, category):
    annotation, category = {"image_id": 0, "category_id": 1, **annotation}, {"id": 1, **category}
    whole = {"images": IMAGES, "annotations": [annotation], "categories": [category]}
    return lambda path: path.write_text(json.dumps(whole), encoding="utf-8")


def people(places):
    return text({"keypoints": [number for x, y in places for number in (x, y, 2)]}, {"keypoints": KEY_POINTS})


def other(name):
    """The key point of the other side."""
    return name.replace("left", "x").replace("right", "left").replace("x", "right")


FILES = {
    "segmentation": (Maps(5, 5), picture(LABELS), picture(LABELS[:, ::-1])),
    "depth": (Maps(1, stretch=True), picture(LABELS), picture(LABELS[:, ::-1])),
    "image": (Maps(3), picture(COLOURS), picture(COLOURS[:, ::-1])),
    "pose": (Maps(3), picture(COLOURS), picture(np.ascontiguousarray(COLOURS[:, ::-1, ::-1]))),
    "pose.json": (
        Maps(3),
        people([PLACES[name] for name in KEY_POINTS]),
        people([(WIDTH - 1 - PLACES[other(name)][0], PLACES[other(name)][1]) for name in KEY_POINTS]),
    ),
    "layout.json": (Layouts(1, 1), text({"bbox": [0, 16, 20, 8]}, {}), text({"bbox": [60, 16, 20, 8]}, {})),
}


def sample(value, cut, name):
    if not isinstance(value, Layout):
        return cut_map(value, CONFIG, cut, is_pose=name == "pose")
    sizes = {"num_classes": 1, "max_objects": 1, "vocabulary_size": 1024}
    config = SceneLayoutConfig(**sizes, encode_crop=True, use_group=False, use_additional=False)
    return torch.tensor(SceneLayout(config).to_tokens(cut_layout(value, CONFIG, cut, None)))


@pytest.mark.parametrize("name", FILES)
def test_mirrored_twice_it_is_itself(name, tmp_path):
    kind, write, write_mirrored = FILES[name]
    draws = [draw_cut((HEIGHT, WIDTH), CONFIG, np.random.default_rng(seed)) for seed in range(20)]
    plain, mirror = (next(cut for cut in draws if cut.flip == flip) for flip in (False, True))
    word, values = name.partition(".")[0], []
    for folder, writer in (("as it is", write), ("mirrored", write_mirrored)):
        (tmp_path / folder).mkdir()
        writer(tmp_path / folder / name)
        values.append(open_reader(word, str(tmp_path / folder / name), kind, None).read("0"))
    expected = sample(values[0], plain, word)
    assert torch.equal(sample(values[1], mirror, word), expected)
    assert torch.equal(sample(values[1], plain, word), sample(values[0], mirror, word))
    assert not torch.equal(sample(values[1], plain, word), expected)
