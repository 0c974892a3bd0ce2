"""Conditions of photographs, by tiny random networks and by our own conditioners."""

import importlib.util
import json
import sys

import pytest
import torch

import networks
import vqgan
from vqgan.conditioning import Edges, EdgesConfig
from vqgan.errors import CheckpointError, ConfigError
from vqgan.extraction import networks as reading
from vqgan.extraction import open_extractor
from vqgan.images import canny, read_map, to_uint8

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="transformers is not installed: pip install vqgan[extract]",
)


def photographs(count=1, height=50, width=70):
    """Coarse colours, enlarged."""
    coarse = torch.rand(count, 3, 5, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """``saved("segformer")``: the folder of a network."""
    root = tmp_path_factory.mktemp("networks")
    return lambda name: root / name if (root / name).exists() else networks.save(name, root / name)


def by_transformers(folder, kind, images):
    """What the package itself makes of pictures; its class, and its own resizing of the result."""
    package = pytest.importorskip("transformers")
    processor = package.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = getattr(package, kind).from_pretrained(folder).eval()
    given = processor(
        images=[*to_uint8(images).numpy()], input_data_format="channels_last", return_tensors="pt"
    )
    with torch.no_grad():
        return processor, model(pixel_values=given["pixel_values"])


@needs_transformers
@pytest.mark.parametrize("name", networks.NAMES)
def test_labels_are_those_of_transformers_shifted_to_the_set(saved, name):
    images, folder = photographs(2), saved(name)
    found = vqgan.extract("segmentation", images, model=folder, labels="ade20k", device="cpu")
    universal = name == "maskformer"
    kind = "AutoModelForUniversalSegmentation" if universal else "AutoModelForSemanticSegmentation"
    processor, result = by_transformers(folder, kind, images)
    sizes = [(50, 70)] * 2
    expected = torch.stack(processor.post_process_semantic_segmentation(result, target_sizes=sizes))
    assert found.shape == (2, 50, 70)
    assert found.dtype == torch.int64
    assert len(found.unique()) > 1
    assert (found == expected + 1).float().mean() > 0.999  # rounding decides where two are equally likely


@needs_transformers
@pytest.mark.parametrize("name", ["dpt", "depth_anything"])
def test_depth_is_that_of_transformers_in_the_range_of_each_picture(saved, name):
    images, folder = photographs(2), saved(name)
    found = vqgan.extract("depth", images, model=folder, device="cpu")
    processor, result = by_transformers(folder, "AutoModelForDepthEstimation", images)
    given = processor.post_process_depth_estimation(result, target_sizes=[(50, 70)] * 2)
    expected = torch.stack([each["predicted_depth"] for each in given])[:, None]
    low, high = (getattr(expected, bound)(dim=(1, 2, 3), keepdim=True) for bound in ("amin", "amax"))
    assert (high > low).all()
    torch.testing.assert_close(found, 2 * (expected - low) / (high - low) - 1, atol=1e-4, rtol=0)


@needs_transformers
def test_distances_are_inverted_so_that_the_nearest_is_1(saved):
    images, folder = photographs(), saved("glpn")
    found = vqgan.extract("depth", images, model=folder, device="cpu")
    _, result = by_transformers(folder, "AutoModelForDepthEstimation", images)
    distances = torch.nn.functional.interpolate(
        result.predicted_depth[:, None], size=(50, 70), mode="nearest"
    )
    ranks = torch.stack([found.flatten(), distances.flatten()])
    assert torch.corrcoef(ranks)[0, 1] < -0.5


@needs_transformers
def test_depth_of_metric_depth_anything_is_inverted_too(saved, tmp_path):
    folder = saved("depth_anything")
    relative = vqgan.extract("depth", photographs(), model=folder, device="cpu")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "depth_estimation_type": "metric"}))
    metric = vqgan.extract("depth", photographs(), model=tmp_path, device="cpu")
    assert torch.corrcoef(torch.stack([relative.flatten(), metric.flatten()]))[0, 1] < 0


@needs_transformers
def test_few_labels_at_a_time_give_the_same(saved, monkeypatch):
    settings = {"model": saved("segformer"), "labels": "own", "device": "cpu"}
    whole = vqgan.extract("segmentation", photographs(), **settings)
    monkeypatch.setattr(reading, "ENLARGED", 1)
    assert torch.equal(vqgan.extract("segmentation", photographs(), **settings), whole)
    assert int(whole.max()) < len(networks.LABELS)


