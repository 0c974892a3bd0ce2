"""Every published family of conditional models, tiny and random but with its keys, classes and label set: from the
checkpoint in its folder to images, with the flags of our own models."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from vqgan.checkpoints.key_maps import PRIOR, TOKENIZER
from vqgan.checkpoints.original_config import translated
from vqgan.conditioning import Conditioner
from vqgan.config import read_yaml
from vqgan.synthesizer import Synthesizer

SEGMENTATION = {"sflckr": ("VQModel", 182), "coco": ("VQSegmentationModel", 183), "ade20k": ("VQModel", 151)}
STAGE = """
      target: taming.models.vqgan.{kind}
      params:
        ckpt_path: logs/2020/checkpoints/last.ckpt
        embed_dim: 8
        n_embed: {codes}
        image_key: {key}{labels}
        ddconfig: {{double_z: false, z_channels: 32, resolution: 8, in_channels: {channels}, out_ch: {channels}, ch: 32,
          ch_mult: [1, 1], num_res_blocks: 1, attn_resolutions: [4], dropout: 0.0}}
        lossconfig:
          target: taming.modules.losses.DummyLoss"""
SECOND = """\
model:
  base_learning_rate: 4.5e-06
  target: taming.models.cond_transformer.Net2NetTransformer
  params:
    cond_stage_key: {key}
    transformer_config:
      target: taming.modules.transformer.mingpt.GPT
      params: {{vocab_size: {codes}, block_size: {block}, n_layer: 1, n_head: 2, n_embd: 32, resid_pdrop: 0.1}}
    first_stage_config:{first}
    cond_stage_config:{condition}
data:
  target: main.DataModuleFromConfig
  params:
    batch_size: 2
    train:
      target: taming.data.{data}
      params: {params}
"""
BOXES = "{no_tokens: 1024, max_objects_per_image: 30, use_group_parameter: true, encode_crop: true, keys: [image]}"


def stage(*, codes, key, channels, kind="VQModel"):
    labels = f"\n        n_labels: {channels}" if kind == "VQSegmentationModel" else ""
    return STAGE.format(codes=codes, key=key, channels=channels, kind=kind, labels=labels)


def described(family):
    """The YAML file of a family; a window of 4 x 4 tokens of 2 x 2 pixels."""
    values = {
        "codes": 64,
        "block": 32,
        "key": "segmentation",
        "data": "faceshq.FacesHQTrain",
        "params": "{size: 8}",
    }
    if family in SEGMENTATION:
        kind, labels = SEGMENTATION[family]
        values["condition"] = stage(codes=32, key="segmentation", channels=labels, kind=kind)
    elif family == "drin":
        values |= {"key": "depth", "condition": stage(codes=64, key="depth", channels=1)}
    elif family == "faceshq":
        target = "\n      target: taming.modules.misc.coord.CoordStage\n      params: {n_embed: 64, down_factor: 2}"
        values |= {"key": "coord", "condition": target}
    else:
        key = "objects_center_points" if family == "centres" else "objects_bbox"
        target = "\n      target: taming.models.dummy_cond_stage.DummyCondStage"
        values |= {"key": key, "condition": f"{target}\n      params: {{conditional_key: {key}}}"}
        values |= {"codes": 1024, "data": "annotated_objects_coco.AnnotatedObjectsCoco", "params": BOXES}
        values["block"] = 16 + 3 * (2 if family == "centres" else 3) + 2
    values["first"] = stage(codes=values["codes"], key="image", channels=3)
    return SECOND.format(**values)


def write(folder, family):
    """The folder of a published model: random weights by the original's names, with the buffers that it stores."""
    (folder / "configs").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    path = folder / "configs" / "2020-11-09T13-31-51-project.yaml"
    path.write_text(described(family), encoding="utf-8")
    torch.manual_seed(0)
    model = Synthesizer(translated(read_yaml(path), {}, where="it"))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = renamed("first_stage_model.", TOKENIZER, model.tokenizer)
    if family in SEGMENTATION or family == "drin":
        state |= renamed("cond_stage_model.", TOKENIZER, model.conditioner.tokenizer)
        labels = SEGMENTATION.get(family, ("", 0))[1]
        state |= {"cond_stage_model.colorize": torch.randn(3, labels, 1, 1)} if labels else {}
    size = model.config.prior.context_length
    state |= renamed("transformer.", PRIOR, model.prior)
    state["transformer.blocks.0.attn.mask"] = torch.ones(size, size).tril().view(1, 1, size, size)
    torch.save({"epoch": 3, "global_step": 9, "state_dict": state}, folder / "checkpoints" / "last.ckpt")
    return folder


