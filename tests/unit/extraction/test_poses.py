"""People in photographs, by tiny random networks: as transformers finds them, with less around it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import networks
import vqgan
from vqgan.errors import CheckpointError
from vqgan.extraction import poses
from vqgan.extraction.poses import open_finder
from vqgan.images import KEY_POINTS, draw_people, to_float, to_uint8

pytest.importorskip("transformers", reason="transformers is not installed: pip install vqgan[extract]")
CPU = torch.device("cpu")


def photograph(height=50, width=70):
    """Coarse colours, enlarged, of 256 steps as in a file."""
    coarse = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(2)) * 2 - 1
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return to_float(to_uint8(image)[0].numpy())[None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """``saved("vitpose")``: the folder of a network."""
    root = tmp_path_factory.mktemp("networks")
    return lambda name: str(root / name if (root / name).exists() else networks.save(name, root / name))


@torch.no_grad()
def by_transformers(folder, detector, image):
    """Key points (n 17 2) and their scores (n 17), all by the package's own steps."""
    import transformers

    pytest.importorskip("scipy")
    pixels, opened = to_uint8(image)[0].numpy(), transformers.AutoImageProcessor.from_pretrained
    given = {"images": pixels, "input_data_format": "channels_last", "return_tensors": "pt"}
    processor, model = opened(detector, backend="pil"), transformers.AutoModelForObjectDetection
    result = model.from_pretrained(detector).eval()(pixel_values=processor(**given)["pixel_values"])
    [found] = processor.post_process_object_detection(result, threshold=0.3, target_sizes=[pixels.shape[:2]])
    boxes = found["boxes"][found["labels"] == networks.THINGS.index("person")].numpy()
    boxes = [np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)]  # left, top, width, height
    processor, model = opened(folder, backend="pil"), transformers.VitPoseForPoseEstimation
    experts = {"dataset_index": torch.zeros(len(boxes[0]), dtype=torch.int64)}
    result = model.from_pretrained(folder).eval()(**processor(boxes=boxes, **given), **experts)
    [people] = processor.post_process_pose_estimation(result, boxes)
    return tuple(torch.stack([each[name] for each in people]).numpy() for name in ("keypoints", "scores"))


@pytest.mark.parametrize(("network", "detector"), [("vitpose", "rt_detr"), ("vitpose_plus", "yolos")])
def test_key_points_are_those_of_transformers_by_their_names(saved, network, detector, monkeypatch):
    image = photograph()
    places, scores = by_transformers(saved(network), saved(detector), image)
    order = [networks.POINTS.index(short(name)) for name in KEY_POINTS]
    places, scores = places[:, order] + 0.5, scores[:, order]  # a whole number is the middle of a pixel
    inside = ((places >= 0) & (places <= (70, 50))).all(axis=2)
    module = sys.modules["transformers.models.vitpose.image_processing_pil_vitpose"]
    for name in ("affine_transform", "gaussian_filter"):
        monkeypatch.delattr(module, name)  # as if there were no SciPy
    found = open_finder(saved(network), saved(detector), CPU)(image)
    seen = found.people[:, :, 2] == 2
    kept = ((scores > 0.3) & inside).any(axis=1)
    assert found.size == (50, 70)
    assert 10 < seen.sum() < seen.size
    assert np.array_equal(seen, ((scores > 0.3) & inside)[kept])
    assert abs(found.people[:, :, :2] - places[kept])[seen].max() < 1e-3
    assert (found.people[~seen] == (0.5, 0.5, 0)).all()


def short(name):
    return name.replace("left_", "L_").replace("right_", "R_").title()


def test_a_pose_is_the_drawing_of_the_people(saved):
    image = photograph()
    found = open_finder(saved("vitpose"), saved("rt_detr"), CPU)(image)
    settings = {"model": saved("vitpose"), "detector": saved("rt_detr"), "device": "cpu"}
    drawn = vqgan.extract("pose", torch.cat([image, image]), **settings)
    expected = to_float(draw_people(found.people, (50, 70)))
    assert torch.equal(drawn, torch.stack([expected, expected]))
    assert drawn.max() > 0


def test_nobody_is_a_black_drawing(saved, monkeypatch):
    monkeypatch.setattr(poses, "LIKELY", 2.0)
    settings = {"model": saved("vitpose"), "detector": saved("rt_detr"), "device": "cpu"}
    assert torch.equal(vqgan.extract("pose", photograph(), **settings), torch.full((1, 3, 50, 70), -1.0))


def test_networks_for_something_else_are_refused(saved):
    with pytest.raises(CheckpointError, match="for `pose`: it is a RTDetrForObjectDetection"):
        open_finder(saved("rt_detr"), saved("rt_detr"), CPU)
    with pytest.raises(CheckpointError, match="for `detector`: it is a VitPoseForPoseEstimation"):
        open_finder(saved("vitpose"), saved("vitpose"), CPU)


@pytest.mark.parametrize(
    ("name", "task", "label"), [("vitpose", "pose", "Nose"), ("rt_detr", "detector", "person")]
)
def test_networks_that_do_not_know_people_are_refused(saved, tmp_path, name, task, label):
    for file in Path(saved(name)).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace(f'"{label}"', '"paw"'))
    chosen = {"vitpose": saved("vitpose"), "rt_detr": saved("rt_detr"), name: str(tmp_path)}
    with pytest.raises(CheckpointError, match=f"for `{task}`: it has no label `{label.casefold()}`"):
        open_finder(chosen["vitpose"], chosen["rt_detr"], CPU)