@needs_transformers
def test_maps_are_read_as_they_were_found(saved, tmp_path):
    depth = open_extractor("depth", saved("dpt"), device="cpu")
    value = depth(photographs())
    read = read_map(depth.save(value, tmp_path / "depth.png"), 1, stretch=True)
    assert abs(torch.from_numpy(read).movedim(-1, 0)[None] - value).max() < 1e-4
    labels = open_extractor("segmentation", saved("segformer"), "ade20k", "cpu")
    value = labels(photographs())
    assert (read_map(labels.save(value, tmp_path / "labels.png"), 1, 151) == value[0].numpy()).all()


@needs_transformers
def test_a_network_for_something_else_is_refused(saved):
    with pytest.raises(CheckpointError, match="for `depth`: it is a SegformerForSemanticSegmentation"):
        vqgan.extract("depth", photographs(), model=saved("segformer"), device="cpu")


@needs_transformers
def test_labels_of_another_set_are_refused_before_pictures_are_read(saved):
    with pytest.raises(
        ConfigError, match="4 labels are not in `coco-stuff`: `wall`, `building`, `sky`, `floor`"
    ):
        open_extractor("segmentation", saved("segformer"), device="cpu")


@needs_transformers
def test_a_folder_without_a_model_says_what_belongs_into_it(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be used for `depth`") as caught:
        vqgan.extract("depth", photographs(), model=tmp_path, device="cpu")
    assert "config.json, preprocessor_config.json, model.safetensors" in caught.value.hint


@needs_transformers
def test_without_a_network_the_default_model_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        CheckpointError, match="`depth-anything/Depth-Anything-V2-Small-hf` cannot be used for `depth`"
    ):
        vqgan.extract("depth", photographs(), device="cpu")


@needs_transformers
def test_pickled_weights_are_not_opened(saved, tmp_path):
    for file in saved("segformer").glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        vqgan.extract("segmentation", photographs(), model=tmp_path, labels="ade20k", device="cpu")


@needs_transformers
def test_code_beside_the_weights_is_not_run(saved, tmp_path):
    for file in saved("segformer").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(CheckpointError, match="cannot be used for `segmentation`"):
        vqgan.extract("segmentation", photographs(), model=tmp_path, labels="ade20k", device="cpu")
    assert not (tmp_path / "ran").exists()


@needs_transformers
def test_damaged_weights_are_a_message(saved, tmp_path):
    for file in saved("segformer").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:900])
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((saved("segformer") / name).read_bytes())
    with pytest.raises(CheckpointError, match="cannot be used for `segmentation`"):
        vqgan.extract("segmentation", photographs(), model=tmp_path, labels="ade20k", device="cpu")


@needs_transformers
def test_a_picture_that_a_network_cannot_take_is_a_message(saved, tmp_path):
    for file in saved("dpt").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    settings["size"] = {"height": 32, "width": 48}  # the network has places for a square
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="cannot be used on a picture alone: "):
        vqgan.extract("depth", photographs(), model=tmp_path, device="cpu")


@pytest.mark.parametrize("kind", ["depth", "segmentation", "pose"])
def test_a_missing_package_is_named_with_its_extra(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=f"`{kind}` needs transformers, which is not installed") as caught:
        vqgan.extract(kind, photographs())
    assert 'pip install "vqgan[extract]"' in caught.value.hint


def test_edges_are_those_that_steer_a_prior(tmp_path):
    images, edges = photographs(2, 32, 48), open_extractor("edges")
    found = edges(images)
    assert torch.equal(found, canny(images))
    assert found.any()
    again = vqgan.read_images(edges.save(found[:1], tmp_path / "edges.png"))
    part, grid = Edges(EdgesConfig()), (4, 6)
    tokens = [part.tokens({"edges": value}, 1, grid) for value in (again[:, 0] > 0, images[:1])]
    assert torch.equal(*tokens)


def test_a_small_copy_has_a_quarter_of_the_rows_and_columns(tmp_path):
    images = photographs(1, 32, 48)
    copy = vqgan.extract("low_resolution", images)
    torch.testing.assert_close(copy, torch.nn.functional.avg_pool2d(images, 4))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("poses", {}, "unknown condition `poses`"),
        ("edges", {"labels": "ade20k"}, "`edges` has no `labels=`"),
        ("depth", {"detector": "folder"}, "`depth` has no `detector=`"),
        ("segmentation", {"labels": "own"}, "`labels=` is `own`, but there is no model"),
        ("segmentation", {"labels": "voc"}, "unknown labels `voc`"),
        ("palette", {}, "`palette` is that of a run"),
    ],
)
def test_what_does_not_fit_is_refused(kind, settings, message):
    with pytest.raises(ConfigError, match=message):
        vqgan.extract(kind, photographs(), **settings)


def test_pictures_of_other_channels_are_refused():
    with pytest.raises(ConfigError, match="the images have 1 channels, expected 3"):
        vqgan.extract("edges", photographs()[:, :1])