def renamed(prefix, names, part):
    ours = part.state_dict()
    return {prefix + theirs: ours[name] for name, theirs in names.published(ours).items()}


FAMILIES = (*SEGMENTATION, "drin", "faceshq", "coco_scene", "centres")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    draw = np.random.default_rng(0)
    for name, (height, width) in (("street", (8, 8)), ("wide", (12, 14)), ("odd", (9, 8))):
        labels = draw.integers(0, 151, (height // 2 or 1, width // 2)).repeat(2, 0).repeat(2, 1)
        labels = np.pad(labels, ((0, height - len(labels)), (0, 0)))
        Image.fromarray(labels.astype(np.uint8)).save(root / f"{name}.png")
        depth = draw.integers(300, 5000, (height, width)).astype(np.uint16)
        Image.fromarray(depth).save(root / f"{name}-depth.png")
    whole = {
        "images": [{"id": 9, "file_name": "9.jpg", "height": 480, "width": 640}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 7, "name": "train"}, {"id": 183, "name": "other"}],
        "annotations": [
            {"image_id": 9, "category_id": 18, "bbox": [0, 0, 200, 240]},
            {"image_id": 9, "category_id": 7, "bbox": [300, 100, 340, 380], "iscrowd": 1},
            {"image_id": 9, "category_id": 183, "bbox": [0, 0, 640, 480]},
        ],
    }
    (root / "boxes.json").write_text(json.dumps(whole), encoding="utf-8")
    Image.fromarray(draw.integers(0, 255, (12, 14, 3), np.uint8)).save(root / "photo.png")
    return {family: write(root / family, family) for family in FAMILIES} | {"root": root}


def flags(published, family, name="street"):
    """The condition of a family, from a file."""
    root = published["root"]
    if family in SEGMENTATION:
        return ["--condition", f"segmentation={root / name}.png"]
    if family == "drin":
        return ["--condition", f"depth={root / name}-depth.png"]
    return [] if family == "faceshq" else ["--condition", f"layout={root / 'boxes.json'}"]


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_sampled_from_its_folder(published, run, tmp_path, family):
    small, large, again = (tmp_path / name for name in ("small", "large", "again"))
    given = flags(published, family)
    assert run("sample", published[family], *given, "--count", 2, "--out", small).code == 0
    assert pixels(small / "000001.png").shape == (8, 8, 3)
    wide = [*flags(published, family, "wide"), "--size", "12x14", "--count", 1, "--top-k", 20]
    result = run("sample", published[family], *wide, "--out", large)
    assert result.code == 0, result.err
    assert pixels(large / "000000.png").shape == (12, 14, 3)
    checkpoint = published[family] / "checkpoints" / "last.ckpt"
    assert run("sample", checkpoint, *wide, "--batch-size", 1, "--out", again).code == 0
    assert np.array_equal(pixels(large / "000000.png"), pixels(again / "000000.png"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_completes_photographs(published, run, tmp_path, family):
    words = [published["root"] / "photo.png", *flags(published, family, "wide"), "--size", "12x14"]
    result = run("complete", published[family], *words, "--keep", "top=0.5", "--out", tmp_path)
    assert result.code == 0, result.err
    kept = pixels(published["root"] / "photo.png")[:5]
    assert np.array_equal(pixels(tmp_path / "photo.png")[:5], kept)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_published_model_takes_guidance(published, run, tmp_path, family):
    words = [*flags(published, family), "--guidance", 2, "--out", tmp_path / "out"]
    result = run("sample", published[family], *words)
    reason = "this prior cannot take `guidance`: it has not learned images without their condition"
    assert (result.code, reason in result.err) == (2, True), result.err


def tokens_of(published, family, monkeypatch, run, tmp_path, value):
    """The condition tokens that a command gives to the prior."""
    found = []
    asked = Conditioner.asked

    def noted(*args, **how):
        found.append(asked(*args, **how))
        return found[-1]

    monkeypatch.setattr(Conditioner, "asked", noted)
    words = ["--condition", value, "--count", 1, "--out", tmp_path / f"out{len(list(tmp_path.iterdir()))}"]
    result = run("sample", published[family], *words)
    assert result.code == 0, result.err
    return found[0][0].tolist()


def test_categories_of_coco_are_the_classes_that_the_original_finds(published, monkeypatch, run, tmp_path):
    """Ids sorted as texts: 18 is the 20th of 171 (1, 10, 100, ..., 11, 110, ...), 7 far behind; `other` is none."""
    boxes = published["root"] / "boxes.json"
    found = tokens_of(published, "coco_scene", monkeypatch, run, tmp_path, f"layout={boxes}")
    left_out = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
    order = sorted(str(number) for number in range(1, 183) if number not in left_out)
    dog, train = order.index("18"), order.index("7")
    assert len(order) == 171
    assert found[::3][:3] == [dog, train + 171, 1023]  # a group of trains, and an empty place
    assert found[-2:] == [0, 1023]
    places = {"objects": [{"class_number": dog, "box": [0, 0, 200 / 640, 0.5]}]}
    (tmp_path / "plain.json").write_text(json.dumps(places), encoding="utf-8")
    plain = tokens_of(
        published, "coco_scene", monkeypatch, run, tmp_path, f"layout={tmp_path / 'plain.json'}"
    )
    assert plain[:3] == found[:3]


@pytest.mark.parametrize(("family", "labels"), [(name, count) for name, (_, count) in SEGMENTATION.items()])
def test_labels_are_those_of_the_label_set(published, run, tmp_path, family, labels):
    for label, code in ((labels - 1, 0), (labels, 3), (255, 3)):
        Image.fromarray(np.full((8, 8), label, np.uint8)).save(tmp_path / "map.png")
        words = ["--condition", f"segmentation={tmp_path / 'map.png'}", "--count", 1]
        result = run("sample", published[family], *words, "--out", tmp_path / str(label))
        assert result.code == code, result.err
        assert code == 0 or f"it has the label {label}, expected 0 to {labels - 1}" in result.err
        assert ("need 1 added to each 8-bit value" in result.err) == ((label, labels) == (255, 183))


def test_depth_counts_from_the_nearest_to_the_farthest_of_each_map(published, monkeypatch, run, tmp_path):
    depth = np.arange(64, dtype=np.uint16).reshape(8, 8)
    tokens = []
    for name, values in (("metres", depth.astype(np.float32)), ("millimetres", depth * 1000 + 300)):
        np.save(tmp_path / f"{name}.npy", values)
        value = f"depth={tmp_path / name}.npy"
        tokens.append(tokens_of(published, "drin", monkeypatch, run, tmp_path, value))
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("family", [*SEGMENTATION, "drin"])
def test_a_map_of_cells_and_a_half_is_refused_with_sizes_that_go(published, run, tmp_path, family):
    result = run("sample", published[family], *flags(published, family, "odd"), "--out", tmp_path / "out")
    name = "depth" if family == "drin" else "segmentation"
    assert result.code == 2
    assert "has 9x8 pixels, and so would the images: expected multiples of 2" in result.err, result.err
    assert f"hint: cut the `{name}` and its photograph; the next sizes are 8x8 and 10x8" in result.err
